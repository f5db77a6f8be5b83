"""Waveforms of single columns and the bank: dynamics, independence, exact cuts."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from nmm_infer.campaign import Campaign, run
from nmm_infer.errors import InputError
from nmm_infer.models import get_model
from nmm_infer.parameters import Parameter, Prior
from nmm_infer.scenarios import SEIZURE, WAVEFORMS, Bank, WaveformTask
from nmm_infer.scenarios.bank import Picks

N = 300


def _simulate(kind: str, n: int = N, **options: object) -> Campaign:
    task = WaveformTask(kind, **{"seed": 0, "stream": "training", **options})
    return run(task, task.design(n))


@pytest.fixture(scope="module")
def campaigns() -> dict[str, Campaign]:
    return {kind: _simulate(kind) for kind in WAVEFORMS}


@pytest.fixture(scope="module")
def spikes(campaigns: dict[str, Campaign]) -> Bank:
    return Bank(campaigns["spike"])


def _dominant(series: np.ndarray, sfreq: float) -> np.ndarray:
    """Frequency above 2 Hz of the largest value of the Hann periodogram, by its definition."""
    n = series.shape[-1]
    taper = np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2
    power = np.abs(np.fft.rfft((series - series.mean(-1, keepdims=True)) * taper)) ** 2
    frequencies = np.fft.rfftfreq(n, 1 / sfreq)
    power[..., frequencies < 2] = 0
    return frequencies[power.argmax(-1)]


def test_every_window_of_spikes_has_a_sharp_peak(spikes: Bank) -> None:
    windows = spikes.sample(np.random.default_rng(0), 2000, 500).astype(float)
    deviation = windows - np.median(windows, axis=1, keepdims=True)
    spread = 1.4826 * np.median(np.abs(deviation), axis=1)
    assert (deviation.max(axis=1) / spread > 6).all(), "8 over the whole run"
    # About the largest peak the potential stays above one half for less than 60 ms.
    for window in deviation[:200]:
        top = int(window.argmax())
        below = np.flatnonzero(window < window[top] / 2)
        before, after = below[below < top], below[below > top]
        width = (after.min() if len(after) else 500) - (before.max() if len(before) else -1) - 1
        assert width / 500 < 0.06


def test_the_spike_lies_anywhere_in_its_window(spikes: Bank) -> None:
    picks = spikes.pick(np.random.default_rng(1), 4000, 500)
    place = 500 - picks.start  # runs of 1000 samples have their spike at sample 500
    assert place.min() >= 25 and place.max() <= 474
    assert stats.kstest(place, stats.randint(25, 475).cdf).pvalue > 1e-3
    assert stats.chisquare(np.bincount(picks.run, minlength=len(spikes))).pvalue > 1e-3


def test_valid_spikes_are_where_they_are_told(campaigns: dict[str, Campaign]) -> None:
    data = campaigns["spike"].dataset
    valid = data["valid"].values
    assert 0.15 < valid.mean() < 0.5  # a narrow regime, and many spikes are not alone
    potential = data["potential"].values[valid]
    assert (data["event"].values[valid] == 500).all()
    assert (data["event"].values[~valid] == -1).all()
    around = potential[:, 490:511]
    assert (around.argmax(axis=1) == 10).all()
    assert (potential[:, 500] - np.median(potential, axis=1) > 5).all()
    assert data["time"].values[500] == 0


def test_runs_without_spikes_are_not_used() -> None:
    """The published gains of background activity, at which the column does not spike."""
    kind = WAVEFORMS["spike"].prior
    quiet = Prior(
        [
            Parameter("B", "mV", "uniform", 49.0, 51.0),
            *(p for p in kind.parameters if p.name != "B"),
        ]
    )
    campaign = _simulate("spike", 32, prior=quiet)
    assert not campaign.dataset["valid"].values.any()
    assert len(campaign.valid) == 32, "they ran well, but show nothing"
    with pytest.raises(InputError, match="none of 32 runs of 'spike' is valid"):
        Bank(campaign)


@pytest.mark.parametrize(
    ("kind", "expected", "tolerance"),
    [("sustained spikes", 4.5, 0.5), ("slow rhythmic", 10.2, 1.0), ("quasi-sinusoidal", 11.0, 0.5)],
)
def test_rhythms_of_seizures(
    campaigns: dict[str, Campaign], kind: str, expected: float, tolerance: float
) -> None:
    """Medians against the rhythms of the published gains: cycles, and one resonance."""
    bank = Bank(campaigns[kind])
    windows = bank.sample(np.random.default_rng(0), 400, 1000)
    found = _dominant(windows, bank.sfreq)
    assert np.median(found) == pytest.approx(expected, abs=tolerance)
    low, high = WAVEFORMS[kind].band
    assert ((found >= low - 1) & (found <= high + 1)).mean() > 0.95
    assert bank.accepted[kind] > 0.85


def test_fast_activity_and_alpha(campaigns: dict[str, Campaign]) -> None:
    for kind, share in (("low-voltage fast", 0.9), ("spontaneous", 0.5)):
        bank = Bank(campaigns[kind])
        found = _dominant(bank.sample(np.random.default_rng(0), 400, 1000), bank.sfreq)
        low, high = WAVEFORMS[kind].band
        assert ((found >= low - 1) & (found <= high + 1)).mean() > 0.95
        assert bank.accepted[kind] > share
    # Low voltage: a fraction of the amplitude of spikes.
    size = {
        kind: campaigns[kind].dataset["potential"].values[campaigns[kind].dataset["valid"]].std(1)
        for kind in ("low-voltage fast", "sustained spikes")
    }
    assert np.median(size["low-voltage fast"]) < 0.1 * np.median(size["sustained spikes"])


def _gain_of_noise(
    constants: dict[str, float], drive: float, frequencies: np.ndarray
) -> np.ndarray:
    """Squared modulus from the drive to the potential, of the column linearised at its rest."""
    model = get_model("wendling")
    every = {k: np.array([v]) for k, v in (model.defaults | constants).items()}
    inputs = {"pyramidal": np.array([drive]), "interneurons": np.array([0.0])}
    rest = model.equilibrium(inputs, every)[:, 0]
    scalars = {k: float(v[0]) for k, v in every.items()}
    J = np.empty((10, 10))
    for k in range(10):
        moved = rest.astype(complex)
        moved[k] += 1e-30j
        slopes = model.derivative(*moved, pyramidal=drive, interneurons=0.0, **scalars)
        J[:, k] = np.imag(slopes) / 1e-30
    entry = np.zeros(10)
    entry[6] = scalars["A"] * scalars["a"]
    readout = np.zeros(10)
    readout[[1, 2, 3]] = 1, -1, -1
    return np.array(
        [
            np.abs(readout @ np.linalg.solve(2j * np.pi * f * np.eye(10) - J, entry)) ** 2
            for f in frequencies
        ]
    )


@pytest.mark.parametrize("sfreq", [100.0, 500.0])
def test_spectrum_of_fast_activity_is_that_of_linear_theory(sfreq: float) -> None:
    """Absolute and up to .4 of the sampling rate: units of noise, times, and no folding."""
    values = {"B": 4.0, "G": 28.0, "A": 5.0, "a": 100.0, "b": 50.0, "g": 500.0}
    inputs = {"drive": 90.0, "noise": 0.3}
    prior = Prior([Parameter(k, "1", "fixed", v) for k, v in (values | inputs).items()])
    campaign = _simulate("low-voltage fast", 400, prior=prior, sfreq=sfreq, duration=4.0)
    series = campaign.dataset["potential"].values.astype(float)
    n = series.shape[1]
    taper = np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2
    spectrum = np.fft.rfft((series - series.mean()) * taper)
    density = 2 * (np.abs(spectrum) ** 2).mean(0) / (sfreq * (taper**2).sum())
    frequencies = np.fft.rfftfreq(n, 1 / sfreq)
    expected = 2 * inputs["noise"] ** 2 * _gain_of_noise(values, 90.0, frequencies)
    for low, high in ((2, 8), (10, 20), (22, 32), (37, 39.8)):
        band = (frequencies >= low) & (frequencies <= high)
        ratio = density[band].sum() / expected[band].sum()
        assert ratio == pytest.approx(1.0, abs=0.05)
    if sfreq == 100.0:  # what folding would add at the upper end: the test can tell
        folded = 2 * inputs["noise"] ** 2 * _gain_of_noise(values, 90.0, 100.0 - frequencies[band])
        assert folded.sum() > 0.08 * expected[band].sum()


def test_evoked_responses(campaigns: dict[str, Campaign]) -> None:
    data = campaigns["evoked"].dataset
    valid = data["valid"].values
    assert valid.mean() > 0.95
    times, potential = data["time"].values, data["potential"].values[valid].astype(float)
    change = potential - potential[:, times < 0].mean(axis=1, keepdims=True)
    # Before the stimulus averages rest. The volley has its peak after 35 ms.
    assert np.abs(change[:, times < 0]).max() < 1.0
    latency = times[data["event"].values[valid]]
    assert latency.min() > 0.02 and latency.max() < 0.5
    assert np.median(latency) == pytest.approx(0.055, abs=0.02)
    peak = np.abs(change).max(axis=1)
    amplitude = data["theta"].sel(parameter="stimulus_amplitude").values[valid]
    assert stats.spearmanr(amplitude, peak).statistic > 0.5
    bank = Bank(campaigns["evoked"])
    windows = bank.sample(np.random.default_rng(0), 200, 300)
    assert (np.abs(windows).argmax(axis=1) >= 24).all()


def test_runs_do_not_depend_on_the_chunk_or_an_interruption(tmp_path: Path) -> None:
    for kind in ("spike", "slow rhythmic", "evoked"):
        task = WaveformTask(kind, seed=3, stream="a", duration=1.0, sfreq=200.0)
        whole = run(task, task.design(70)).dataset
        parts = run(task, task.design(70), chunk=9).dataset
        store = tmp_path / f"{kind}.zarr"
        run(task, task.design(70), store, chunk=16)
        status = store / "status" / "c" / "2"
        assert status.exists()
        status.unlink()  # as if it had been killed there
        stored = run(task, task.design(70), store).dataset
        for name in ("potential", "event", "valid", "status", "theta"):
            np.testing.assert_array_equal(parts[name], whole[name])
            np.testing.assert_array_equal(stored[name], whole[name])
        if kind == "spike":
            picks = Picks(np.array([0, 3]), np.array([0, 0]))
            one, two = (Bank(c).cut(picks, 200) for c in (Campaign(whole), Campaign.open(store)))
            np.testing.assert_array_equal(one, two)


def test_banks_of_other_streams_or_seeds_share_nothing(spikes: Bank) -> None:
    first = _simulate("slow rhythmic", 40)
    for options in ({"stream": "test"}, {"seed": 1}):
        other = _simulate("slow rhythmic", 40, **options)
        assert not np.isin(first.theta.values, other.theta.values).any()
        a, b = (c.dataset["potential"].values.astype(float) for c in (first, other))
        a, b = (stats.zscore(x, axis=1) for x in (a, b))
        correlation = a @ b.T / a.shape[1]
        assert np.abs(correlation).max() < 0.7
        # Same number, same parameters would not do: the noise is another one.
        assert abs(np.diag(correlation).mean()) < 4 * correlation.std() / np.sqrt(40)
        assert first.fingerprint != other.fingerprint


def test_cuts_are_the_simulated_potentials(campaigns: dict[str, Campaign]) -> None:
    kinds = ("spike", "slow rhythmic")
    bank = Bank(*(campaigns[kind] for kind in kinds))
    picks = bank.pick(np.random.default_rng(0), 60, 400)
    peak, rms = (bank.cut(picks, 400, norm).astype(float) for norm in ("peak", "rms"))
    assert bank.cut(picks, 400).dtype == np.float32
    np.testing.assert_allclose(np.abs(peak).max(axis=1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(np.sqrt((rms**2).mean(axis=1)), 1.0, rtol=1e-5)
    for row, (position, start) in enumerate(zip(*picks, strict=True)):
        kind = bank.kind[position]
        data = campaigns[kind].dataset.sel(simulation=bank.number[position])
        assert bool(data["valid"])
        whole = data["potential"].values.astype(float)
        window = whole[start : start + 400]
        window = window - (np.median(whole) if kind == "spike" else window.mean())
        np.testing.assert_allclose(peak[row], window / np.abs(window).max(), atol=2e-5)
    assert set(bank.kind) == set(kinds)
    for kind in kinds:
        assert bank.accepted[kind] == campaigns[kind].dataset["valid"].values.mean()
    assert len(bank) == sum(campaigns[kind].dataset["valid"].values.sum() for kind in kinds)
    assert bank.nbytes == len(bank) * 1000 * 4
    assert "Bank" in repr(bank)


def test_windows_as_long_as_the_runs(spikes: Bank) -> None:
    picks = spikes.pick(np.random.default_rng(0), 50, spikes.n_samples)
    assert (picks.start == 0).all()
    tiny = spikes.pick(np.random.default_rng(0), 500, 3)
    assert ((tiny.start <= 499) & (tiny.start + 3 > 501)).all(), "the peak is in the middle"


def test_a_task_travels() -> None:
    task = WaveformTask("spike", seed=1, stream="x")
    _ = task.clock
    assert pickle.loads(pickle.dumps(task)).fingerprint == task.fingerprint


def test_a_bank_of_seizures_is_simulated_once(tmp_path: Path) -> None:
    options = {"seed": 0, "stream": "a", "duration": 1.0, "sfreq": 200.0}
    kept = Bank.simulate("seizure", 24, store=tmp_path, **options)
    assert set(kept.kind) == set(SEIZURE) < set(WAVEFORMS)
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{kind.replace(' ', '-')}.zarr" for kind in SEIZURE
    }
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("c/*")}
    again = Bank.simulate("seizure", 24, store=tmp_path, **options)
    assert before == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("c/*")}, "only read"
    picks = kept.pick(np.random.default_rng(0), 50, 100)
    np.testing.assert_array_equal(kept.cut(picks, 100), again.cut(picks, 100))


def test_what_cannot_be(campaigns: dict[str, Campaign], spikes: Bank) -> None:
    with pytest.raises(InputError, match="no waveform 'sneeze'"):
        WaveformTask("sneeze", 0, "a")
    with pytest.raises(InputError, match="50 Hz is too low"):
        WaveformTask("spike", 0, "a", sfreq=50.0)
    with pytest.raises(InputError, match=r"runs of 0.2 s are too short"):
        WaveformTask("spike", 0, "a", duration=0.2)
    prior = WAVEFORMS["spike"].prior
    with pytest.raises(InputError, match="'stimulus_amplitude' is missing"):
        WaveformTask("evoked", 0, "a", prior=WAVEFORMS["spontaneous"].prior)
    odd = Prior([*prior.parameters, replace(prior["A"], name="tempo")])
    with pytest.raises(InputError, match="'tempo' is not known"):
        WaveformTask("spike", 0, "a", prior=odd)
    with pytest.raises(InputError, match="needs a campaign"):
        Bank()
    with pytest.raises(InputError, match="500 samples at 250 Hz and 1000 samples at 500 Hz"):
        Bank(campaigns["spike"], _simulate("slow rhythmic", 32, sfreq=250.0))
    for n_times in (1, 1001):
        with pytest.raises(InputError, match=f"windows of {n_times} samples cannot be cut"):
            spikes.sample(np.random.default_rng(0), 2, n_times)
    with pytest.raises(InputError, match="norm is 'peak' or 'rms'"):
        spikes.sample(np.random.default_rng(0), 2, 100, "max")  # type: ignore[arg-type]


def test_another_campaign_is_no_bank(campaign: Campaign) -> None:
    with pytest.raises(InputError, match="campaigns of WaveformTask"):
        Bank(campaign)
