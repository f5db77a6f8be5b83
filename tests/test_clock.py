"""Times, and the anti-alias filter, against SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from network_oracle import column
from scipy import signal

from nmm_infer.errors import InputError
from nmm_infer.models import JANSEN_RIT
from nmm_infer.simulation import Clock, Course, Volley, integrate

EVERY = [2, 3, 4, 5, 8]


def test_clock_counts_steps_and_samples():
    clock = Clock(-0.1, 0.5, step=1e-3, every=4, settle=0.3, antialias=False)
    assert clock.settle_steps == 300
    assert clock.n_samples == 151
    np.testing.assert_allclose(clock.sample_times, -0.1 + 0.004 * np.arange(151))
    np.testing.assert_allclose(clock.step_times, -0.4 + 0.001 * np.arange(901))


@pytest.mark.parametrize(
    "times",
    [
        {"start": 1.0, "stop": 1.0},
        {"start": 1.0, "stop": 0.0},
        {"start": 0.0, "stop": 1.0, "step": 0.0},
        {"start": 0.0, "stop": 1.0, "settle": -0.1},
        {"start": 0.0, "stop": 1.0, "every": 0},
        {"start": 0.0, "stop": 1.0, "every": 2.5},
        {"start": np.nan, "stop": 1.0},
        {"start": 0.0, "stop": np.inf},
        {"start": -np.inf, "stop": 1.0},
        {"start": 0.0, "stop": 1.0, "step": np.nan},
        {"start": 0.0, "stop": 1.0, "step": np.inf},
        {"start": 0.0, "stop": 1.0, "settle": np.nan},
        {"start": 0.0, "stop": 1.0, "settle": np.inf},
    ],
    ids=str,
)
def test_impossible_times_are_refused(times):
    with pytest.raises(InputError, match="times"):
        Clock(**times)


@pytest.mark.parametrize("every", EVERY)
def test_filter_passes_and_stops_what_it_promises(every):
    clock = Clock(0.0, 1.0, step=1e-3, every=every)
    taps = clock.taps.ravel()
    assert clock.taps.shape[1] == every
    length = len(taps) if taps[-1] != 0 else len(taps) - 1
    assert length % 2 == 1
    np.testing.assert_allclose(taps[:length], taps[:length][::-1], atol=1e-15)  # linear phase
    assert abs(taps.sum() - 1) < 1e-12
    frequencies = np.linspace(0, 500, 20_001)
    _, response = signal.freqz(taps, worN=frequencies, fs=1000.0)
    gain = np.abs(response)
    assert np.abs(gain[frequencies <= 0.4 * clock.sfreq] - 1).max() < 1e-3
    assert gain[frequencies >= 0.6 * clock.sfreq].max() < 1e-3  # 60 dB


def test_nothing_is_filtered_without_need():
    assert not Clock(0.0, 1.0, every=1).filtered
    assert not Clock(0.0, 1.0, every=4, antialias=False).filtered
    assert Clock(0.0, 1.0, every=4).filtered


def busy(clock, **changes):
    """A column that volleys keep busy at frequencies up to that of the filter and beyond."""
    rng = np.random.default_rng(8)
    onsets = np.sort(rng.uniform(-0.1, 0.6, (3, 25)), axis=1)
    stimuli = [Volley(0, None, onsets, rng.uniform(500, 3000, (3, 25)), width=4e-4)]
    rest = np.array([0.1, 15.0, 10.0, 2.0, 900.0, -300.0])[:, None, None]
    given = {"drive": np.full((3, 1), 150.0), "stimuli": stimuli, "initial": rest, "batch": 3}
    run = integrate(JANSEN_RIT, clock, dtype="float64", **given | changes)
    return run.outputs["potential"][:, 0]


@pytest.mark.parametrize("every", EVERY)
@pytest.mark.parametrize("settle", [0.1, 0.003, 0.0], ids=["settled", "short", "none"])
def test_stream_is_scipys_filter_of_all_steps(every, settle):
    clock = Clock(0.05, 0.45, step=1e-3, every=every, settle=settle)
    assert (clock.lead < 0) == (settle < 0.1)
    full = Clock(0.05 - settle, 0.6, step=1e-3, every=1, settle=0.0)
    x = busy(full)
    taps = clock.taps.ravel()
    taps = taps if taps[-1] != 0 else taps[:-1]
    half = len(taps) // 2
    past = np.repeat(x[:, :1], half, axis=1)  # the initial state was there for ever
    smooth = signal.fftconvolve(np.hstack([past, x]), taps[None], "valid", axes=1)
    expected = smooth[:, clock.settle_steps :][:, ::every][:, : clock.n_samples]
    got = busy(clock)
    assert got.shape == (3, clock.n_samples)
    assert np.ptp(got, axis=1).min() > 5
    np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-10)


def test_samples_are_neither_early_nor_late():
    clock = Clock(0.0, 0.4, step=1e-3, every=4, settle=0.1)
    slow = [Volley(0, None, [[0.02, 0.2]], [[100.0, 60.0]], width=0.01)]
    full = Clock(0.0, 0.4, step=1e-3, every=1, settle=0.1)
    got, all_steps = busy(clock, stimuli=slow), busy(full, stimuli=slow)
    np.testing.assert_allclose(full.sample_times[::4], clock.sample_times, atol=1e-12)
    errors = [
        np.abs(got[:, 5:-5] - np.roll(all_steps, k, 1)[:, ::4][:, 5:-5]).max() for k in (-1, 0, 1)
    ]
    # All that lies below .4 of the sampling rate comes through to .1 %.
    assert errors[1] < 2e-3 * np.ptp(all_steps)
    assert min(errors[0], errors[2]) > 20 * errors[1]


def test_filter_keeps_folded_frequencies_out():
    """A strong 240 Hz rhythm, sampled at 250 Hz, would look like one of 10 Hz."""
    given = {"constants": {"a": 500.0, "C": 0.0}}
    found = []
    for antialias in (False, True):
        clock = Clock(0.0, 1.0, step=1e-3, every=4, settle=0.2, antialias=antialias)
        rhythm = 1000 * np.sin(2 * np.pi * 240 * clock.step_times)
        found.append(busy(clock, stimuli=[Course(0, None, rhythm)], **given)[0, 75:])
    folded, clean = found
    frequency, power = signal.periodogram(folded, 250.0, "hann")
    assert 9 < frequency[power.argmax()] < 11
    assert np.ptp(folded) > 1
    assert np.ptp(clean) < 2e-3 * np.ptp(folded)


def test_oracle_rest_is_no_rest():
    """The initial state of these tests moves, so that the constant past matters."""
    from network_oracle import PUBLISHED

    slopes = column([0.1, 15.0, 10.0, 2.0, 900.0, -300.0], 150.0, 0.0, PUBLISHED)
    assert abs(slopes[1] - slopes[2]) > 1000
