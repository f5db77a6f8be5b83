"""Normal numbers, strong orders, and spectra of noisy columns in closed form."""

from __future__ import annotations

import numpy as np
import pytest
from network_oracle import PUBLISHED, draws, drive_at, example
from scipy import signal, stats
from scipy.linalg import solve_continuous_lyapunov
from scipy.optimize import brentq
from scipy.special import ndtri

from nmm_infer._random import keys
from nmm_infer.models import JANSEN_RIT
from nmm_infer.simulation import Clock, Pulse, integrate

# --- Normal numbers

N = 1_000_000


def along(what, position=0):
    """Draw a million numbers over counters of one key, or over keys at one counter."""
    if what == "counters":
        key, counter = keys(0, "noise", np.array([position])), np.arange(N, dtype=np.uint32)
    elif what == "runs":
        key, counter = keys(0, "noise", np.arange(N)), np.uint32(position)
    else:
        key, counter = keys(0, "noise", np.full(N, 3), np.arange(N)), np.uint32(position)
    return draws(key, counter).astype(float)


WAYS = [("counters", 0), ("counters", 77), ("runs", 0), ("runs", 5000), ("trials", 9)]
ways = pytest.mark.parametrize(("what", "position"), WAYS)


def lowbias32(x):
    """The hash of C. Wellons (2018), on 64-bit integers."""
    word = np.uint64(2**32 - 1)
    for shift, factor in [(16, 0x7FEB352D), (15, 0x846CA68B), (16, 1)]:
        x = ((x ^ (x >> np.uint64(shift))) * np.uint64(factor)) & word
    return x


def test_noise_is_the_normal_quantile_of_the_hash():
    key = keys(0, "noise", np.arange(N))
    counter = np.arange(N, dtype=np.uint32)[::-1].copy()
    first, second = key.astype(np.uint64)
    inner = lowbias32(counter.astype(np.uint64) ^ first)
    bits = lowbias32((inner + second) & np.uint64(2**32 - 1)) >> np.uint64(9)
    expected = ndtri((bits.astype(float) + 0.5) / 2**23)
    # Giles (2012) gives his polynomials a few units in the last place of a float32.
    np.testing.assert_allclose(draws(key, counter), expected, rtol=3e-6, atol=1e-6)


@ways
def test_noise_is_standard_normal(what, position):
    z = along(what, position)
    assert np.isfinite(z).all()
    assert 4.4 < np.abs(z).max() < 5.4
    # Four standard errors of the mean, the variance and higher moments of N(0, 1).
    assert abs(z.mean()) < 4 / np.sqrt(N)
    assert abs(z.var() - 1) < 4 * np.sqrt(2 / N)
    assert abs((z**3).mean()) < 4 * np.sqrt(15 / N)
    assert abs((z**4).mean() - 3) < 4 * np.sqrt(96 / N)
    assert stats.kstest(z, "norm").pvalue > 1e-4
    for bound in (1.0, 2.0, 3.0, 4.0, 4.4):
        expected = N * stats.norm.sf(bound)
        for count in ((z > bound).sum(), (z < -bound).sum()):
            assert abs(count - expected) < 4.5 * np.sqrt(expected), (bound, count, expected)


@ways
def test_neighbouring_draws_are_uncorrelated(what, position):
    z = along(what, position)
    # Lags of 2 and 8 stand for the next node and the next step of four nodes with two targets.
    for lag in (1, 2, 3, 8, 16, 1024):
        first, second = z[:-lag], z[lag:]
        for function in (lambda x: x, np.square, np.abs):
            r = np.corrcoef(function(first), function(second))[0, 1]
            assert abs(r) < 4.5 / np.sqrt(N), (lag, r)


def partners(kind, n):
    """Keys of n pairs of runs, and how far their counters are apart."""
    rng = np.random.default_rng(11)
    i = np.arange(n)
    if kind == "runs":
        return keys(0, "noise", i), keys(0, "noise", i + 1), 0
    if kind == "trials":
        return keys(0, "noise", i // 10, i % 10), keys(0, "noise", i // 10, i % 10 + 1), 0
    if kind == "runs and trials":
        return keys(0, "noise", i, i + 1), keys(0, "noise", i + 1, i), 0
    if kind == "seeds":
        pairs = [(keys(s, "noise", [0]), keys(s + 1, "noise", [0])) for s in range(n)]
        return *(np.concatenate(part, axis=1) for part in zip(*pairs, strict=True)), 0
    if kind == "streams":
        names = [("noise/training", f"noise/test-{s}") for s in range(n)]
        pairs = [(keys(0, a, [s]), keys(0, b, [s])) for s, (a, b) in enumerate(names)]
        return *(np.concatenate(part, axis=1) for part in zip(*pairs, strict=True)), 0
    if kind in ("targets", "nodes", "steps"):
        apart = {"targets": 1, "nodes": 2, "steps": 8}[kind]
        return keys(1, "noise", i), keys(1, "noise", i), apart
    return (
        keys(0, "noise", rng.integers(0, 2**40, n), rng.integers(0, 2**20, n)),
        keys(0, "noise", rng.integers(0, 2**40, n), rng.integers(0, 2**20, n)),
        int(rng.integers(0, 5000)),
    )


@pytest.mark.parametrize(
    "kind",
    ["runs", "trials", "runs and trials", "seeds", "streams", "targets", "nodes", "steps", "any"],
)
def test_no_two_streams_share_noise(kind):
    n, length = 1500, 2048
    first, second, apart = partners(kind, n)
    counter = 16 * np.arange(length, dtype=np.uint32)[None]
    x = draws(first[:, :, None], counter)
    y = draws(second[:, :, None], counter + np.uint32(apart))
    assert (x != y).mean() > 0.999
    for function in (lambda v: v, np.abs):
        a, b = (function(v.astype(float)) for v in (x, y))
        a, b = ((v - v.mean()) / v.std() for v in (a, b))
        z = (a * b).sum(axis=1) / np.sqrt(length)  # N(0, 1) for independent streams
        assert np.abs(z).max() < 5
        assert stats.kstest(z, "norm").pvalue > 1e-4


def test_no_pattern_repeats_in_any_stream():
    """Three draws in a row tell 69 bits: none of a million occurs twice, at any place."""
    key = keys(0, "noise", np.arange(1000), np.arange(1000) % 7)
    z = draws(key[:, :, None], np.arange(1002, dtype=np.uint32)[None])
    bits = z.view(np.uint32).astype(np.uint64)
    with np.errstate(over="ignore"):
        mixed = bits[:, :-2] * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= bits[:, 1:-1] * np.uint64(0xC2B2AE3D27D4EB4F)
        mixed ^= (bits[:, 2:] * np.uint64(0x165667B19E3779F9)) >> np.uint64(1)
    assert (np.diff(np.sort(mixed.ravel())) > 0).all()


# --- Strong orders, with shared Brownian paths


def sigmoid(v):
    c = PUBLISHED
    return 2 * c["e0"] / (1 + np.exp(c["r"] * (c["v0"] - v)))


def field(y, p, u):
    """The standard column for arrays (Jansen and Rit 1995, equation 6)."""
    y0, y1, y2, y3, y4, y5 = y
    A, B, a, b, C = (PUBLISHED[name] for name in "ABabC")
    return np.stack(
        [
            y3,
            y4,
            y5,
            A * a * (sigmoid(y1 - y2) + u) - 2 * a * y3 - a**2 * y0,
            A * a * (p + 0.8 * C * sigmoid(C * y0)) - 2 * a * y4 - a**2 * y1,
            B * b * 0.25 * C * sigmoid(0.25 * C * y0) - 2 * b * y5 - b**2 * y2,
        ]
    )


DRIVE = (120.0, 0.1)
SIGMA = (2.0, 0.02)


def paths(start, increments, step, scheme):
    """Integrate along Brownian increments of shape (step, target, run); return (step, run)."""
    y = np.repeat(start[:, None], increments.shape[2], axis=1)
    v = [y[1] - y[2]]
    for dW in increments:
        inputs = [d + s * w / step for d, s, w in zip(DRIVE, SIGMA, dW, strict=True)]
        slope = field(y, *inputs)
        if scheme == "heun":
            slope = 0.5 * (slope + field(y + step * slope, *inputs))
        y = y + step * slope
        v.append(y[1] - y[2])
    return np.array(v)


@pytest.mark.parametrize("scheme", ["heun", "euler"])
def test_strong_order_is_one_with_additive_noise(scheme):
    runs, fine, levels = 200, 3.125e-5, [16, 32, 64]
    clock = Clock(0.0, 0.064, step=fine, every=1, settle=0.0)
    start = np.array([0.11, 17.5, 15.0, 0.0, 0.0, 0.0])
    silent = [Pulse(0, t, 0.0, 0.0) for t in ("pyramidal", "interneurons")]
    targets = ("pyramidal", "interneurons")
    arguments = example(
        np.zeros(runs, int),
        clock,
        index=np.arange(runs),
        trial=0,
        constants={},
        strength=0.0,
        drive={t: [[d]] for t, d in zip(targets, DRIVE, strict=True)},
        noise={t: [[s]] for t, s in zip(targets, SIGMA, strict=True)},
        stimuli=silent,
        initial=start[:, None, None],
        scheme=scheme,
    )
    run = integrate(JANSEN_RIT, clock, dtype="float64", **arguments)
    key = keys(3, "noise/training", np.arange(runs))
    # The counters of the first of four nodes with two targets.
    counter = (np.arange(clock.n_steps)[:, None] * 4 * 2 + np.arange(2)).astype(np.uint32)
    dW = np.sqrt(fine) * draws(key[:, None, None, :], counter[..., None]).astype(float)
    expected = paths(start, dW, fine, scheme)
    np.testing.assert_allclose(run.outputs["potential"][:, 0].T, expected, rtol=1e-10, atol=1e-10)
    assert expected[-1].std() > 0.3
    errors = []
    for level in levels:
        coarse = dW.reshape(-1, level, 2, runs).sum(axis=1)
        v = paths(start, coarse, level * fine, scheme)
        errors.append(np.sqrt(np.mean((v[1:] - expected[level::level]) ** 2)))
    orders = np.log2(np.array(errors[1:]) / errors[:-1])
    assert ((orders > 0.9) & (orders < 1.25)).all(), (orders, errors)


# --- Spectra and variances of a column near rest, in closed form


def at_rest(p):
    """The lowest equilibrium."""
    v = np.arange(-20.0, 20.0, 0.01)
    above = next(k for k, x in enumerate(v) if drive_at(x, PUBLISHED) > p)
    v = brentq(lambda x: drive_at(x, PUBLISHED) - p, v[above - 1], v[above], xtol=1e-13)
    y0 = PUBLISHED["A"] / PUBLISHED["a"] * sigmoid(v)
    y2 = 22.0 / 50.0 * 0.25 * 135.0 * sigmoid(0.25 * 135.0 * y0)
    return np.array([y0, v + y2, y2, 0, 0, 0])


def jacobian(y, p):
    """The matrix of the linear column, by complex steps."""
    J = np.empty((6, 6))
    for k in range(6):
        moved = y.astype(complex)
        moved[k] += 1e-30j
        J[:, k] = field(moved, p, 0.0).imag / 1e-30
    return J


def noisy(p, sigma, clock, runs, seed=0):
    """Potentials, shape (run, sample)."""
    run = integrate(
        JANSEN_RIT, clock, drive=[[p]], noise=[[sigma]], index=np.arange(runs), seed=seed
    )
    assert not run.diverged.any()
    return run.outputs["potential"][:, 0].astype(float)


@pytest.mark.parametrize("step", [1e-3, 5e-4])
def test_stationary_variance_is_that_of_the_linear_column(step):
    p, sigma, runs = 60.0, 0.1, 4096
    rest = at_rest(p)
    Q = np.zeros((6, 6))
    Q[4, 4] = (PUBLISHED["A"] * PUBLISHED["a"] * sigma) ** 2
    X = solve_continuous_lyapunov(jacobian(rest, p), -Q)
    expected = X[1, 1] + X[2, 2] - 2 * X[1, 2]
    every = round(0.3 / step)
    clock = Clock(0.0, 1.2, step=step, every=every, settle=1.0, antialias=False)
    # The expansion about rest holds: the noise moves v by a small part of the sigmoid's 1 / r.
    assert 0.005 < np.sqrt(expected) < 0.05
    # Samples .3 s apart are independent; their variance has a standard error of sqrt(2 / n).
    v = noisy(p, sigma, clock, runs) - (rest[1] - rest[2])
    assert v.size == runs * 5
    assert abs(v.mean()) < 4 * np.sqrt(expected / v.size) + 1e-4
    assert abs(v.var() / expected - 1) < 4 * np.sqrt(2 / v.size)


def spectra(x, sfreq, seconds):
    """Spectra of runs (Welch), shape (run, frequency)."""
    size = round(seconds * sfreq)
    x = x - x.mean()
    return signal.welch(x, sfreq, "hann", size, size // 2, detrend=False, axis=-1)


def test_weakly_driven_column_has_the_linear_spectrum():
    p, sigma, runs, seconds, sfreq = 60.0, 0.1, 512, 2.0, 500.0
    rest = at_rest(p)
    J = jacobian(rest, p)
    size = int(seconds * sfreq)
    # |H|^2 sigma^2 on a grid eight times finer, seen through the window of the estimate.
    grid = np.fft.fftfreq(8 * size, 1 / sfreq)
    source = np.zeros(6)
    source[4] = PUBLISHED["A"] * PUBLISHED["a"]
    H = np.linalg.solve(2j * np.pi * grid[:, None, None] * np.eye(6) - J, source[None, :, None])
    density = sigma**2 * np.abs(H[:, 1, 0] - H[:, 2, 0]) ** 2
    window = np.abs(np.fft.fft(signal.get_window("hann", size), 8 * size)) ** 2
    seen = np.fft.ifft(np.fft.fft(density) * np.fft.fft(window / window.sum())).real[::8]
    clock = Clock(0.0, 6.0 - 1 / sfreq, step=2.5e-4, every=8, settle=1.0, antialias=False)
    frequency, power = spectra(noisy(p, sigma, clock, runs), sfreq, seconds)
    band = (frequency >= 1) & (frequency <= 45)
    expected = 2 * seen[: size // 2 + 1][band]  # one-sided
    assert expected.max() > 10 * expected[-1]
    measured, error = power.mean(axis=0)[band], power.std(axis=0)[band] / np.sqrt(runs)
    assert (error < 0.06 * expected).all()
    z = (measured - expected) / error
    assert np.abs(z).max() < 4.5
    assert 0.5 < np.mean(z**2) < 1.6
    assert abs(measured.sum() / expected.sum() - 1) < 0.02


@pytest.mark.parametrize(("p", "sigma"), [(90.0, 1.0), (220.0, 2.0)], ids=["rest", "rhythm"])
def test_spectrum_does_not_depend_on_the_step(p, sigma):
    runs, found = 256, []
    for step, seed in [(5e-4, 1), (2.5e-4, 2)]:
        every = round(2e-3 / step)
        clock = Clock(0.0, 6.0 - 2e-3, step=step, every=every, settle=1.0, antialias=False)
        frequency, power = spectra(noisy(p, sigma, clock, runs, seed), 500.0, 2.0)
        band = (frequency >= 1) & (frequency <= 45)
        found.append(power[:, band])
    first, second = found
    error = np.sqrt((first.var(axis=0) + second.var(axis=0)) / runs)
    difference = first.mean(axis=0) - second.mean(axis=0)
    assert np.abs(difference / error).max() < 4.5
    assert np.mean((difference / error) ** 2) < 1.8
    # An error of sqrt(2) in the noise would be one of 2 in the spectrum.
    assert abs(first.mean() / second.mean() - 1) < 0.1
