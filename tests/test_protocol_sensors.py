"""The protocol's sensors: MEG, bad channels, references, line noise, directions of volumes."""

from __future__ import annotations

import mne
import numpy as np
import pytest
import xarray as xr
from conftest import CHANNELS
from filelock import FileLock

from nmm_infer.anatomy import Head, HeadSettings, template_head
from nmm_infer.anatomy.sensors import reference
from nmm_infer.campaign import Campaign
from nmm_infer.errors import InputError
from nmm_infer.observation import (
    EvokedProtocol,
    Noise,
    Observer,
    SpontaneousProtocol,
    noise_from_level,
    observe,
)
from nmm_infer.observation.conditioning import time_operator
from nmm_infer.observation.noise import Blinks, LineNoise
from nmm_infer.study import Study
from nmm_infer.virtual import simulate_raw

SFREQ = 200.0
REGION = "precuneus-lh"


def _responses(info: mne.Info, head: Head, noise: float, seed: int = 0) -> mne.io.RawArray:
    """Forty responses of one region, one a second, in white noise."""
    rng = np.random.default_rng(seed)
    times = np.arange(int(42 * SFREQ)) / SFREQ
    wave = sum(np.exp(-0.5 * ((times - k - 0.15) / 0.02) ** 2) for k in range(1, 41))
    moment = xr.DataArray(
        30.0 * np.asarray(wave)[None], dims=("region", "time"), coords={"region": [REGION]}
    )
    data = head.project(moment).values
    data = data + noise * rng.standard_normal(data.shape)
    raw = mne.io.RawArray(data, info.copy(), verbose="error")
    raw.set_annotations(mne.Annotations(np.arange(1.0, 41.0), 0.0, "beat"))
    return raw


@pytest.fixture(scope="module")
def eeg_info() -> mne.Info:
    info = mne.create_info(list(CHANNELS), SFREQ, "eeg", verbose="error")
    return info.set_montage("fsaverage_1005", verbose="error")


def test_interpolated_data_and_lead_field_agree(eeg_info: mne.Info, head: Head) -> None:
    """MNE mends and references the recording, the operator the lead field: one topography."""
    raw = _responses(eeg_info, head, 0.0)
    raw._data[CHANNELS.index("Pz")] = 1e-4 * np.random.default_rng(0).standard_normal(len(raw))
    raw._data[CHANNELS.index("Oz"), 300:6000] = np.nan
    raw.info["bads"] = ["Pz"]
    seen = observe(raw, EvokedProtocol(bads="interpolate", reject=None), events="beat")
    assert list(seen.data.coords["channel"].values) == CHANNELS
    assert any("Interpolated Pz" in note for note in seen.notes)
    assert any("Interpolated Oz" in note for note in seen.notes)
    assert seen.operator is not None and not {"Pz", "Oz"} & set(seen.operator.inputs)
    expected = seen.operator(seen.head.leadfield).sel(region=REGION).values
    data = seen.data.values[0]
    got = data[:, np.abs(data).max(axis=0).argmax()]
    np.testing.assert_allclose(
        got / np.linalg.norm(got), expected / np.linalg.norm(expected), atol=2e-5
    )
    plain = reference(eeg_info)(head.leadfield).sel(region=REGION).values
    assert np.abs(plain / np.linalg.norm(plain) - got / np.linalg.norm(got)).max() > 1e-3
    dropped = observe(raw, EvokedProtocol(reject=None), events="beat")
    assert not {"Pz", "Oz"} & set(dropped.data.coords["channel"].values)
    assert any("Left out Pz" in note for note in dropped.notes)


def test_noise_of_interpolated_channels_lacks_their_rank(eeg_info: mne.Info, head: Head) -> None:
    raw = _responses(eeg_info, head, 1e-6)
    raw.info["bads"] = ["Pz", "Oz"]
    protocol = EvokedProtocol(bads="interpolate")
    seen = observe(raw, protocol, events="beat")
    values = np.linalg.eigvalsh(seen.noise.spatial)
    assert (values > 1e-9 * values.max()).sum() == len(CHANNELS) - 3  # two, and the reference
    observer = Observer.like(seen, protocol)
    assert observer.head.regions[observer.sequences(seen).region[0]].split("-")[0] in (
        "precuneus", "superiorparietal", "isthmuscingulate", "cuneus", "posteriorcingulate",
    )  # fmt: skip


@pytest.mark.parametrize("to", ["average", "none", ("Cz",), ("T7", "T8")])
def test_regions_do_not_depend_on_the_reference(
    eeg_info: mne.Info, head: Head, to: str | tuple[str, ...]
) -> None:
    raw = _responses(eeg_info, head, 1e-7)
    base, other = EvokedProtocol(), EvokedProtocol(reference=to)
    seen = {p: observe(raw, p, events="beat", noise_cov=_cov(eeg_info)) for p in (base, other)}
    if to == ("Cz",):
        assert np.abs(seen[other].data.sel(channel="Cz")).max() < 1e-18
    if to != "average":
        assert np.abs(seen[other].data - seen[base].data).max() > 1e-8
    courses = [Observer.like(seen[p], p).region_courses(seen[p]).values for p in (base, other)]
    np.testing.assert_allclose(courses[1], courses[0], atol=2e-5 * np.abs(courses[0]).max())


def _cov(info: mne.Info) -> mne.Covariance:
    return mne.make_ad_hoc_cov(info, verbose="error")


def test_meg_goes_through_the_same_steps(meg: tuple[mne.Info, Head]) -> None:
    info, head = meg
    raw = _responses(info, head, 1e-14)
    raw.info["bads"] = [info["ch_names"][3]]
    protocol = EvokedProtocol()
    seen = observe(raw, protocol, events="beat")
    assert seen.data.attrs["units"] == "T"
    assert len(seen.data.coords["channel"]) == len(info["ch_names"]) - 1
    assert not any("Referenced" in note for note in seen.notes)
    data = seen.data.values[0]
    got = data[:, np.abs(data).max(axis=0).argmax()]
    expected = seen.head.leadfield.sel(region=REGION).values
    assert np.corrcoef(got, expected)[0, 1] > 0.99
    observer = Observer.like(seen, protocol)
    places = observer.head.region_positions
    found = places.sel(region=observer.head.regions[observer.sequences(seen).region[0]])
    assert np.linalg.norm(found - places.sel(region=REGION)) < 0.03
    # The moment at a vertex comes back in nAm, within what a linear inverse spreads.
    course = observer.region_courses(seen)
    assert course.attrs["units"] == "nA*m"
    both = observe(raw, EvokedProtocol(bads="interpolate", sensors="meg"), events="beat")
    assert len(both.data.coords["channel"]) == len(info["ch_names"])
    with pytest.raises(InputError, match="no EEG channel"):
        observe(raw, EvokedProtocol(sensors="eeg"), events="beat")


def test_large_meg_epochs_are_rejected(meg: tuple[mne.Info, Head]) -> None:
    info, head = meg
    raw = _responses(info, head, 1e-14)
    raw._data[5, int(10.1 * SFREQ)] += 2e-11
    seen = observe(raw, EvokedProtocol(), events="beat")
    assert any("Averaged 39 of 40" in note for note in seen.notes)
    assert seen.n_averages == 39
    every = observe(raw, EvokedProtocol(reject_meg=None), events="beat")
    assert every.n_averages == 40


def test_line_noise_is_filtered_from_recordings_and_simulations(
    eeg_info: mne.Info, head: Head
) -> None:
    protocol = SpontaneousProtocol(
        notch=50.0, h_freq=60.0, sfreq=150.0, window=1.0, duration=4.0, reject=None
    )
    line = LineNoise(eeg_info, frequency=50.0)
    options = {"head": head, "duration": 20.0, "drive": 200.0, "noise": 5.0, "step": 1e-3}
    clean = simulate_raw(eeg_info, strength=10.0, **options)  # type: ignore[arg-type]
    noisy = simulate_raw(eeg_info, strength=10.0, noise_sources=[line], **options)  # type: ignore[arg-type]
    level = np.std(noisy.get_data() - clean.get_data())
    assert level > 1e-7
    with_notch = [observe(raw, protocol, head=head).data.values for raw in (clean, noisy)]
    plain = protocol.model_copy(update={"notch": None})
    without = [observe(raw, plain, head=head).data.values for raw in (clean, noisy)]
    left = np.std(with_notch[1] - with_notch[0]) / np.std(without[1] - without[0])
    assert left < 0.02
    # Simulations: the filter takes a 50 Hz sine away, and leaves 20 Hz as it is.
    times = np.arange(0, 6.0, 1 / SFREQ)
    inner = np.arange(2.5, 3.5, 1 / 150.0)
    matrix = time_operator(len(times), SFREQ, 0.0, inner, 0.5, 60.0, 50.0)
    assert np.abs(np.sin(2 * np.pi * 50 * times) @ matrix).max() < 0.05
    np.testing.assert_allclose(
        np.sin(2 * np.pi * 20 * times) @ matrix, np.sin(2 * np.pi * 20 * inner), atol=0.02
    )


def test_the_baseline_is_taken_where_it_is_asked_for(eeg_info: mne.Info, head: Head) -> None:
    raw = _responses(eeg_info, head, 1e-6)
    early = EvokedProtocol(baseline=(-0.1, -0.05))
    assert early.in_baseline.sum() == 6
    seen = observe(raw, early, events="beat")
    assert np.abs(seen.data.values[0][:, early.in_baseline].mean(axis=1)).max() < 1e-12
    assert np.abs(seen.data.values[0][:, early.times <= 0].mean(axis=1)).max() > 1e-10
    with pytest.raises(ValueError, match="baseline: no sample"):
        EvokedProtocol(baseline=(-0.5, -0.4))


def test_artefacts_are_added_to_a_virtual_recording(eeg_info: mne.Info, head: Head) -> None:
    blinks = Blinks(eeg_info)
    raws = [
        simulate_raw(
            eeg_info, duration=20.0, head=head, drive=200.0, noise=5.0, noise_sources=sources
        )
        for sources in ((), (blinks,))
    ]
    added = raws[1].get_data() - raws[0].get_data()
    assert CHANNELS[np.abs(added).max(axis=1).argmax()] in ("Fp1", "Fp2")
    assert np.abs(added).max() > 2e-5
    with pytest.raises(InputError, match="not for the channels"):
        simulate_raw(
            mne.pick_info(eeg_info, range(10)), duration=1.0, head=head.pick(CHANNELS[:10]),
            noise_sources=[blinks],
        )  # fmt: skip


def test_directions_of_volumes_are_random_and_repeatable(
    info: mne.Info, noise: Noise, protocol: EvokedProtocol, lock: FileLock
) -> None:
    with lock:
        deep = template_head(info, "cortex+subcortex")
    observer = Observer(deep, noise, protocol, info, seed=3)
    n, times = 40, np.arange(-0.2, 0.45, 0.008)
    regions = deep.regions
    focus = np.full(n, regions.index("thalamus-3-lh"))
    potential = np.zeros((n, len(regions), len(times)), np.float32)
    potential[:, focus[0]] = np.exp(-0.5 * ((times - 0.15) / 0.03) ** 2)
    values = np.column_stack([np.full(n, 10.0), np.ones(n)])
    dataset = xr.Dataset(
        {
            "theta": (("simulation", "parameter"), values),
            "potential": (("simulation", "region", "time"), potential),
            "focus": ("simulation", focus),
            "status": ("simulation", np.zeros(n, np.int8)),
        },
        coords={
            "simulation": np.arange(n),
            "parameter": ["source_scale", "background"],
            "region": regions,
            "time": times,
        },
    )
    campaign = Campaign(dataset)
    clean = observer.view(campaign).clean()[:, 0]
    again = observer.view(campaign.select(np.array([7, 3]))).clean()[:, 0]
    np.testing.assert_allclose(again, clean[[7, 3]], rtol=1e-5, atol=1e-12)
    maps = clean[np.arange(n), :, np.abs(clean).max(axis=1).argmax(axis=1)]
    # They lie in the three dimensions of the region's lead field, and fill them.
    basis = np.linalg.svd(observer._vectors[:, deep.free_regions.index("thalamus-3-lh")])[0][:, :3]
    np.testing.assert_allclose(maps @ basis @ basis.T, maps, atol=1e-4 * np.abs(maps).max())
    assert np.linalg.svd(maps / np.linalg.norm(maps, axis=1)[:, None])[1][2] > 0.5


def test_a_study_names_the_head() -> None:
    study = Study.evoked().replace(head={"skull": 0.012, "size": 1.05})
    assert study.head == HeadSettings(skull=0.012, size=1.05)
    with pytest.raises(InputError, match="skull must be positive"):
        Study.evoked().replace(head={"skull": -1.0})
    with pytest.raises(InputError, match="head"):
        Study.evoked().replace(head={"skul": 0.01})


def test_levels_of_meg_noise(meg: tuple[mne.Info, Head]) -> None:
    info, _ = meg
    noise = noise_from_level(info, {"mag": 2e-14}, 41, 100.0, (0.5, 30.0))
    assert np.sqrt(np.diag(noise.spatial)) == pytest.approx(np.full(len(info.ch_names), 2e-14))
