"""The prior, against distributions written out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import cumulative_trapezoid, trapezoid
from scipy.special import ndtr

from nmm_infer.errors import InputError
from nmm_infer.parameters import Parameter, Prior

A = Parameter("A", "mV", "uniform", 2.6, 4.5, symbol="$A$")
TAU = Parameter("tau", "s", "loguniform", 0.002, 0.2)
GAIN = Parameter("gain", "1", "lognormal", 3.0, 1.7)
SCALE = Parameter("scale", "nAm/mV", "signed_lognormal", 12.0, 2.0)
CONTINUOUS = [A, TAU, GAIN, SCALE]

# Distribution functions, and grids that hold all but 1e-8 of the mass.
CUMULATIVE = {
    "A": lambda x: np.clip((x - 2.6) / 1.9, 0, 1),
    "tau": lambda x: np.log(x / 0.002) / np.log(100),
    "gain": lambda x: ndtr(np.log(x / 3) / np.log(1.7)),
    "scale": lambda x: np.where(
        x < 0,
        0.5 * ndtr(-np.log(np.abs(x) / 12) / np.log(2)),
        0.5 + 0.5 * ndtr(np.log(np.abs(x) / 12) / np.log(2)),
    ),
}
_LOG = 12 * np.exp(np.linspace(-6, 6, 20_001) * np.log(2))
GRID = {
    "A": np.linspace(2.6, 4.5, 20_001),
    "tau": np.geomspace(0.002, 0.2, 20_001),
    "gain": 3 * np.exp(np.linspace(-6, 6, 20_001) * np.log(1.7)),
    "scale": np.concatenate([-_LOG[::-1], _LOG]),
}


@pytest.fixture
def prior():
    return Prior(CONTINUOUS)


each = pytest.mark.parametrize("parameter", CONTINUOUS, ids=lambda p: p.distribution)


@each
def test_cumulative_is_the_distribution_function(parameter):
    x = GRID[parameter.name]
    np.testing.assert_allclose(
        parameter.cumulative(x), CUMULATIVE[parameter.name](x), rtol=0, atol=1e-12
    )


@each
def test_quantile_inverts_cumulative(parameter):
    u = np.concatenate([np.linspace(0.0005, 0.9995, 2000), [1e-9, 1 - 1e-9]])
    np.testing.assert_allclose(parameter.cumulative(parameter.quantile(u)), u, rtol=0, atol=1e-12)


@each
def test_quantile_rises(parameter):
    assert (np.diff(parameter.quantile(np.linspace(0.001, 0.999, 999))) > 0).all()


@each
def test_density_integrates_to_the_distribution_function(parameter):
    x = GRID[parameter.name]
    density = np.exp(parameter.log_density(x))
    assert abs(trapezoid(density, x) - 1) < 1e-5
    # What the grid leaves out is below 1e-8; the trapezoids err by less than 1e-5.
    np.testing.assert_allclose(
        cumulative_trapezoid(density, x, initial=0), CUMULATIVE[parameter.name](x), atol=1e-5
    )


@pytest.mark.parametrize("parameter", [A, TAU], ids=lambda p: p.distribution)
def test_density_vanishes_outside_the_bounds(parameter):
    outside = [parameter.low * 0.99, parameter.high * 1.01]
    assert (parameter.log_density(outside) == -np.inf).all()


def test_signed_lognormal_has_a_fair_sign_and_its_median_magnitude():
    draws = Prior([SCALE]).sample(100_000, seed=0).values[:, 0]
    assert abs((draws > 0).mean() - 0.5) < 4 * 0.5 / np.sqrt(100_000)
    assert abs(np.median(np.abs(draws)) / 12 - 1) < 0.015


def test_fixed_parameter_has_one_value():
    fixed = Parameter("e0", "1/s", "fixed", 2.5)
    assert (fixed.quantile([0.01, 0.5, 0.99]) == 2.5).all()
    assert fixed.cumulative([2.4, 2.5, 2.6]).tolist() == [0, 1, 1]
    assert fixed.log_density([2.4, 2.5]).tolist() == [-np.inf, 0]
    assert (Prior([A, fixed]).sample(5, seed=0).sel(parameter="e0") == 2.5).all()


def test_sample_is_labelled(prior):
    theta = prior.sample(11, seed=0)
    assert theta.dims == ("simulation", "parameter")
    assert theta.shape == (11, 4)
    assert theta.parameter.values.tolist() == ["A", "tau", "gain", "scale"]
    assert theta.unit.values.tolist() == ["mV", "s", "1", "nAm/mV"]
    assert theta.simulation.values.tolist() == list(range(11))


def test_samples_follow_their_distributions_and_are_independent(prior):
    theta = prior.sample(50_000, seed=4)
    for name, cumulative in CUMULATIVE.items():
        u = cumulative(theta.sel(parameter=name).values)
        assert stats.kstest(u, "uniform").pvalue > 1e-4, name
    off = stats.spearmanr(theta.values).statistic[np.triu_indices(4, 1)]
    assert np.abs(off).max() < 4 / np.sqrt(50_000)


def test_first_draws_do_not_depend_on_their_number(prior):
    few, many = prior.sample(10, seed=1), prior.sample(1000, seed=1)
    np.testing.assert_array_equal(few.values, many.values[:10])


def test_streams_and_seeds_differ(prior):
    first = prior.sample(100, seed=1, stream="prior/training")
    for other in (
        prior.sample(100, seed=1, stream="prior/test"),
        prior.sample(100, seed=2, stream="prior/training"),
    ):
        assert not np.isin(other.values, first.values).any()
    np.testing.assert_array_equal(first, prior.sample(100, seed=1, stream="prior/training"))


def test_probit_round_trip(prior):
    z = np.random.default_rng(0).uniform(-5, 5, (2000, 4))
    np.testing.assert_allclose(prior.to_unconstrained(prior.from_unconstrained(z)), z, atol=1e-8)
    theta = prior.sample(2000, seed=0)
    np.testing.assert_allclose(
        prior.from_unconstrained(prior.to_unconstrained(theta)), theta.values, rtol=1e-9
    )


def test_prior_is_standard_normal_in_probit_space(prior):
    z = prior.to_unconstrained(prior.sample(50_000, seed=2))
    for column in z.T:
        assert stats.kstest(column, "norm").pvalue > 1e-4
    assert prior.to_torch().event_shape == (4,)


def test_edges_of_a_range_stay_finite():
    z = Prior([A]).to_unconstrained([[2.6], [4.5]])
    assert np.isfinite(z).all()
    assert z[0, 0] < -7.5 and z[1, 0] > 7.5


def test_log_jacobian_is_the_derivative_of_the_map(prior):
    z = np.random.default_rng(1).uniform(-2.5, 2.5, (500, 4))
    z[np.abs(z[:, 3]) < 0.05, 3] = 0.5  # the signed log-normal map is singular at 0
    h = 1e-6
    slope = (prior.from_unconstrained(z + h) - prior.from_unconstrained(z - h)) / (2 * h)
    np.testing.assert_allclose(prior.log_jacobian(z), np.log(slope).sum(1), atol=1e-5)


def test_density_in_theta_is_the_normal_density_minus_log_jacobian(prior):
    theta = prior.sample(500, seed=3)
    expected = (
        np.log(1 / 1.9)
        - np.log(theta.sel(parameter="tau") * np.log(100))
        + stats.norm.logpdf(np.log(theta.sel(parameter="gain") / 3), scale=np.log(1.7))
        - np.log(theta.sel(parameter="gain"))
        + stats.norm.logpdf(np.log(np.abs(theta.sel(parameter="scale")) / 12), scale=np.log(2))
        - np.log(2 * np.abs(theta.sel(parameter="scale")))
    )
    z = prior.to_unconstrained(theta)
    normal = -0.5 * (z**2).sum(1) - 2 * np.log(2 * np.pi)
    np.testing.assert_allclose(prior.log_prob(theta), expected, atol=1e-9)
    np.testing.assert_allclose(normal - prior.log_jacobian(z), expected, atol=1e-6)


def test_columns_are_found_by_name(prior):
    theta = prior.sample(20, seed=0)
    shuffled = theta.sel(parameter=["scale", "A", "gain", "tau"])
    assert not np.array_equal(shuffled.values, theta.values)
    np.testing.assert_array_equal(prior.values(shuffled), theta.values)
    np.testing.assert_array_equal(prior.log_prob(shuffled), prior.log_prob(theta))
    np.testing.assert_array_equal(
        prior.to_unconstrained(shuffled), prior.to_unconstrained(theta.values)
    )
    some = prior.select(["gain", "A"])
    assert some.names == ["gain", "A"]
    np.testing.assert_array_equal(some.values(theta), theta.values[:, [2, 0]])


def test_dictionary_round_trip():
    prior = Prior([*CONTINUOUS, Parameter("e0", "1/s", "fixed", 2.5, source="a paper")])
    assert Prior.from_dict(prior.to_dict()) == prior
    assert Prior.from_dict(prior.to_dict()[::-1]) != prior


def test_errors_name_the_parameter(prior):
    with pytest.raises(InputError, match="'A' is given more than once"):
        Prior([A, TAU, A])
    with pytest.raises(InputError, match="at least one"):
        Prior([])
    with pytest.raises(InputError, match="'omega'"):
        prior["omega"]
    with pytest.raises(InputError, match=r"lacks the parameter\(s\) gain, scale"):
        prior.values(prior.sample(3, seed=0).sel(parameter=["A", "tau"]))
    with pytest.raises(InputError, match="expected 4"):
        prior.values(np.zeros((3, 5)))


@pytest.mark.parametrize(
    ("distribution", "low", "high"),
    [
        ("uniform", 2.0, 2.0),
        ("uniform", 3.0, 2.0),
        ("uniform", 1.0, np.inf),
        ("uniform", np.nan, 1.0),
        ("uniform", 1.0, np.nan),
        ("loguniform", 0.0, 1.0),
        ("loguniform", -1.0, 1.0),
        ("loguniform", 2.0, 1.0),
        ("lognormal", 0.0, 2.0),
        ("lognormal", 1.0, 1.0),
        ("signed_lognormal", -1.0, 2.0),
        ("signed_lognormal", 1.0, 0.5),
        ("fixed", np.inf, np.nan),
    ],
)
def test_bad_bounds_are_refused(distribution, low, high):
    with pytest.raises(InputError, match="'x'"):
        Parameter("x", "1", distribution, low, high)


def test_a_distribution_that_is_none() -> None:
    with pytest.raises(InputError, match="no distribution 'gamma'"):
        Parameter("x", "1", "gamma", 1.0, 2.0)  # type: ignore[arg-type]


def test_part_of_another_prior() -> None:
    A, b = Parameter("A", "mV", "uniform", 2.0, 4.0), Parameter("b", "1/s", "fixed", 50.0)
    whole = Prior([A, b])
    Prior([b]).check_part_of(whole, "the study")
    wide = Prior([Parameter("A", "mV", "uniform", 1.0, 4.0)])
    wide.check_part_of(whole, "the study", ranges=False)
    with pytest.raises(InputError, match=r"uniform \(1, 4\) is not that of the study, uniform"):
        wide.check_part_of(whole, "the study")
