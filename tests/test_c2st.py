"""The classifier two-sample test against accuracies that are known in closed form."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from conftest import TOY_PRIOR
from scipy import stats

from nmm_infer.diagnostics import c2st_distance
from nmm_infer.errors import InputError
from nmm_infer.inference._c2st import c2st

N = 500
#: Four standard deviations of the accuracy of 1,000 independent guesses.
CHANCE = 4 * 0.5 / np.sqrt(2 * N)


def draws(seed: int, n: int = N) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, 3))


def test_equal_distributions_are_at_chance(random_state_guard: None) -> None:
    assert c2st(draws(0), draws(1)) == pytest.approx(0.5, abs=CHANCE)


def test_shifted_normals_have_the_accuracy_of_the_best_classifier() -> None:
    shift = np.array([1.0, 0.0, 0.0])
    best = stats.norm.cdf(0.5)  # P(correct) = Phi(|shift| / 2) = .69
    found = c2st(draws(0), draws(1) + shift)
    # A trained classifier is at most as good as the best one, but for chance.
    assert best - CHANCE - 0.02 < found < best + CHANCE
    far = c2st(draws(0), draws(1) + 20 * shift)
    assert far > 0.98  # a fold may lose a few


def test_units_do_not_matter() -> None:
    scale, origin = np.array([1e-3, 1.0, 1e3]), np.array([5.0, 0.0, -1e4])
    shift = np.array([1.0, 0.0, 0.0])
    one, other = draws(0, 200), draws(1, 200) + shift
    plain = c2st(one, other)
    assert c2st(scale * one + origin, scale * other + origin) == pytest.approx(plain, abs=0.01)


def test_a_dependence_that_no_marginal_shows_is_found() -> None:
    z = draws(0)
    correlated = z.copy()
    correlated[:, 1] = 0.95 * z[:, 0] + np.sqrt(1 - 0.95**2) * z[:, 1]
    assert c2st(correlated, draws(1)) > 0.7


def test_more_draws_of_one_set_do_not_lift_the_accuracy() -> None:
    # Guessing the larger set would be right in 80 % of cases.
    assert c2st(draws(0, 4 * N), draws(1)) == pytest.approx(0.5, abs=CHANCE)
    assert c2st(draws(0), draws(1), max_samples=200) == pytest.approx(0.5, abs=2 * CHANCE)


def test_the_seed_decides() -> None:
    one, other = draws(0, 60), draws(1, 60)
    first, again, *others = (c2st(one, other, seed=s) for s in (0, 0, 1, 2))
    assert first == again
    assert set(others) != {first}


def test_labelled_draws_are_matched_by_name() -> None:
    z = draws(0, 200), draws(1, 200) + 0.5
    one, other = (
        xr.DataArray(
            TOY_PRIOR.from_unconstrained(part),
            dims=("draw", "parameter"),
            coords=TOY_PRIOR.coords(),
        )
        for part in z
    )
    found = c2st_distance(one, other.isel(parameter=[2, 0, 1]).transpose(), TOY_PRIOR)
    assert found == pytest.approx(c2st(*z), abs=0.01)  # the way to units and back
    with pytest.raises(InputError, match="same parameters"):
        c2st_distance(one, other.isel(parameter=[0, 1]))


def test_bad_draws_are_refused() -> None:
    with pytest.raises(InputError, match="same parameters"):
        c2st(draws(0), draws(1)[:, :2])
    with pytest.raises(InputError, match="not finite"):
        c2st(draws(0), np.where(draws(1) > 3, np.nan, draws(1)) * np.inf)
    with pytest.raises(InputError, match="too few"):
        c2st(draws(0, 20), draws(1, 20))
