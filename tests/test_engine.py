"""The engine: orders of its schemes, the same bits in any batch, divergence, bad input."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from functools import cache

import numba
import numpy as np
import pytest
from network_oracle import example, example_network, solve_accurately

from nmm_infer import _threads
from nmm_infer.errors import InputError
from nmm_infer.models import JANSEN_RIT
from nmm_infer.simulation import Clock, Course, Pulse, Volley, _math, integrate

# --- Deterministic orders, against DOP853


NETWORKS = {
    "uncoupled": {"strength": 0.0},
    "instant": {"network": example_network(delays=False)},
    # 20 mm at 5 m/s are 4 ms: all delays are multiples of every step.
    "delayed": {"network": example_network(unit=20.0), "speed": 5.0},
}
COARSE = Clock(0.0, 0.16, step=4e-3, every=1, settle=0.0)


@cache
def reference(kind):
    arguments = example([7], COARSE, smooth=True, noisy=False, **NETWORKS[kind])
    return solve_accurately(COARSE, 0, **arguments)["potential"]


def orders(kind, steps, **given):
    """Orders of convergence of the potentials, from step to step."""
    expected = reference(kind)
    assert np.ptp(expected, axis=1).min() > 1, "the volley must move the columns"
    arguments = example([7], COARSE, smooth=True, noisy=False, **{**NETWORKS[kind], **given})
    errors = []
    for step in steps:
        every = round(COARSE.step / step)
        clock = Clock(0.0, COARSE.stop, step=step, every=every, settle=0.0, antialias=False)
        run = integrate(JANSEN_RIT, clock, dtype="float64", **arguments)
        errors.append(np.sqrt(np.mean((run.outputs["potential"][0] - expected) ** 2)))
    assert errors[-1] > 1e-9, "rounding and the reference must not hide the order"
    return np.log2(np.array(errors[:-1]) / errors[1:])


@pytest.mark.parametrize(
    ("order", "kind", "given"),
    [
        (1, "uncoupled", {"scheme": "euler"}),
        (2, "uncoupled", {}),
        (2, "instant", {}),
        (1, "delayed", {"scheme": "euler"}),
        (2, "delayed", {}),
        (1, "delayed", {"coupling_update": "step"}),
    ],
)
def test_orders_of_schemes(order, kind, given):
    found = orders(kind, [1e-3, 5e-4, 2.5e-4], **given)
    assert (np.abs(found - order) < 0.15).all(), found


@pytest.mark.parametrize("kind", ["uncoupled", "instant"])
def test_runge_kutta_has_order_four(kind):
    given = {"network": example_network(delays=False), "noise": {}, "scheme": "rk4"}
    found = orders(kind, [2e-3, 1e-3, 5e-4], **given)
    assert (np.abs(found - 4) < 0.25).all(), found


def test_single_precision_follows_double():
    clock = Clock(0.0, 0.1, step=1e-3, every=1, settle=0.0)
    runs = [
        integrate(JANSEN_RIT, clock, dtype=dtype, **example(np.arange(16), clock)).outputs
        for dtype in ("float32", "float64")
    ]
    for name in ("potential", "rate"):
        single, double = (run[name] for run in runs)
        assert single.dtype == np.float32 and double.dtype == np.float64
        scale = np.ptp(double, axis=2, keepdims=True)
        assert 0 < (np.abs(single - double) / scale).max() < 2e-4


# --- The same bits, whatever the batch

BITS = {
    "single, filtered, speeds": (
        "float32",
        True,
        Clock(0.0, 0.1, step=1e-3, every=4, settle=0.02),
    ),
    "double, speeds": ("float64", True, Clock(0.0, 0.08, step=1e-3, every=1, settle=0.01)),
    "double, one speed": ("float64", False, Clock(0.0, 0.08, step=1e-3, every=1, settle=0.01)),
}


def run_bits(kind, index, **changes):
    dtype, own_speeds, clock = BITS[kind]
    arguments = example(index, clock, own_speeds=own_speeds, **changes)
    arguments["initial"] = None  # equilibria must have the same bits as well
    outputs = integrate(JANSEN_RIT, clock, dtype=dtype, **arguments).outputs
    return np.stack([outputs["potential"], outputs["rate"]])


@pytest.mark.parametrize("kind", BITS)
def test_bits_depend_neither_on_the_batch_nor_on_threads(kind):
    everyone = np.arange(50)
    with _threads.using(1):
        whole = run_bits(kind, everyone)
    assert np.isfinite(whole).all()
    assert np.unique(whole[0, :, 0, -1]).size == 50
    rng = np.random.default_rng(6)
    batches = [[0], [13], [49], [3, 1, 2], np.arange(17, 33), rng.permutation(50)[:17]]
    for threads in (1, 2, 3):
        with _threads.using(threads):
            for index in [*batches, everyone, everyone[::-1]]:
                np.testing.assert_array_equal(run_bits(kind, index), whole[:, index])
            chunks = [run_bits(kind, part) for part in np.split(everyone, [16, 33])]
            np.testing.assert_array_equal(np.concatenate(chunks, axis=1), whole)


def test_one_speed_for_all_has_the_bits_of_many_equal_speeds():
    kind = "double, one speed"
    whole = run_bits(kind, np.arange(20))
    np.testing.assert_array_equal(run_bits(kind, np.arange(20), speed=np.full(20, 3.7)), whole)


@pytest.mark.slow
def test_bits_do_not_depend_on_what_was_compiled_before(tmp_path):
    """Numba hands fast-math flags down to functions of the first caller without flags."""
    code = """
import sys, numba, numpy as np
from nmm_infer.models import JANSEN_RIT
from nmm_infer.simulation import Clock, Volley, _math, integrate
from nmm_infer.simulation.noise import standard_normal
if "first" in sys.argv:
    numba.njit(lambda x: _math.exp(x) + _math.log(x))(np.float32(1))
    numba.njit(lambda: standard_normal(np.uint32(1), np.uint32(2), np.uint32(3)))()
clock = Clock(0.0, 0.5, step=1e-3, every=1, settle=0.0)
run = integrate(JANSEN_RIT, clock, drive=120.0, noise=1.0, seed=1, batch=16,
                stimuli=[Volley(0, None, 0.1, 100.0)])
sys.stdout.write(run.outputs["potential"].tobytes().hex())
"""
    jobs = []
    for when in ("first", "later"):
        environment = {**os.environ, "NMM_INFER_CACHE": str(tmp_path / when)}
        jobs.append(
            subprocess.Popen(
                [sys.executable, "-c", code, when], stdout=subprocess.PIPE, env=environment
            )
        )
    first, later = (job.communicate()[0] for job in jobs)
    assert len(first) > 10_000
    assert first == later


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 4},
        {"stream": "b"},
        {"index": np.arange(2000, 2016)},
        {"trial": np.arange(16) % 3 + 3},
    ],
    ids=["seed", "stream", "index", "trial"],
)
def test_another_seed_stream_index_or_trial_gives_other_noise(change):
    clock = Clock(0.0, 0.1, step=1e-3, every=1, settle=0.0)
    arguments = example(np.arange(16), clock)
    first, again, other, silent = (
        integrate(JANSEN_RIT, clock, **{**arguments, **changes}).outputs["potential"]
        for changes in (
            {},
            {},
            change,
            {"noise": {t: 0 * v for t, v in arguments["noise"].items()}},
        )
    )
    np.testing.assert_array_equal(first, again)
    assert (first[..., 2:] != other[..., 2:]).mean() > 0.99
    # What noise does to a run, from run to run: mostly the first tenths of a second count.
    first, other = (x[:, 0, 1:20] - silent[:, 0, 1:20] for x in (first, other))
    r = [np.corrcoef(x[:, k], y[:, k])[0, 1] for x, y in [(first, other)] for k in range(2, 19)]
    assert abs(np.mean(r)) < 4 / np.sqrt(16)


def test_samples_lie_at_their_times():
    clock = Clock(0.0, 0.08, step=1e-3, every=1, settle=0.0)
    arguments = example([4, 9, 31], clock)
    run = integrate(JANSEN_RIT, clock, dtype="float64", **arguments)
    initial = arguments["initial"]
    np.testing.assert_array_equal(run.outputs["potential"][..., 0], initial[1] - initial[2])
    later = Clock(0.03, 0.07, step=1e-3, every=5, settle=0.03, antialias=False)
    part = integrate(JANSEN_RIT, later, dtype="float64", **arguments)
    np.testing.assert_allclose(later.sample_times, np.arange(0.03, 0.0701, 0.005))
    for name, whole in run.outputs.items():
        np.testing.assert_allclose(part.outputs[name], whole[..., 30:71:5], rtol=1e-10, atol=1e-10)


# --- Divergence

DIVERGENCE = Clock(0.0, 0.1, step=1e-3, every=1, settle=0.01)


def test_divergence_is_reported_and_touches_no_other_run():
    index = np.arange(20)
    healthy = integrate(JANSEN_RIT, DIVERGENCE, **example(index, DIVERGENCE))
    assert not healthy.diverged.any()
    assert np.isnan(healthy.diverged_at).all()
    arguments = example(index, DIVERGENCE)
    # Through a gap junction of negative strength a column excites itself without bound.
    arguments["strength"]["gap"][3] = -1e6
    arguments["initial"][:, 17, 0] = 1e38
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = integrate(JANSEN_RIT, DIVERGENCE, **arguments)
    np.testing.assert_array_equal(np.flatnonzero(run.diverged), [3, 17])
    for i in (3, 17):
        bad = ~np.isfinite(run.outputs["potential"][i]).all(axis=0)
        assert bad.any() and bad[np.argmax(bad) :].all()
        assert run.diverged_at[i] == DIVERGENCE.sample_times[np.argmax(bad)]
    others = np.delete(index, [3, 17])
    assert np.isnan(run.diverged_at[others]).all()
    for name, signal in run.outputs.items():
        np.testing.assert_array_equal(signal[others], healthy.outputs[name][others])


# --- Elementary functions


@numba.njit
def each_exp(x):
    out = np.empty_like(x)
    for i in range(x.size):
        out[i] = _math.exp(x[i])
    return out


@numba.njit
def each_log(x):
    out = np.empty_like(x)
    for i in range(x.size):
        out[i] = _math.log(x[i])
    return out


def test_exp_is_accurate():
    x = np.linspace(-87, 87, 1_000_001).astype(np.float32)
    error = np.abs(each_exp(x) / np.exp(x.astype(float)) - 1)
    assert error.max() < 3.1e-7
    assert error[np.abs(x) <= 20].max() < 1.3e-7
    far = each_exp(np.array([-1e4, -87, 87, 1e4], np.float32))
    assert far[0] == far[1] > 0
    assert far[2] == far[3] < np.inf


def test_log_is_accurate():
    # The multiple of log 2 is rounded: the error grows with the size of the logarithm.
    for low, high, bound in [(0.71, 1.41, 1e-7), (2**-23, 1, 1.5e-6), (1e-37, 1e38, 1e-5)]:
        x = np.geomspace(low, high, 1_000_001).astype(np.float32)
        assert np.abs(each_log(x) - np.log(x.astype(float))).max() < bound


# --- Bad input

CLOCK = Clock(0.0, 0.1, step=1e-3, every=1, settle=0.0)
TWO = {"batch": 2}


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"constants": {"tau": 1.0}}, "jansen_rit has no parameter 'tau'; it has A, B, a, b"),
        ({"constants": {"A": np.nan}}, "A: values must be finite"),
        ({"constants": {"A": "large"}}, "A: numbers are needed"),
        ({"constants": {"B": [[20.0], [np.inf]]}, **TWO}, "B: values must be finite"),
        (
            {"constants": {"B": np.ones((3, 1))}, **TWO},
            r"B: shape \(3, 1\) does not fit .*\(2, 1\)",
        ),
        ({"constants": {"A": -0.1}}, "A: -0.1 mV is outside the bounds of jansen_rit, 0 to 50"),
        ({"constants": {"A": [[3.0], [51.0]]}, **TWO}, "A: 51 mV is outside the bounds"),
        ({"constants": {"a": 1001.0}}, "a: 1001 1/s is outside"),
        ({"drive": np.nan}, "drive: values must be finite"),
        ({"drive": {"stellate": 1.0}}, "no target 'stellate'; there are pyramidal"),
        ({"drive": {"stellate": 0.0}}, "no target 'stellate'"),
        ({"drive": np.ones((1, 3))}, r"drive: shape \(1, 3\)"),
        ({"noise": np.nan}, "noise: values must be finite"),
        ({"noise": {"stellate": 1.0}}, "no target 'stellate'"),
        ({"noise": np.ones((4, 1)), **TWO}, r"noise: shape \(4, 1\)"),
        ({"noise": 1.0, "scheme": "rk4"}, "'rk4' is for runs without noise .* this has noise"),
        ({"noise": -1.0}, "noise: its intensity must not be negative"),
        ({"noise": [[1.0], [-1.0]], **TWO}, "noise: its intensity must not be negative"),
        ({"record": ()}, "record: no output is named"),
        ({"record": ("power",)}, "no output 'power'; there are potential, rate"),
        ({"scheme": "milstein"}, "no scheme 'milstein'.*euler, heun, rk4"),
        ({"coupling_update": "never"}, "'never'; there are .*stage, step"),
        ({"initial": np.zeros((6, 3, 1)), **TWO}, r"initial: shape \(6, 3, 1\) does not fit"),
        ({"initial": np.zeros((5, 1, 1))}, r"initial: shape \(5, 1, 1\) does not fit"),
        ({"initial": np.full((6, 1, 1), np.nan)}, "initial: .*finite"),
        ({"initial": np.full((6, 1, 1), np.inf)}, "initial: .*finite"),
        ({"trial": [0, 1, 2], **TWO}, "trial"),
        ({"index": [[0, 1]]}, "index"),
        ({"index": [-1]}, "index"),
        ({"index": [0.5]}, "index"),
        ({"index": []}, "index"),
        ({"batch": 0}, "batch"),
        ({"seed": -1}, "seed"),
        ({"dtype": "float16"}, "float32.*float64"),
    ],
    ids=lambda v: str(v)[:60],
)
def test_bad_arguments_are_refused(given, text):
    with pytest.raises(InputError, match=text):
        integrate(JANSEN_RIT, CLOCK, **given)


def test_a_step_that_is_too_large_is_refused():
    clock = Clock(0.0, 1.0, step=0.011, every=1, settle=0.0)
    with pytest.raises(InputError, match=r"step of 11 ms .*100 /s: take at most 10 ms"):
        integrate(JANSEN_RIT, clock)
    given = {"drive": [[50.0]], "noise": [[0.0]]}
    assert not integrate(JANSEN_RIT, clock, constants={"a": 90.0}, **given).diverged.any()
    with pytest.raises(InputError, match=r"120 /s: take at most 8.33 ms"):
        integrate(JANSEN_RIT, clock, constants={"a": 90.0, "b": [[50.0], [120.0]]}, batch=2)


@pytest.mark.parametrize(
    ("stimulus", "text"),
    [
        (Course(0, None, np.zeros(100)), "100 samples were given, but the clock has 101 steps"),
        (Course(0, None, np.zeros(51)), "51 samples were given, but the clock has 101 steps"),
        (Course(0, None, np.zeros((3, 101))), "3 courses do not fit 2 simulations"),
        (Course(0, None, np.full(101, np.nan)), "rates must be finite"),
        (Course(0, None, [1.0, 2.0], [0.0, 0.0]), "increasing times"),
        (Course(0, None, [1.0, 2.0], [0.0, np.nan]), "increasing times"),
        (Course(0, None, [1.0, 2.0], [0.0, 0.1, 0.2]), "increasing times"),
        (Volley("V9", None, 0.0, 1.0), "no node 'V9'; there are column"),
        (Volley(1, None, 0.0, 1.0), "there are 1 nodes, numbered from 0"),
        (Volley(-1, None, 0.0, 1.0), "there are 1 nodes, numbered from 0"),
        (Volley([0, 0, 0], None, 0.0, 1.0), "3 nodes do not fit 2 simulations"),
        (Volley(0, "stellate", 0.0, 1.0), "no target 'stellate'"),
        (Volley(0, None, np.nan, 1.0), "onset must be finite"),
        (Volley(0, None, 0.0, np.inf), "amplitude must be finite"),
        (Volley(0, None, np.zeros(3), 1.0), r"onset of shape \(3,\) does not fit 2 runs"),
        (Volley(0, None, np.zeros((2, 3)), np.ones((2, 2))), "differ in their number"),
        (Volley(0, None, 0.0, 1.0, width=0.0), "width and order of a volley must be positive"),
        (Volley(0, None, 0.0, 1.0, width=np.nan), "width and order of a volley must be positive"),
        (Volley(0, None, 0.0, 1.0, order=-1.0), "width and order of a volley must be positive"),
        (Volley(0, None, 0.0, 1.0, width=np.inf), "width"),
        (Pulse(0, None, 0.0, 1.0, 1e-4), "a pulse must last for one step at least"),
        (Pulse(0, None, 0.0, 1.0, np.nan), "a pulse must last"),
        (Pulse(0, None, np.nan, 1.0), "onset must be finite"),
    ],
    ids=lambda v: str(v)[:60],
)
def test_bad_stimuli_are_refused(stimulus, text):
    with pytest.raises(InputError, match=text):
        integrate(JANSEN_RIT, CLOCK, stimuli=[stimulus], batch=2)


def test_noise_that_would_repeat_is_refused():
    clock = Clock(0.0, 2.2e6, step=1e-3, every=1000, settle=0.0, antialias=False)
    with pytest.raises(InputError, match="would repeat: simulate fewer steps"):
        integrate(JANSEN_RIT, clock, noise=1.0)
