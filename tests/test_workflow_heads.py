"""The main job on other heads than the template's cortex: MEG, and cortex with deep regions."""

from __future__ import annotations

from pathlib import Path

import mne
import numpy as np
import pytest
import xarray as xr
from conftest import CHANNELS
from filelock import FileLock
from test_workflow import _tiny

from nmm_infer import _random
from nmm_infer.anatomy import Head, desikan_killiany_connectome, template_head
from nmm_infer.report import write_results
from nmm_infer.workflow import infer

pytestmark = pytest.mark.slow


def _events(info: mne.Info, head: Head, region: str, scale: float, noise: float) -> mne.io.RawArray:
    """Sixty responses of one region in white noise, one a second."""
    rng = _random.generator(0, "workflow/heads")
    times = np.arange(int(63 * info["sfreq"])) / info["sfreq"]
    wave = sum(np.exp(-0.5 * ((times - k - 0.12) / 0.02) ** 2) for k in range(1, 61))
    moments = xr.DataArray(
        scale * np.asarray(wave)[None], dims=("region", "time"), coords={"region": [region]}
    )
    data = head.project(moments).values
    raw = mne.io.RawArray(data + noise * rng.standard_normal(data.shape), info, verbose="error")
    raw.set_annotations(mne.Annotations(np.arange(1.0, 61.0), 0.0, "go"))
    return raw


def test_meg(meg: tuple[mne.Info, Head], tmp_path: Path) -> None:
    info, head = meg
    raw = _events(info, head, "lateraloccipital-rh", 30.0, 1e-13)
    result = infer(raw, _tiny(), events="go", progress=False)
    assert result.observation.data.attrs["units"] == "T"
    assert result.region.endswith("-rh")
    write_results(result, tmp_path / "out")
    text = (tmp_path / "out" / "report.html").read_text()
    assert "38 MEG channels" in text and "fT" in text and "average of all EEG" not in text


def test_deep_regions_with_a_connectome_of_ones_own(lock: FileLock, tmp_path: Path) -> None:
    info = mne.create_info(list(CHANNELS), 200.0, "eeg", verbose="error")
    info.set_montage("fsaverage_1005", verbose="error")
    with lock:
        head = template_head(info, "cortex+subcortex")
    known = desikan_killiany_connectome()
    regions = head.regions
    n = len(regions)
    weights = np.full((n, n), 0.01)
    weights[:68, :68] = known["weights"].sel(target=regions[:68], source=regions[:68])
    np.fill_diagonal(weights, 0.0)
    places = 1e3 * head.region_positions.values
    lengths = np.linalg.norm(places[:, None] - places, axis=-1)
    dims = ("target", "source")
    path = tmp_path / "deep.nc"
    xr.Dataset(
        {"weights": (dims, weights), "tract_lengths": (dims, lengths)},
        coords={"target": regions, "source": regions},
    ).to_netcdf(path)
    study = _tiny(connectome={"source": str(path)})
    raw = _events(info, head, "lateraloccipital-rh", 30.0, 5e-6)
    result = infer(raw, study, events="go", head=head, progress=False)
    assert result.sources.sizes["region"] == n
    assert result.region.startswith(("lateraloccipital", "pericalcarine", "lingual", "cuneus"))
    write_results(result, tmp_path / "out")
    assert {p.name for p in (tmp_path / "out").iterdir()} >= {"report.html", "posterior.nc"}
