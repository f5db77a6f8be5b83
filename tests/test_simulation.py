"""The engine, against an independent float64 column, closed forms and published values."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
import pytest
from scipy import signal, stats
from scipy.integrate import solve_ivp
from scipy.linalg import solve_continuous_lyapunov
from scipy.optimize import brentq
from scipy.special import ndtri

from nmm_infer._random import keys
from nmm_infer.errors import InputError
from nmm_infer.models import JANSEN_RIT, _math
from nmm_infer.simulation import Clock, integrate, volley
from nmm_infer.simulation.noise import standard_normal

# --- The oracle: Jansen and Rit (1995), equation 6, in float64. It shares no code with the package.


@dataclass
class Column:
    A: float = 3.25
    B: float = 22.0
    a: float = 100.0
    b: float = 50.0
    C: float = 135.0
    e0: float = 2.5
    v0: float = 6.0
    r: float = 0.56

    def sigm(self, v):
        return 2 * self.e0 / (1 + np.exp(self.r * (self.v0 - v)))

    def slope(self, v):
        return self.r * self.sigm(v) * (1 - self.sigm(v) / (2 * self.e0))

    def feedback(self, y0):
        """Excitatory and inhibitory rates that return to the pyramidal cells."""
        return (
            0.8 * self.C * self.sigm(self.C * y0),
            0.25 * self.C * self.sigm(0.25 * self.C * y0),
        )

    def field(self, y, p):
        y0, y1, y2, y3, y4, y5 = y
        excite, inhibit = self.feedback(y0)
        return np.array(
            [
                y3,
                y4,
                y5,
                self.A * self.a * self.sigm(y1 - y2) - 2 * self.a * y3 - self.a**2 * y0,
                self.A * self.a * (p + excite) - 2 * self.a * y4 - self.a**2 * y1,
                self.B * self.b * inhibit - 2 * self.b * y5 - self.b**2 * y2,
            ]
        )

    def jacobian(self, y):
        y0, y1, y2 = y[:3]
        J = np.zeros((6, 6))
        J[:3, 3:] = np.eye(3)
        pyramidal = self.A * self.a * self.slope(y1 - y2)
        J[3] = [-(self.a**2), pyramidal, -pyramidal, -2 * self.a, 0, 0]
        excite = 0.8 * self.C**2 * self.slope(self.C * y0)
        J[4] = [self.A * self.a * excite, -(self.a**2), 0, 0, -2 * self.a, 0]
        inhibit = 0.25**2 * self.C**2 * self.slope(0.25 * self.C * y0)
        J[5] = [self.B * self.b * inhibit, 0, -(self.b**2), 0, 0, -2 * self.b]
        return J

    def drive_at(self, v):
        """The drive p at which v = y1 - y2 is an equilibrium (Grimbert and Faugeras 2006)."""
        excite, inhibit = self.feedback(self.A / self.a * self.sigm(v))
        return (v + self.B / self.b * inhibit) * self.a / self.A - excite

    def rest(self, p):
        """The lowest equilibrium."""
        v = np.arange(-200.0, 60.0, 0.002)
        above = np.flatnonzero(self.drive_at(v) > p)[0]
        v = brentq(lambda x: self.drive_at(x) - p, v[above - 1], v[above], xtol=1e-13)
        y0 = self.A / self.a * self.sigm(v)
        excite, inhibit = self.feedback(y0)
        y1, y2 = self.A / self.a * (p + excite), self.B / self.b * inhibit
        return np.array([y0, y1, y2, 0, 0, 0])


def transient(t, onset, peak):
    """The visual transient of Jansen and Rit (1995, section 4), n = 7, w = 5 ms, peak height."""
    x = max(t - onset, 0.0) / 0.005
    return peak * (x / 7) ** 7 * np.exp(7 - x)


def oracle(columns, p, clock, onset, peak, W=None, K=0.0, focus=0):
    """Integrate coupled columns from their own rests; return y1 - y2, shape (node, sample)."""
    n = len(columns)
    W = np.zeros((n, n)) if W is None else W

    def field(t, flat):
        y = flat.reshape(n, 6)
        sent = [c.sigm(x[1] - x[2]) for c, x in zip(columns, y, strict=True)]
        out = np.empty((n, 6))
        for i, column in enumerate(columns):
            arriving = K * sum(W[i, j] * sent[j] for j in range(n))
            stimulus = transient(t, onset, peak) if i == focus else 0.0
            out[i] = column.field(y[i], p[i] + arriving + stimulus)
        return out.ravel()

    start = np.concatenate([c.rest(q) for c, q in zip(columns, p, strict=True)])
    times = clock.sample_times
    solution = solve_ivp(
        field,
        (clock.start - clock.settle, times[-1]),
        start,
        method="DOP853",
        t_eval=times,
        rtol=1e-9,
        atol=1e-10,
        max_step=0.005,
    )
    y = solution.y.reshape(n, 6, -1)
    return y[:, 1] - y[:, 2]


def random_column(rng):
    return Column(
        A=rng.uniform(2.6, 4.5),
        B=rng.uniform(17.6, 28.0),
        a=rng.uniform(70, 130),
        b=rng.uniform(35, 65),
        C=rng.uniform(100, 150),
        e0=rng.uniform(2.0, 3.0),
        v0=rng.uniform(5.5, 6.5),
        r=rng.uniform(0.5, 0.6),
    )


NAMES = ("A", "B", "a", "b", "C", "e0", "v0", "r")


def constants(columns):
    """Constants of one column a simulation."""
    return {name: np.array([[getattr(c, name)] for c in columns]) for name in NAMES}


# --- Trajectories


def test_volley_is_the_published_transient():
    times = np.linspace(-0.1, 0.3, 4001)
    rates = volley(times, [0.0, 0.05], [100.0, 40.0])
    expected = [[transient(t, s, q) for t in times] for s, q in [(0.0, 100.0), (0.05, 40.0)]]
    np.testing.assert_allclose(rates, expected, rtol=1e-5, atol=1e-5)
    assert abs(times[rates[1].argmax()] - 0.085) < 1.5e-4
    assert (rates[:, times < 0] == 0).all()


def test_single_columns_follow_the_oracle():
    rng = np.random.default_rng(0)
    columns = [random_column(rng) for _ in range(6)]
    p, peak = rng.uniform(0, 90, 6), rng.uniform(20, 200, 6)
    onset = rng.uniform(0.0, 0.1, 6)
    clock = Clock(0.0, 0.4, step=1e-4, every=40, settle=0.02)
    got = integrate(
        JANSEN_RIT,
        constants(columns),
        clock,
        drive=p[:, None],
        stimulus=volley(clock.step_times, onset, peak),
    )[:, 0]
    for i, column in enumerate(columns):
        expected = oracle([column], p[[i]], clock, onset[i], peak[i])[0]
        assert np.ptp(expected) > 0.5, "the volley must move the column"
        # Heun at .1 ms and float32 leave about 2e-4 of the excursion.
        np.testing.assert_allclose(got[i], expected, atol=1e-3 * np.ptp(expected))


@pytest.mark.parametrize("focus", [0, 2])
def test_coupled_network_follows_the_oracle(focus):
    rng = np.random.default_rng(1)
    columns = [random_column(rng) for _ in range(3)]
    W = np.array([[0.0, 1.0, 0.2], [0.1, 0.0, 0.0], [0.7, 0.0, 0.3]])
    p = np.array([40.0, 60.0, 20.0])
    clock = Clock(0.0, 0.4, step=1e-4, every=40, settle=0.1)
    got = integrate(
        JANSEN_RIT,
        {name: [[getattr(c, name) for c in columns]] for name in NAMES},
        clock,
        drive=p[None],
        weights=W,
        strength=25.0,
        stimulus=volley(clock.step_times, 0.02, 150.0),
        focus=focus,
    )[0]
    expected = oracle(columns, p, clock, 0.02, 150.0, W, 25.0, focus)
    transposed = oracle(columns, p, clock, 0.02, 150.0, W.T, 25.0, focus)
    tolerance = 1e-3 * np.ptp(expected)
    assert np.abs(transposed - expected).max(1).min() > 50 * tolerance
    np.testing.assert_allclose(got, expected, atol=tolerance)


def test_heun_scheme_converges_with_order_two():
    p, onset, peak = 0.0, 0.02, 200.0
    steps = np.array([4e-3, 2e-3, 1e-3])
    errors = []
    for step, every in zip(steps, [1, 2, 4], strict=True):
        clock = Clock(0.0, 0.3, step=step, every=every, settle=0.02)
        stimulus = volley(clock.step_times, onset, peak)
        got = integrate(JANSEN_RIT, {}, clock, drive=p, stimulus=stimulus)[0, 0]
        expected = oracle([Column()], [p], clock, onset, peak)[0]
        errors.append(np.sqrt(np.mean((got - expected) ** 2)))
    assert errors[-1] > 1e-4, "rounding must not hide the order"
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert ((orders > 1.8) & (orders < 2.4)).all(), orders


# --- Equilibria and published bifurcations


def test_equilibria_solve_the_equations_and_are_the_lowest():
    rng = np.random.default_rng(2)
    columns = [random_column(rng) for _ in range(100)]
    p = rng.uniform(-60, 320, 100)
    rest = JANSEN_RIT.equilibrium(
        p,
        **{k: v[:, 0] for k, v in constants(columns).items()},
        **{
            f"alpha_{i}": np.array(q)
            for i, q in zip([1, 2, 3, 4], [1, 0.8, 0.25, 0.25], strict=True)
        },
    )
    assert rest.shape == (6, 100)
    assert rest.dtype == np.float64
    for column, drive, y in zip(columns, p, rest.T, strict=True):
        residual = column.field(y, drive)[3:]
        scale = [column.A * column.a, column.A * column.a, column.B * column.b]
        np.testing.assert_allclose(residual / scale, 0, atol=1e-9)
        np.testing.assert_allclose(y, column.rest(drive), atol=1e-8)


def standard_rest(p):
    y = JANSEN_RIT.equilibrium(np.atleast_1d(p), **JANSEN_RIT.defaults)
    return y[1] - y[2]


def test_folds_of_the_standard_column():
    v = np.linspace(-5, 15, 2_000_001)
    p = Column().drive_at(v)
    turns = np.flatnonzero(np.diff(np.sign(np.diff(p)))) + 1
    upper, lower = p[turns]  # the low branch ends at the upper fold
    assert len(turns) == 2
    # Grimbert and Faugeras (2006): three equilibria between these drives.
    assert abs(upper - 113.59) < 0.05
    assert abs(lower + 41.30) < 0.05
    below, above = standard_rest([upper - 0.01, upper + 0.01])
    assert below < v[turns[0]] < v[turns[1]] < above


def test_hopf_point_of_the_standard_column():
    """The focus of the upper branch turns stable at p = 315.70 (Grimbert and Faugeras 2006)."""

    def growth(p):
        y = JANSEN_RIT.equilibrium(np.atleast_1d(p), **JANSEN_RIT.defaults)[:, 0]
        return np.linalg.eigvals(Column().jacobian(y)).real.max()

    assert abs(brentq(growth, 250, 400) - 315.70) < 0.05


def nudged(p, peak):
    clock = Clock(0.0, 6.0, step=1e-3, every=4, settle=0.0)
    stimulus = volley(clock.step_times, 0.0, peak)
    return clock, integrate(JANSEN_RIT, {}, clock, drive=p, stimulus=stimulus)[0, 0].astype(float)


def test_alpha_rhythm_at_drive_200():
    clock, x = nudged(200.0, 20.0)
    expected = oracle([Column()], [200.0], clock, 0.0, 20.0)[0]
    late, expected = x[-500:], expected[-500:]
    frequency, power = signal.periodogram(late - late.mean(), 250.0)
    assert 8 < frequency[power.argmax()] < 13
    assert late.std() > 1
    assert abs(late.std() / expected.std() - 1) < 0.01
    assert abs(late.mean() / expected.mean() - 1) < 0.01


@pytest.mark.parametrize("p", [60.0, 400.0])
def test_no_rhythm_where_the_rest_is_stable(p):
    _, x = nudged(p, 1.0)
    assert np.ptp(x[:250]) > 5e-3, "the nudge must arrive"
    assert np.ptp(x[-250:]) < 1e-3


# --- Noise


@numba.njit
def fill(key_0, key_1, counter):
    out = np.empty(counter.size, np.float32)
    for i in range(counter.size):
        out[i] = standard_normal(key_0[i], key_1[i], counter[i])
    return out


N = 1_000_000


def along(what, position=0):
    """Draw a million numbers over counters of one key, or over keys at one counter."""
    if what == "counters":
        key = np.repeat(keys(0, "noise", np.array([position])), N, axis=1)
        counter = np.arange(N, dtype=np.uint32)
    else:
        key = keys(0, "noise", np.arange(N))
        counter = np.full(N, position, np.uint32)
    return fill(key[0], key[1], counter).astype(float)


ways = pytest.mark.parametrize(
    ("what", "position"), [("counters", 0), ("counters", 77), ("keys", 0), ("keys", 5000)]
)


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
    np.testing.assert_allclose(fill(*key, counter), expected, rtol=3e-6, atol=1e-6)


@ways
def test_noise_is_standard_normal(what, position):
    z = along(what, position)
    assert np.isfinite(z).all()
    assert 4.4 < np.abs(z).max() < 5.4
    # Four standard errors of the mean, the variance and the fourth moment of N(0, 1).
    assert abs(z.mean()) < 4 / np.sqrt(N)
    assert abs(z.var() - 1) < 4 * np.sqrt(2 / N)
    assert abs((z**3).mean()) < 4 * np.sqrt(15 / N)
    assert abs((z**4).mean() - 3) < 4 * np.sqrt(96 / N)
    assert stats.kstest(z, "norm").pvalue > 1e-4


@ways
def test_neighbouring_draws_are_uncorrelated(what, position):
    z = along(what, position)
    for lag in (1, 2, 3, 16):
        first, second = z[:-lag], z[lag:]
        for function in (lambda x: x, np.square, np.abs):
            r = np.corrcoef(function(first), function(second))[0, 1]
            assert abs(r) < 4 / np.sqrt(N), (lag, r)


@pytest.mark.parametrize("what", ["counters", "keys"])
def test_neighbouring_streams_are_uncorrelated(what):
    first = along(what, 10)
    for position in (11, 12):
        second = along(what, position)
        assert abs(np.corrcoef(first, second)[0, 1]) < 4 / np.sqrt(N)
        assert abs(np.corrcoef(first**2, second**2)[0, 1]) < 4 / np.sqrt(N)


@pytest.mark.parametrize("step", [1e-3, 5e-4])
def test_stationary_variance_is_that_of_the_linear_column(step):
    p, sigma, runs = 60.0, 0.1, 4096
    column = Column()
    Q = np.zeros((6, 6))
    Q[4, 4] = (column.A * column.a * sigma) ** 2
    X = solve_continuous_lyapunov(column.jacobian(column.rest(p)), -Q)
    expected = X[1, 1] + X[2, 2] - 2 * X[1, 2]
    clock = Clock(0.0, 1.2, step=step, every=round(0.3 / step), settle=1.0)
    x = integrate(JANSEN_RIT, {}, clock, drive=p, noise=sigma, batch=runs)[:, 0].astype(float)
    # The expansion about rest holds: the noise moves v by a small part of the sigmoid's 1 / r.
    assert 0.005 < np.sqrt(expected) < 0.05
    # Samples .3 s apart are independent; their variance has a standard error of sqrt(2 / n).
    v = x - (column.rest(p)[1] - column.rest(p)[2])
    assert abs(v.mean()) < 4 * np.sqrt(expected / v.size) + 1e-4
    assert abs(v.var() / expected - 1) < 4 * np.sqrt(2 / v.size)


# --- The same bits, whatever the batch


def noisy_network(index, columns=40, **changes):
    index = np.asarray(index)
    rng = np.random.default_rng(5)
    values = {
        "A": rng.uniform(2.6, 4.5, (columns, 3)),
        "b": rng.uniform(35, 65, (columns, 3)),
    }
    strength, peak = rng.uniform(0, 20, columns), rng.uniform(0, 100, columns)
    focus = rng.integers(0, 3, columns)
    clock = Clock(0.0, 0.2, step=1e-3, every=4, settle=0.05)
    settings = {
        "drive": 90.0,
        "noise": 1.0,
        "weights": np.array([[0, 1.0, 0.2], [0.1, 0, 0], [0.7, 0, 0]]),
        "strength": strength[index],
        "stimulus": volley(clock.step_times, np.full(len(index), 0.02), peak[index]),
        "focus": focus[index],
        "seed": 3,
        "stream": "noise/training",
        "index": index + 1000,
    } | changes
    return integrate(JANSEN_RIT, {k: v[index] for k, v in values.items()}, clock, **settings)


def test_bits_do_not_depend_on_the_batch():
    whole = noisy_network(np.arange(40))
    assert whole.shape == (40, 3, 51)
    assert whole.dtype == np.float32
    assert np.unique(whole[:, 0, -1]).size == 40
    for index in ([13], [39], np.arange(17, 24), np.random.default_rng(6).permutation(40)):
        np.testing.assert_array_equal(noisy_network(index), whole[index])


def test_bits_do_not_depend_on_the_number_of_threads():
    before = numba.get_num_threads()
    if numba.config.NUMBA_NUM_THREADS < 2:
        pytest.skip("Numba has a single thread here")
    try:
        numba.set_num_threads(1)
        one = noisy_network(np.arange(40))
        numba.set_num_threads(2)
        two = noisy_network(np.arange(40))
    finally:
        numba.set_num_threads(before)
    np.testing.assert_array_equal(one, two)


def only_noise(**changes):
    clock = Clock(0.0, 2.0, step=1e-3, every=4, settle=0.0)
    settings = {"seed": 3, "stream": "a", "index": np.arange(16)} | changes
    x = integrate(JANSEN_RIT, {}, clock, drive=60.0, noise=0.1, **settings)[:, 0, 50:]
    return x - x.mean(1, keepdims=True)


@pytest.mark.parametrize(
    "change", [{"seed": 4}, {"stream": "b"}, {"index": np.arange(16, 32)}], ids=str
)
def test_another_seed_stream_or_index_gives_other_noise(change):
    first, second = only_noise(), only_noise(**change)
    np.testing.assert_array_equal(first, only_noise())
    r = [np.corrcoef(x, y)[0, 1] for x, y in zip(first, second, strict=True)]
    # Tens of independent values a run: the mean correlation of 16 runs has an error near .05.
    assert abs(np.mean(r)) < 0.2


def test_nodes_have_their_own_noise():
    clock = Clock(0.0, 0.5, step=1e-3, every=4, settle=0.0)
    x = integrate(JANSEN_RIT, {}, clock, drive=60.0, noise=0.1, weights=np.zeros((3, 3)), batch=64)
    last = x[:, :, -1] - x[:, :, -1].mean(0)
    assert np.abs(np.corrcoef(last.T)[np.triu_indices(3, 1)]).max() < 4 / np.sqrt(64)


# --- Elementary functions, clock and errors


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
    assert np.abs(each_exp(x) / np.exp(x.astype(float)) - 1).max() < 3e-7
    far = each_exp(np.array([-1e4, -87, 87, 1e4], np.float32))
    assert far[0] == far[1] > 0
    assert far[2] == far[3] < np.inf


def test_log_is_accurate():
    # The multiple of log 2 is rounded: the error grows with the size of the logarithm.
    for low, high, bound in [(0.71, 1.41, 1e-7), (2**-23, 1, 1.5e-6), (1e-37, 1e38, 1e-5)]:
        x = np.geomspace(low, high, 1_000_001).astype(np.float32)
        assert np.abs(each_log(x) - np.log(x.astype(float))).max() < bound


def test_clock_counts_steps_and_samples():
    clock = Clock(-0.1, 0.5, step=1e-3, every=4, settle=0.3)
    assert clock.settle_steps == 300
    np.testing.assert_allclose(clock.sample_times, -0.1 + 0.004 * np.arange(151))
    np.testing.assert_allclose(clock.step_times, -0.4 + 0.001 * np.arange(901))


@pytest.mark.parametrize(
    "times",
    [
        {"start": 1.0, "stop": 1.0},
        {"start": 0.0, "stop": 1.0, "step": 0.0},
        {"start": 0.0, "stop": 1.0, "settle": -0.1},
        {"start": 0.0, "stop": 1.0, "every": 0},
    ],
)
def test_impossible_times_are_refused(times):
    with pytest.raises(InputError, match="times"):
        Clock(**times)


def test_bad_input_is_refused():
    clock = Clock(0.0, 0.1)
    steps = len(clock.step_times)
    with pytest.raises(InputError, match="no parameter 'tau'"):
        integrate(JANSEN_RIT, {"A": 3.0, "tau": 1.0}, clock)
    with pytest.raises(InputError, match=r"square.*\(3, 2\)"):
        integrate(JANSEN_RIT, {}, clock, weights=np.ones((3, 2)))
    with pytest.raises(InputError, match="finite"):
        integrate(JANSEN_RIT, {}, clock, weights=np.array([[0, np.nan], [1, 0]]))
    with pytest.raises(InputError, match="stimulus must have shape"):
        integrate(JANSEN_RIT, {}, clock, stimulus=np.zeros((2, steps - 1), np.float32))
    with pytest.raises(InputError, match="stimulus must have shape"):
        integrate(
            JANSEN_RIT, {}, clock, stimulus=np.zeros((2, steps), np.float32), index=np.arange(3)
        )
