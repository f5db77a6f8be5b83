"""Equilibria, bifurcations and rhythms of the standard column, against published values.

Grimbert and Faugeras (2006), Neural Computation 18:3052-3068: folds of the curve of equilibria at
p = -41.30 and 113.59, Hopf points at p = -12.1, 89.83 and 315.70.
"""

from __future__ import annotations

import numpy as np
import pytest
from network_oracle import PUBLISHED, column, drive_at, solve_accurately
from scipy import signal
from scipy.optimize import brentq

from nmm_infer.models import JANSEN_RIT
from nmm_infer.simulation import Clock, Network, integrate


def equilibrium(y0):
    """State and drive of the equilibrium at y0, in closed form."""
    c = PUBLISHED

    def sigmoid(v):
        return 2 * c["e0"] / (1 + np.exp(c["r"] * (c["v0"] - v)))

    v = c["v0"] - np.log(2 * c["e0"] * c["A"] / (c["a"] * y0) - 1) / c["r"]
    y2 = c["B"] / c["b"] * c["alpha_4"] * c["C"] * sigmoid(c["alpha_3"] * c["C"] * y0)
    y1 = v + y2
    p = c["a"] / c["A"] * y1 - c["alpha_2"] * c["C"] * sigmoid(c["alpha_1"] * c["C"] * y0)
    rest = 0 * y0
    return np.array([y0, y1, y2, rest, rest, rest]), p


def slopes(y, p):
    """The declared derivative, in NumPy."""
    return np.stack(
        np.broadcast_arrays(
            *JANSEN_RIT.derivative(*y, pyramidal=p, interneurons=0.0, **JANSEN_RIT.defaults)
        )
    )


def jacobians(y, p):
    """Jacobians of the declared derivative at many states, by complex steps: no rounding error."""
    result = np.empty((y.shape[1], 6, 6))
    for k in range(6):
        moved = y.astype(complex)
        moved[k] += 1e-30j
        result[:, :, k] = (slopes(moved, p).imag / 1e-30).T
    return result


Y0 = np.geomspace(1e-4, 0.1612, 60_001)  # v from -14 mV to 15 mV


def turns():
    """Values of y0 at which the drive turns along the curve of equilibria."""
    p = equilibrium(Y0)[1]
    return np.flatnonzero(np.diff(np.sign(np.diff(p)))) + 1


def test_the_declared_derivative_rests_on_the_curve():
    y, p = equilibrium(Y0)
    assert p.min() < -100 and p.max() > 400
    residual = slopes(y, p)[3:] / np.array([[325.0], [325.0], [1100.0]])
    assert np.abs(residual).max() < 1e-9
    for k in (100, 30_000, 50_000):
        np.testing.assert_allclose(
            slopes(y[:, k], p[k] + 7), column(y[:, k], p[k] + 7, 0.0, PUBLISHED), atol=1e-8
        )


def test_folds():
    upper, lower = turns()
    p = equilibrium(Y0)[1]
    assert abs(p[upper] - 113.59) < 0.01
    assert abs(p[lower] + 41.30) < 0.01
    y, p = equilibrium(Y0[[upper, lower]])
    smallest = np.abs(np.linalg.eigvals(jacobians(y, p))).min(axis=1)
    assert smallest.max() < 0.05  # an eigenvalue is zero at a fold, of rates near 100 /s


def test_hopf_points():
    def growth(y0):
        """Growth rate of the fastest growing oscillation."""
        values = np.linalg.eigvals(jacobians(*equilibrium(np.atleast_1d(y0))))
        return np.where(np.abs(values.imag) > 1, values.real, -np.inf).max(axis=1)

    grid = Y0[::20]
    crossings = np.flatnonzero(np.diff(np.sign(growth(grid))))
    found = []
    for k in crossings:
        if not np.isfinite(growth(grid[k : k + 2])).all():
            continue
        y0 = brentq(lambda x: growth(x)[0], grid[k], grid[k + 1], xtol=1e-15)
        if abs(growth(y0)[0]) < 1e-3:  # not where two real eigenvalues become a pair
            found.append(float(equilibrium(y0)[1]))
    np.testing.assert_allclose(sorted(found), [-12.1, 89.83, 315.70], atol=0.06)


def test_stability_of_the_branches():
    y, p = equilibrium(Y0[::50])
    worst = np.linalg.eigvals(jacobians(y, p)).real.max(axis=1)
    upper, lower = Y0[turns()]
    y0 = Y0[::50]
    assert (worst[y0 < 0.999 * upper] < 0).all(), "the lower branch is stable"
    middle = (y0 > 1.001 * upper) & (y0 < 0.999 * lower)
    assert (worst[middle] > 0).all(), "the middle branch is not"
    top = y0 > lower
    stable = top & (((p > -12.0) & (p < 89.7)) | (p > 315.8))
    unstable = top & (((p > 90.0) & (p < 315.6)) | ((p > -41.2) & (p < -12.2)))
    assert stable.sum() > 50 and unstable.sum() > 50
    assert (worst[stable] < 0).all() and (worst[unstable] > 0).all()


# --- Equilibria of the declaration


def random_columns(n):
    rng = np.random.default_rng(2)
    ranges = {
        "A": (2.6, 4.5),
        "B": (17.6, 28.0),
        "a": (70, 130),
        "b": (35, 65),
        "C": (100, 150),
        "e0": (2.0, 3.0),
        "v0": (5.5, 6.5),
        "r": (0.5, 0.6),
    }
    constants = {name: np.full(n, value) for name, value in PUBLISHED.items()}
    return constants | {name: rng.uniform(*bounds, n) for name, bounds in ranges.items()}


def lowest(p, c):
    v = np.arange(-100.0, 40.0, 0.002)
    with np.errstate(over="ignore"):
        rate = 2 * c["e0"] / (1 + np.exp(c["r"] * (c["v0"] - v)))
        y0 = c["A"] / c["a"] * rate
        inhibit, excite = (
            c[f"alpha_{k}"] * c["C"] * 2 * c["e0"]
            / (1 + np.exp(c["r"] * (c["v0"] - c[f"alpha_{m}"] * c["C"] * y0)))
            for k, m in [(4, 3), (2, 1)]
        )  # fmt: skip
        drive = (v + c["B"] / c["b"] * inhibit) * c["a"] / c["A"] - excite
    first = np.flatnonzero(drive > p)[0]
    return brentq(lambda x: drive_at(x, c) - p, v[first - 1], v[first], xtol=1e-13)


def test_equilibria_solve_the_equations_and_are_the_lowest():
    constants = random_columns(100)
    p = np.random.default_rng(3).uniform(-60, 320, 100)
    inputs = {"pyramidal": p, "interneurons": np.zeros(100)}
    rest = JANSEN_RIT.equilibrium(inputs, constants)
    assert rest.shape == (6, 100) and rest.dtype == np.float64
    for i in range(100):
        c = {name: float(v[i]) for name, v in constants.items()}
        residual = column(rest[:, i], p[i], 0.0, c)
        np.testing.assert_allclose(np.array(residual) / 1000, 0, atol=1e-9)
        assert abs(rest[1, i] - rest[2, i] - lowest(p[i], c)) < 1e-8


def test_the_lowest_equilibrium_jumps_at_the_fold():
    p = np.array([113.58, 113.60])
    defaults = {name: np.full(2, v) for name, v in PUBLISHED.items()}
    y = JANSEN_RIT.equilibrium({"pyramidal": p, "interneurons": np.zeros(2)}, defaults)
    upper, lower = Y0[turns()]
    assert y[0, 0] < upper and y[0, 1] > lower
    np.testing.assert_allclose(equilibrium(y[0])[1], p, atol=1e-6)


# --- Rhythms


def simulate(p, start, duration=4.0):
    """Potentials [mV] at 1 kHz without noise, shape (run, sample)."""
    clock = Clock(0.0, duration, step=1e-3, every=1, settle=0.0)
    run = integrate(
        JANSEN_RIT,
        clock,
        drive=np.asarray(p, float)[:, None],
        noise=np.zeros((1, 1)),
        initial=np.asarray(start, float)[:, :, None],
        batch=len(p),
    )
    assert not run.diverged.any()
    return run.outputs["potential"][:, 0].astype(float)


def at(p, branch):
    """Equilibrium at a drive on the lower or upper branch."""
    upper, lower = Y0[turns()]
    bounds = (Y0[0], upper) if branch == "lower" else (lower, Y0[-1])
    y0 = brentq(lambda x: equilibrium(x)[1] - p, *bounds, xtol=1e-14)
    return equilibrium(y0)[0]


def peak_frequency(x):
    frequency, power = signal.periodogram(x, 1000.0, "hann", nfft=2**16, detrend="constant")
    return frequency[power.argmax()]


def nudged(p):
    """Eight seconds from beside the upper equilibrium at some drives."""
    start = np.stack([at(q, "upper") for q in p], axis=1)
    start[1] += 0.5
    return simulate(p, start, 8.0)


def test_alpha_rhythm_between_the_hopf_points():
    x = nudged(np.array([93.0, 110.0, 140.0, 180.0, 220.0, 260.0, 300.0, 313.0]))
    early, late = np.ptp(x[:, 4000:5000], axis=1), np.ptp(x[:, -1000:], axis=1)
    assert (late > 0.5).all() and (late > 0.99 * early).all(), (early, late)
    frequencies = np.array([peak_frequency(row[-2000:]) for row in x])
    assert ((frequencies > 8) & (frequencies < 13)).all(), frequencies


def test_no_rhythm_outside_of_the_hopf_points():
    x = nudged(np.array([86.0, 319.0, 60.0, 400.0]))
    early, late = np.ptp(x[:, 500:1000], axis=1), np.ptp(x[:, -500:], axis=1)
    assert (early > 0.2).all(), "the nudge must be seen"
    assert (late < [0.8 * early[0], 0.8 * early[1], 0.1 * early[2], 0.01 * early[3]]).all(), late


def test_rest_and_alpha_rhythm_coexist_below_the_fold():
    start = np.stack([at(110.0, "lower"), at(110.0, "upper")], axis=1)
    start[1] += 0.5
    resting, rhythm = simulate([110.0, 110.0], start, 8.0)[:, -2000:]
    assert np.ptp(resting) < 1e-3
    assert np.ptp(rhythm) > 1 and 8 < peak_frequency(rhythm) < 13


def test_spikes_and_alpha_rhythm_coexist_above_the_fold():
    p = 120.0
    start = np.stack([at(113.0, "lower"), at(p, "upper")], axis=1)
    start[1, 1] += 0.1
    spikes, rhythm = simulate([p, p], start, 8.0)[:, -4000:]
    assert 8 < peak_frequency(rhythm) < 13
    tops, _ = signal.find_peaks(spikes, prominence=0.5 * np.ptp(spikes))
    assert 1 < 1000 / np.diff(tops).mean() < 6
    assert np.diff(tops).std() < 5  # ms: it is a cycle
    assert np.ptp(spikes) > 1.8 * np.ptp(rhythm)


def test_rhythm_has_the_amplitude_of_the_accurate_solution():
    clock = Clock(0.0, 2.0, step=1e-3, every=1, settle=0.0)
    start = at(200.0, "upper")
    expected = solve_accurately(
        clock,
        0,
        network=Network.column(),
        initial=start[:, None, None],
        index=[0],
        drive={"pyramidal": 220.0},
    )["potential"][0]
    got = simulate([220.0], start[:, None], 2.0)[0]
    late, expected = got[-1000:], expected[-1000:]
    assert expected.std() > 0.5
    assert abs(late.std() / expected.std() - 1) < 0.01
    assert abs(late.mean() / expected.mean() - 1) < 0.01
    assert abs(peak_frequency(late) / peak_frequency(expected) - 1) < 0.01


@pytest.mark.parametrize("p", [-60.0, 60.0, 330.0])
def test_default_initial_state_is_at_rest(p):
    clock = Clock(0.0, 2.0, step=1e-3, every=1, settle=0.0)
    x = integrate(JANSEN_RIT, clock, drive=[[p]], noise=np.zeros((1, 1))).outputs["potential"]
    assert np.ptp(x) < 1e-3
    v = lowest(p, PUBLISHED)
    assert abs(x[0, 0, 0] - v) < 1e-5
