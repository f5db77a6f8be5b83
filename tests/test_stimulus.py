"""Stimuli, against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from network_oracle import NODES, example_network

from nmm_infer.models import JANSEN_RIT
from nmm_infer.simulation import Clock, Course, Pulse, Volley, integrate

TIMES = np.linspace(-0.1, 0.4, 5001)


def transient(t, onset, peak, n=7.0, w=0.005):
    """q (t / n w)^n e^(n - t / w): the visual transient of Jansen and Rit (1995), by its peak."""
    if t <= onset:
        return 0.0
    return peak * ((t - onset) / (n * w)) ** n * math.exp(n - (t - onset) / w)


@pytest.mark.parametrize(("dtype", "accuracy"), [(np.float32, 1e-5), (np.float64, 1e-12)])
@pytest.mark.parametrize(("n", "w"), [(7.0, 0.005), (1.0, 0.01), (2.5, 0.004), (12.0, 0.002)])
def test_volley_is_the_published_transient(dtype, accuracy, n, w):
    volley = Volley(0, None, [0.0, 0.05003], [100.0, 40.0], width=w, order=n)
    rates = volley.courses(TIMES, 2, dtype)
    assert rates.dtype == dtype
    for row, onset, peak in zip(rates, [0.0, 0.05003], [100.0, 40.0], strict=True):
        expected = np.array([transient(t, onset, peak, n, w) for t in TIMES])
        # It ends below 1e-9 of its peak.
        np.testing.assert_allclose(row, expected, rtol=accuracy, atol=max(1e-9, accuracy) * peak)
        assert (row[TIMES < onset - 1e-9] == 0).all()
        assert abs(TIMES[row.argmax()] - onset - n * w) < 1.5e-4
        assert abs(row.max() / peak - 1) < 1e-4


def test_many_volleys_add_up_and_may_be_jittered_by_run():
    rng = np.random.default_rng(1)
    onsets, peaks = rng.uniform(-0.2, 0.35, (3, 6)), rng.uniform(10, 100, (3, 6))
    for onset, peak in [
        (onsets, peaks),
        (onsets[:1], peaks),
        (onsets, 70.0),
        (onsets, peaks[:, :1]),
    ]:
        rates = Volley(0, None, onset, peak).courses(TIMES, 3, np.float64)
        both = np.broadcast_arrays(onset, peak, onsets)[:2]
        for row, starts, heights in zip(rates, *both, strict=True):
            expected = [
                sum(transient(t, s, q) for s, q in zip(starts, heights, strict=True)) for t in TIMES
            ]
            np.testing.assert_allclose(row, expected, rtol=1e-10, atol=1e-7)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "stimulus",
    [
        Volley(0, None, [[-0.13, 0.02], [0.1, 0.05]], 50.0),
        Volley(0, None, [-0.5, 0.7], 50.0),
        Pulse(0, None, [0.1203, 0.2], 3.0),
        Pulse(0, None, [[-0.2], [0.6]], 3.0),
        Course(0, None, [1.0, 2.0, 3.0], [0.0, 0.1, 0.2]),
    ],
    ids=lambda stimulus: type(stimulus).__name__,
)
def test_outside_of_its_window_a_stimulus_is_zero(stimulus, dtype):
    whole = stimulus.courses(TIMES, 2, dtype)
    first, last = stimulus.window(TIMES)
    assert 0 <= first <= last <= len(TIMES)
    assert not whole[:, :first].any()
    assert not whole[:, last:].any()
    for window in [(first, last), (max(first - 7, 0), last), (2000, 3000)]:
        part = stimulus.courses(TIMES, 2, dtype, window)
        np.testing.assert_array_equal(part, whole[:, slice(*window)])


def test_a_volley_that_began_before_is_still_there():
    rates = Volley(0, None, -0.13, 50.0).courses(TIMES, 1, np.float64)[0]
    np.testing.assert_allclose(rates[0], transient(-0.1, -0.13, 50.0), rtol=1e-12)
    assert (Volley(0, None, 0.5, 50.0).courses(TIMES, 1) == 0).all()


def test_pulse_has_its_exact_area_wherever_it_begins():
    rng = np.random.default_rng(2)
    onsets = rng.uniform(0.0, 0.3, (2000, 1))
    onsets[::2] = np.round(onsets[::2] * 2000) / 2000  # on steps, and half between them
    for step in (1e-3, 5e-4):
        times = -0.1 + step * np.arange(round(0.5 / step))
        rates = Pulse(0, None, onsets, 30.0, 0.02).courses(times, 2000, np.float64)
        np.testing.assert_allclose(rates.sum(axis=1) * step, 30.0 * 0.02, rtol=1e-9)
        centre = (rates * times).sum(axis=1) / rates.sum(axis=1) + step / 2
        assert np.abs(centre - onsets[:, 0] - 0.01).max() < 0.5001 * step


def test_pulse_covers_the_steps_inside_it():
    times = 1e-3 * np.arange(100)
    rates = Pulse(0, None, [[0.010, 0.050]], [[5.0, 3.0]], 0.004).courses(times, 1)[0]
    np.testing.assert_array_equal(np.flatnonzero(rates), [10, 11, 12, 13, 50, 51, 52, 53])
    np.testing.assert_array_equal(rates[[10, 53]], [5.0, 3.0])


def test_course_is_linear_between_its_samples():
    given = np.array([[1.0, 3.0, -2.0], [0.0, 5.0, 5.0]])
    rates = Course(0, None, given, [0.0, 0.1, 0.2]).courses(TIMES, 2, np.float64)
    inside = (TIMES >= 0) & (TIMES <= 0.2)
    assert (rates[:, ~inside] == 0).all()
    for t, expected in [(0.05, [2.0, 2.5]), (0.1, [3.0, 5.0]), (0.16, [0.0, 5.0]), (0.2, [-2, 5])]:
        np.testing.assert_allclose(rates[:, np.argmin(np.abs(TIMES - t))], expected, atol=1e-9)


def test_course_without_times_is_that_of_the_steps():
    clock = Clock(0.0, 0.1, step=1e-3, every=4, settle=0.02)
    given = np.random.default_rng(3).normal(size=len(clock.step_times))
    rates = Course(0, None, given).courses(clock.step_times, 3, np.float64)
    np.testing.assert_array_equal(rates, np.broadcast_to(given, (3, len(given))))


@pytest.mark.parametrize("target", [None, "pyramidal", "interneurons"])
def test_a_stimulus_reaches_the_node_and_target_that_it_names(target):
    """Uncoupled columns at rest: the first steps tell where rates have entered, and how much."""
    network = example_network(delays=False)
    clock = Clock(0.0, 0.02, step=1e-4, every=1, settle=0.0)
    a, A, rate, onset = 100.0, 3.25, 40.0, 0.005
    for node, places in [(2, [2, 2]), ("MT", [2, 2]), ([1, 3], [1, 3])]:
        stimuli = [Pulse(node, target, onset, rate, 0.01)]
        # After the end; with it the kernel is the same for all.
        later = "pyramidal" if target == "interneurons" else "interneurons"
        stimuli.insert(int(later == "interneurons"), Pulse(0, later, 0.5, 1.0, 0.01))
        run = integrate(
            JANSEN_RIT,
            clock,
            network=network,
            strength=0.0,
            drive={"pyramidal": [[60.0]], "interneurons": [[0.0]]},
            noise={"pyramidal": [[0.0]], "interneurons": [[0.0]]},
            stimuli=stimuli,
            record=("potential", "rate"),
            dtype="float64",
            batch=2,
        )
        v = run.outputs["potential"]
        change = v - v[..., :1]
        since = clock.sample_times - onset
        step_response = A / a * rate * (1 - (1 + a * since) * np.exp(-a * since))
        for i, place in enumerate(places):
            untouched = np.delete(change[i], place, axis=0)
            assert np.abs(untouched).max() < 1e-6, "the others stay at rest"
            assert np.abs(change[i, place, since < -1e-9]).max() < 1e-6
            moved = (since > 0) & (since < 0.003)
            if target == "interneurons":
                # It enters y0 first, and the potential through the sigmoids and y1 later.
                assert 0 < np.abs(change[i, place][moved]).max() < 0.9 * step_response[moved].max()
                assert np.abs(change[i, place]).max() > 0.1
            else:
                np.testing.assert_allclose(
                    change[i, place][moved], step_response[moved], rtol=0.02, atol=2e-3
                )
    assert NODES[2] == "MT"


def test_heun_meets_a_pulse_half_a_step_early():
    def respond(step: float, onset: float) -> np.ndarray:
        clock = Clock(0.0, 0.3, step, every=round(1e-3 / step), settle=0.0, antialias=False)
        found = integrate(
            JANSEN_RIT, clock, drive={"pyramidal": [[60.0]]}, dtype="float64", batch=1,
            stimuli=[Pulse(0, "interneurons", onset, 40.0, 0.04)],
        )  # fmt: skip
        return found.outputs["potential"][0, 0]

    coarse = respond(1e-3, 0.05)
    moved = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
    errors = [np.abs(respond(2.5e-5, 0.05 - part * 1e-3) - coarse).max() for part in moved]
    assert moved[np.argmin(errors)] == 0.5
    assert errors[2] < 0.1 * errors[0]
