"""Published data: a recording (EEGLAB's tutorial, 80 visual targets), DeepSIF's lead field."""

from __future__ import annotations

import re
from pathlib import Path

import mne
import numpy as np
import pytest
from scipy.io import savemat
from test_workflow import _tiny

from experiments import known_sources
from nmm_infer.anatomy.deepsif import read_deepsif
from nmm_infer.errors import InputError
from nmm_infer.observation import read_recording
from nmm_infer.workflow import infer


@pytest.fixture(scope="module")
def recording(data_folder: Path) -> mne.io.BaseRaw:
    path = data_folder / "eeglab_visual" / "eeglab_data.set"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    return read_recording(path)


def test_a_visual_response_is_occipital(recording: mne.io.BaseRaw) -> None:
    result = infer(recording, _tiny(), events="square", progress=False)
    notes = " ".join(result.observation.notes)
    assert re.search(r"Left out EOG1, EOG2: ", notes)
    assert not {"EOG1", "EOG2"} & set(result.observation.head.channels)
    assert len(result.observation.head.channels) == 30
    assert result.observation.n_averages > 50
    assert re.match("lateraloccipital|pericalcarine|cuneus|lingual|fusiform", result.region)


def test_deepsif_lead_field_and_visual_response(data_folder: Path) -> None:
    """Geometry and indexing of a published matrix: a visual response begins in occipital cortex."""
    folder = data_folder / "deepsif"
    if not (folder / "anatomy").exists():
        pytest.skip(f"{folder} is not there")
    head = read_deepsif(folder / "anatomy")
    assert head.leadfield.shape == (75, 994)
    assert len(set(head.regions)) == 994
    wall = [name for name in head.regions if name.startswith("medialwall")]
    assert 28 <= len(wall) <= 45
    # Left sources have left names, and neighbours are near.
    left = np.array([name.endswith("lh") for name in head.regions])
    assert (head.sources.positions[left, 0] < 0.005).all()
    assert np.median(head.sources.graph.data) < 15
    found = known_sources.visual(head, folder / "vep" / "data1.mat")
    assert 130 <= found["sample"] < 160
    for method in ("sLORETA", "eLORETA", "MNE"):
        assert found["regions"][method]["occipital"], found


def test_peaks_of_patches_on_the_deepsif_lead_field(data_folder: Path) -> None:
    folder = data_folder / "deepsif" / "anatomy"
    if not folder.exists():
        pytest.skip(f"{folder} is not there")
    found = known_sources.patches(read_deepsif(folder), 25, seed=3)
    shares = [level["sLORETA"]["inside"]["share"] for level in found["levels"].values()]
    assert np.mean(shares) > 0.7  # 100 windows; of 1,600 in experiments/results
    assert np.mean([level["dSPM"]["inside"]["share"] for level in found["levels"].values()]) < 0.6


def test_files_that_are_not_deepsifs(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_deepsif(tmp_path)
    (tmp_path / "leadfield_75_20k.mat").write_text("nothing")
    with pytest.raises(InputError, match="not a MATLAB file"):
        read_deepsif(tmp_path)


_N = 20484
_RM = np.arange(_N) % 994
_CORTEX = {
    "pos": np.linspace(-80.0, 80.0, 3 * _N).reshape(-1, 3),
    "ori": np.ones((_N, 3)),
    "tri": np.array([[1, 2, 3]]),
}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"ori": None}, "fs_cortex_20k.mat: holds no variable 'ori'"),
        ({"tri": None}, "holds no variable 'tri'"),
        ({"nbs": None}, "holds no variable 'nbs'"),
        ({"rm": np.where(_RM == 5, 6, _RM)}, "do not fit each other"),
        ({"rm": _RM - 1}, "do not fit each other"),
        ({"pos": _CORTEX["pos"][:, :2]}, "has 20484 vertices"),
        ({"pos": _CORTEX["pos"] / 1000.0}, "not in mm"),
        ({"fwd": np.ones((75, 994, 2))}, "do not fit each other"),
        ({"fwd": "text"}, "do not fit each other"),
        ({"eloc75": np.ones((75, 3))}, "no labels and places"),
    ],
)  # fmt: skip
def test_damaged_files_of_deepsif(tmp_path: Path, change: dict[str, object], why: str) -> None:
    files = {
        "leadfield_75_20k.mat": {"fwd": np.ones((75, 994))},
        "electrode_75.mat": {"eloc75": np.ones((75, 3))},
        "fs_cortex_20k.mat": _CORTEX,
        "fs_cortex_20k_region_mapping.mat": {"rm": _RM, "nbs": np.ones((994, 1))},
    }
    for name, content in files.items():
        content = {key: change.get(key, value) for key, value in content.items()}
        savemat(tmp_path / name, {k: v for k, v in content.items() if v is not None})
    with pytest.raises(InputError, match=why):
        read_deepsif(tmp_path)
