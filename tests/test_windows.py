"""Windows: exact truth, exact ratios, independence of batches, memory."""

from __future__ import annotations

import pickle
import tracemalloc
from dataclasses import replace

import mne
import numpy as np
import pytest
import xarray as xr
from scipy import stats
from test_sources_scenarios import block, mixed

from nmm_infer.anatomy import Head, template_head
from nmm_infer.anatomy.sensors import identity, reference, whitening
from nmm_infer.anatomy.template import SourceKind
from nmm_infer.errors import InputError
from nmm_infer.observation.noise import (
    BrainBackground,
    LineNoise,
    Mixture,
    power_law_noise,
    snr_db,
    white_noise,
)
from nmm_infer.scenarios import Bank, Blobs, Patches, Regions, Windows, Zones

N_TIMES = 120
SFREQ = 200.0


@pytest.fixture(scope="module")
def bank() -> Bank:
    kinds = ("quasi-sinusoidal", "spontaneous")
    return Bank.simulate(kinds, 60, seed=0, stream="training", sfreq=SFREQ)


@pytest.fixture(scope="module")
def sampled(info: mne.Info) -> mne.Info:
    """The channels at the sampling rate of the bank."""
    made = mne.create_info(info["ch_names"], SFREQ, "eeg", verbose="error")
    made.set_montage("fsaverage_1005", verbose="error")
    return made


@pytest.fixture(scope="module")
def windows(head: Head, bank: Bank, sampled: mne.Info) -> Windows:
    return Windows(
        head,
        Patches(area_cm2=(2.0, 10.0)),
        bank,
        white_noise(sampled, 1e-6, N_TIMES),
        snr_db=(-5.0, 15.0),
        operator=reference(sampled),
        n_times=N_TIMES,
        seed=4,
    )


def _explained(windows: Windows, batch: xr.Dataset) -> np.ndarray:
    """Sensors as the truth explains them, in float64."""
    moments = windows.truth(batch["window"].values).activity().values.astype(float)
    gain = windows.head.gain
    if windows.operator is not None:
        gain = windows.operator(gain)
    return np.einsum("ck,wkt->wct", gain.values, moments)


@pytest.mark.parametrize("scenario", ["patches", "blobs", "zones", "regions"])
def test_sensors_less_noise_are_the_gain_times_the_truth(
    scenario: str, windows: Windows, info: mne.Info
) -> None:
    if scenario != "patches":
        head = block(info) if scenario == "blobs" else mixed(info)
        sources = {
            "blobs": Blobs(),
            "zones": Zones(cortex=Patches(extent_mm=(9.0, 20.0), decay="gaussian")),
            "regions": Regions(n_sources=(1, 3)),
        }[scenario]
        windows = replace(windows, head=head, sources=sources)
    batch = windows.batch([7, 0, 130, 3, 9, 12], parts=True)
    signal = batch["sensors"].values - batch["noise"].values
    expected = _explained(windows, batch)
    scale = np.abs(batch["sensors"].values).max(axis=(1, 2), keepdims=True)
    assert (np.abs(signal - expected) / scale).max() < 2e-6  # 16 roundings of float32
    assert np.abs(expected).max() > 0
    assert batch["sensors"].dtype == np.float32
    assert np.abs(batch["sensors"].values.mean(axis=1)).max() < 1e-6 * scale.max(), "referenced"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["parcels", "cortex+subcortex", "volume"])
def test_windows_of_every_template(kind: SourceKind, windows: Windows, info: mne.Info) -> None:
    head = template_head(info, kind)
    sources = {"parcels": Patches(), "cortex+subcortex": Zones(), "volume": Blobs()}[kind]
    changed = replace(windows, head=head, sources=sources)
    batch = changed.batch([5, 0, 200], parts=True)
    signal = batch["sensors"].values.astype(float) - batch["noise"].values
    scale = np.abs(batch["sensors"].values).max(axis=(1, 2), keepdims=True)
    assert (np.abs(signal - _explained(changed, batch)) / scale).max() < 2e-6
    if kind != "parcels":
        assert batch["axis"].values.tolist() == ["x", "y", "z"]


def test_realised_ratios_are_those_asked_for(windows: Windows) -> None:
    batch = windows.batch(np.arange(200), parts=True)
    noise = batch["noise"].values
    ratio = snr_db(batch["sensors"].values.astype(float) - noise, noise)
    np.testing.assert_allclose(ratio, batch["snr"], atol=2e-4)
    assert stats.kstest(batch["snr"], stats.uniform(-5, 20).cdf).pvalue > 1e-3
    exact = replace(windows, snr_db=(3.0, 3.0)).batch([5, 6], parts=True)
    # By the definition itself: mean powers over channels and samples.
    signal = exact["sensors"].values.astype(float) - exact["noise"].values
    power = (signal**2).mean(axis=(1, 2)) / (exact["noise"].values.astype(float) ** 2).mean(
        axis=(1, 2)
    )
    np.testing.assert_allclose(power, 10**0.3, rtol=1e-4)


def test_noise_without_a_ratio_stays_as_it_is(windows: Windows) -> None:
    plain = replace(windows, snr_db=None, operator=None)
    batch = plain.batch(np.arange(64), parts=True)
    assert batch["noise"].values.std() == pytest.approx(1e-6, rel=0.01)
    signal = batch["sensors"].values.astype(float) - batch["noise"].values
    np.testing.assert_allclose(snr_db(signal, batch["noise"].values), batch["snr"], atol=2e-3)
    silent = replace(plain, noise=None).batch(np.arange(64))
    assert "snr" not in silent and "noise" not in silent
    level = np.abs(silent["sensors"].values).max()
    np.testing.assert_allclose(silent["sensors"], signal, atol=1e-6 * level)


def test_batch_and_order_do_not_matter(windows: Windows) -> None:
    numbers = np.array([200, 3, 127, 128, 4, 3])
    together = windows.batch(numbers)
    for row, number in enumerate(numbers):
        alone = windows.batch(number)
        for name in ("sensors", "snr", "n_active"):
            np.testing.assert_array_equal(together[name][row], alone[name][0])
        some = int(alone["n_active"][0])
        for name in ("waveform", "run", "kind", "seed", "area", "extent", "moment"):
            np.testing.assert_array_equal(together[name][row, :some], alone[name][0])
    again = replace(windows).batch(numbers)
    np.testing.assert_array_equal(again["sensors"], together["sensors"])
    travelled = pickle.loads(pickle.dumps(replace(windows))).batch(numbers)
    np.testing.assert_array_equal(travelled["sensors"], together["sensors"])


def test_batches_stream_all_windows_in_order(windows: Windows) -> None:
    few = replace(windows, n=150)
    whole = few.batch(np.arange(150))
    for size in (7, 64, 200):
        parts = list(few.batches(size))
        joined = np.concatenate([part["sensors"].values for part in parts])
        np.testing.assert_array_equal(joined, whole["sensors"])
        assert [n for part in parts for n in part["window"].values] == list(range(150))
    middle = next(iter(few.batches(10, start=100)))
    np.testing.assert_array_equal(middle["sensors"], whole["sensors"][100:110])
    assert len(few) == 150


def test_streams_and_seeds_share_nothing(windows: Windows) -> None:
    numbers = np.arange(40)
    first = windows.batch(numbers, parts=True)
    for changes in ({"stream": "test"}, {"seed": 5}):
        other = replace(windows, **changes).batch(numbers, parts=True)
        assert not np.isin(first["snr"], other["snr"]).any()
        assert not np.isin(first["moment"].values[:, 0], other["moment"].values[:, 0]).any()
        a, b = (stats.zscore(x["noise"].values.reshape(40, -1), axis=1) for x in (first, other))
        correlation = (a * b).mean(axis=1)
        assert np.abs(correlation).max() < 5 / np.sqrt(a.shape[1])
    # Neither do windows of one stream.
    noise = stats.zscore(first["noise"].values.reshape(40, -1), axis=1)
    between = noise @ noise.T / noise.shape[1] - np.eye(40)
    assert np.abs(between).max() < 5 / np.sqrt(noise.shape[1])


def test_facts_are_those_of_the_truth(windows: Windows, bank: Bank) -> None:
    batch = windows.batch(np.arange(20))
    truth = windows.truth(np.arange(20))
    sizes = windows.head.sources.sizes
    row = 0
    for k, active in enumerate(truth.active):
        assert batch["n_active"][k] == len(active)
        for j, source in enumerate(active):
            assert int(batch["seed"][k, j]) == source.components[0], "the seed comes first"
            area = sizes[source.components].sum() / 100
            assert float(batch["area"][k, j]) == pytest.approx(area, rel=1e-5)
            moment = float(batch["moment"][k, j])
            assert moment == pytest.approx(source.moments.sum(), rel=1e-5)
            waveform = batch["waveform"].values[k, j]
            np.testing.assert_array_equal(waveform, truth.waveforms[row])
            assert np.abs(waveform).max() == pytest.approx(1.0)
            # The run of the bank that it comes from holds it somewhere.
            where = (bank.number == int(batch["run"][k, j])) & (
                bank.kind == batch["kind"].values[k, j]
            )
            (series,) = bank._values[where]
            pieces = np.lib.stride_tricks.sliding_window_view(series, N_TIMES)
            match = (stats.zscore(pieces, axis=1) @ stats.zscore(waveform)).max() / N_TIMES
            assert match == pytest.approx(1.0, abs=1e-4)
            row += 1
        assert np.isnan(batch["area"].values[k, len(active) :]).all()
        assert (batch["seed"].values[k, len(active) :] == -1).all()
        assert (batch["waveform"].values[k, len(active) :] == 0).all()
    footprints = truth.footprints.toarray()
    dense = truth.activity().values
    again = np.zeros_like(dense)
    for row, k in enumerate(truth.window):
        again[k] += footprints[row][:, None] * truth.waveforms[row]
    np.testing.assert_allclose(dense, again, atol=1e-5 * np.abs(dense).max())


@pytest.mark.parametrize("correlation", [0.0, 0.5, 1.0])
def test_waveforms_are_as_correlated_as_asked(windows: Windows, correlation: float) -> None:
    changed = replace(
        windows, correlation=correlation, norm="rms", sources=Patches(n_sources=(2, 2)), noise=None,
        snr_db=None,
    )  # fmt: skip
    waveforms = changed.batch(np.arange(600))["waveform"].values.astype(float)
    found = (waveforms[:, 0] * waveforms[:, 1]).mean(axis=1)
    assert found.mean() == pytest.approx(correlation, abs=4 * found.std() / np.sqrt(600) + 0.01)
    np.testing.assert_allclose((waveforms**2).mean(axis=2), 1.0, rtol=1e-4)


def test_single_frames_need_no_bank(info: mne.Info) -> None:
    """What the published blobs are: one frame, its noise scaled to it."""
    windows = Windows(block(info), Blobs(), noise=white_noise(info, 1.0, 1), snr_db=(0.0, 30.0))
    batch = windows.batch(np.arange(50), parts=True)
    assert batch["sensors"].shape == (50, 32, 1)
    assert (batch["waveform"].values[:, 0] == 1).all()
    signal = batch["sensors"].values.astype(float) - batch["noise"].values
    expected = _explained(windows, batch)
    np.testing.assert_allclose(signal, expected, atol=1e-5 * np.abs(expected).max())


def test_noise_of_any_kind(windows: Windows, head: Head, sampled: mne.Info) -> None:
    rng = np.random.default_rng(0)
    signals = xr.DataArray(
        rng.standard_normal((3, 68, 400)), dims=("run", "region", "time"),
        coords={"region": head.regions, "time": np.arange(400) / SFREQ},
    )  # fmt: skip
    background = BrainBackground(sampled, head.leadfield, signals, SFREQ)
    mixture = Mixture(
        (background, LineNoise(sampled), white_noise(sampled, 1e-6, N_TIMES)),
        (0.5, 0.2, 0.3), 1e-6,
    )  # fmt: skip
    for noise in (background, mixture):
        changed = replace(windows, noise=noise)
        batch = changed.batch(np.arange(130), parts=True)
        alone = changed.batch([129], parts=True)
        np.testing.assert_array_equal(alone["noise"][0], batch["noise"][129])
        values = batch["noise"].values
        ratio = snr_db(batch["sensors"].values.astype(float) - values, values)
        np.testing.assert_allclose(ratio, batch["snr"], atol=2e-4)
        assert np.abs(values.mean(axis=1)).max() < 1e-6 * np.abs(values).max(), "referenced"


def test_noise_of_more_channels_in_another_order(windows: Windows, sampled: mne.Info) -> None:
    picked = windows.head.pick(["Oz", "Cz", "Fp1", "T8"])
    names = [*reversed(sampled["ch_names"])]
    levels = 1e-6 * (1 + np.arange(len(names)))
    turned = mne.pick_info(sampled, [sampled["ch_names"].index(n) for n in names])
    noise = white_noise(turned, levels, N_TIMES)
    changed = replace(windows, head=picked, noise=noise, operator=None, snr_db=None)
    found = changed.batch(np.arange(100), parts=True)["noise"].values.std(axis=(0, 2))
    expected = [levels[names.index(name)] for name in picked.channels]
    np.testing.assert_allclose(found, expected, rtol=0.03)
    chosen = replace(changed, operator=identity(["T8", "Oz"]))
    assert chosen.channels == ["T8", "Oz"]
    found = chosen.batch(np.arange(100), parts=True)["noise"].values.std(axis=(0, 2))
    np.testing.assert_allclose(found, [expected[3], expected[0]], rtol=0.03)


def test_whitened_windows_have_no_unit(windows: Windows, sampled: mne.Info) -> None:
    levels = 1e-6 * np.linspace(1, 5, len(sampled["ch_names"]))
    noise = white_noise(sampled, levels, N_TIMES)
    changed = replace(
        windows, noise=noise, operator=whitening(sampled, noise.covariance()), snr_db=None
    )
    batch = changed.batch(np.arange(100), parts=True)
    assert batch["sensors"].attrs["units"] == "1"
    np.testing.assert_allclose(batch["noise"].values.std(axis=(0, 2)), 1.0, rtol=0.04)
    assert windows.batch(0)["sensors"].attrs["units"] == "V"


def test_labels(windows: Windows) -> None:
    batch = windows.batch([3, 1])
    assert batch["sensors"].dims == ("window", "channel", "time")
    assert batch["waveform"].dims == ("window", "active", "time")
    assert batch["channel"].values.tolist() == windows.channels
    np.testing.assert_allclose(batch["time"], np.arange(N_TIMES) / SFREQ)
    assert batch["area"].attrs["units"] == "cm2" and batch["extent"].attrs["units"] == "mm"
    assert batch["window"].values.tolist() == [3, 1]


def test_memory_does_not_grow_with_the_number_of_windows(windows: Windows) -> None:
    many = replace(windows, n=10**9)
    for _ in many.batches(32, stop=128):
        pass
    tracemalloc.start()
    try:
        for _ in many.batches(32, stop=768):
            pass
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    blocks = 8 * 128 * 32 * N_TIMES * 4  # of noise: four are kept, and some are made
    assert peak < blocks + 30e6
    assert many.batch(10**9 - 1).sizes["window"] == 1


def test_windows_that_cannot_be(
    windows: Windows, head: Head, bank: Bank, info: mne.Info, sampled: mne.Info
) -> None:
    for changes, match in (
        ({"n": 0}, "n is 0"),
        ({"n_times": 50.5}, "n_times is 50.5: it must be a whole number"),
        ({"seed": -1}, "seed is -1"),
        ({"snr_db": 5.0}, "snr_db is 5.0: give two numbers"),
        ({"correlation": 1.5}, "correlation is 1.5"),
        ({"norm": "max"}, "norm is 'peak' or 'rms'"),
        ({"n_times": 4000}, "windows of 4000 samples cannot be cut"),
        ({"bank": None}, "120 samples need waveforms"),
        ({"noise": None}, "needs noise"),
        ({"snr_db": (5.0, 2.0)}, "snr_db is 5 to 2"),
        ({"sources": Zones()}, r"0 regions named thalamus"),
        ({"sources": Blobs()}, "no sources of free orientation"),
        ({"noise": LineNoise(info, frequency=40.0)}, "bank is sampled at 200 Hz, the noise at 100"),
        (
            {"noise": power_law_noise(sampled, 1e-6, N_TIMES, 100.0, (8.0, 12.0))},
            "bank is sampled at 200 Hz, the noise at 100",
        ),
        (
            {"noise": white_noise(mne.pick_info(sampled, [0, 1]), 1e-6, N_TIMES)},
            "the noise lacks channel.s. F7",
        ),
    ):
        with pytest.raises(InputError, match=match):
            replace(windows, **changes)
    for numbers, match in (
        ([-1], "no window -1"),
        ([3, 10**6], "no window 1000000"),
        ([0.5], "one whole number"),
        ([], "one whole number"),
    ):
        with pytest.raises(InputError, match=match):
            windows.batch(numbers)
    with pytest.raises(InputError, match="make no sense"):
        next(iter(windows.batches(0)))
    with pytest.raises(InputError, match="n is -3"):
        Bank.simulate("spike", -3, seed=0, stream="test")
    with pytest.raises(InputError, match="seed is -1"):
        Bank.simulate("spike", 3, seed=-1, stream="test")
    with pytest.raises(InputError, match=r"n_times is 9\.5"):
        bank.sample(np.random.default_rng(0), 3, 9.5)  # type: ignore[arg-type]


def test_channels_of_different_units_have_no_ratio(windows: Windows) -> None:
    forward = windows.head.forward.copy()
    for channel in forward["info"]["chs"][:3]:
        channel["kind"] = mne.io.constants.FIFF.FIFFV_MEG_CH
        channel["unit"] = mne.io.constants.FIFF.FIFF_UNIT_T
    both = replace(windows.head, forward=forward)
    with pytest.raises(InputError, match="types eeg, mag have different units"):
        replace(windows, head=both, operator=None)
