"""Scores against closed forms: z ~ N(0, 1) seen through noise has a normal posterior."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from conftest import TOY_PRIOR
from scipy import stats
from torchmetrics.functional.regression import continuous_ranked_probability_score

from nmm_infer.diagnostics import holm, paired_comparison, score, score_estimator, score_table
from nmm_infer.diagnostics.scores import MIN_SPREAD, SHRUNK, crps
from nmm_infer.errors import InputError

#: Share of the prior's variance that an observation takes away, parameter by parameter.
C = np.array([0.9, 0.5, 0.1])
NAMES = TOY_PRIOR.names


def problem(n: int, draws: int, seed: int = 0, width: float = 1.0) -> tuple[Any, np.ndarray, Any]:
    """True parameters, draws of their exact posterior in probit space, and its mean."""
    rng = np.random.default_rng(seed)
    mean = np.sqrt(C) * rng.standard_normal((n, 3))
    z = mean + np.sqrt(1 - C) * rng.standard_normal((n, 3))
    theta = TOY_PRIOR.label(TOY_PRIOR.from_unconstrained(z))
    spread = width * np.sqrt(1 - C)
    return theta, mean[:, None] + spread * rng.standard_normal((n, draws, 3)), mean


@pytest.mark.parametrize("draws", [8, 100])
def test_exact_posterior_has_the_scores_of_theory(draws: int) -> None:
    n = 20_000
    theta, drawn, _ = problem(n, draws)
    found = score(drawn, theta, TOY_PRIOR)
    width = np.sqrt(1 - C)
    # Of an exact posterior: R² = slope = contraction = spread² = r², and the mean CRPS of a
    # normal is sd / sqrt(pi) (Gneiting and Raftery 2007). No bias remains from 8 draws, but in r.
    # Tolerance: 4 standard errors of a mean of squares, sqrt(2 / n) = .01.
    for name, expected in {
        "r2": C, "nrmse": width, "slope": C, "spread": np.sqrt(C), "contraction": C,
        "crps": width / np.sqrt(np.pi), "crps_skill": 1 - width,
    }.items():  # fmt: skip
        np.testing.assert_allclose(found[name], expected, atol=0.04, err_msg=name)
    # The mean of m draws adds (1 - c) / m to the variance c of the estimate.
    r = C / np.sqrt(C + (1 - C) / draws)
    np.testing.assert_allclose(found["r"], r, atol=4 / np.sqrt(n))
    # Ranks: any number of draws; 4 standard errors of a share.
    for level in (0.5, 0.9):
        np.testing.assert_allclose(
            found["coverage"].sel(level=level), level, atol=4 * 0.5 / np.sqrt(n)
        )
    assert found["beats_mean"].all()
    assert not found["collapsed"].any()
    assert list(found["parameter"].values) == NAMES
    assert list(found["unit"].values) == TOY_PRIOR.units
    assert found.attrs["runs"] == n and found.attrs["draws"] == draws


def test_labelled_draws_equal_draws_in_probit_space() -> None:
    theta, drawn, _ = problem(50, 10)
    labelled = xr.DataArray(
        TOY_PRIOR.from_unconstrained(drawn), dims=("simulation", "draw", "parameter"),
        coords=TOY_PRIOR.coords(),
    )  # fmt: skip
    shuffled = labelled.transpose("draw", "parameter", "simulation").isel(parameter=[2, 0, 1])
    xr.testing.assert_allclose(
        score(shuffled, theta.isel(parameter=[1, 2, 0]), TOY_PRIOR),
        score(drawn, theta, TOY_PRIOR),
        rtol=1e-6,  # the way to units and back
    )


def test_intervals_hold_as_often_as_they_say() -> None:
    """Over repetitions with 300 runs: 95 % of intervals hold the value of theory."""
    width, repetitions = np.sqrt(1 - C), 200
    truth = {
        "r2": C, "nrmse": width, "slope": C, "crps": width / np.sqrt(np.pi), "gain": C,
        "crps_skill": 1 - width,
    }  # fmt: skip
    held = {name: np.zeros(3) for name in truth} | {"coverage": np.zeros(3)}
    for seed in range(repetitions):
        theta, drawn, _ = problem(300, 20, seed)
        found = score(drawn, theta, TOY_PRIOR)
        for name, value in truth.items():
            low, high = found[f"{name}_interval"].values.T
            held[name] += (low < value) & (value < high)
        low, high = found["coverage_interval"].sel(level=0.5).values.T
        held["coverage"] += (low < 0.5) & (0.5 < high)
    # 4 standard errors of a share of .95 among 200 are .062.
    for name, count in held.items():
        np.testing.assert_allclose(count / repetitions, 0.95, atol=0.062, err_msg=name)


def test_correlation_has_the_standard_error_of_theory() -> None:
    theta, _, mean = problem(4000, 2)
    found = score(mean, theta, TOY_PRIOR)
    half = np.diff(found["r_interval"].values, axis=-1)[:, 0] / 2
    # (1 - rho^2) / sqrt(n) for normal pairs; the jackknife knows it to sqrt(2 / n), about 5 %.
    np.testing.assert_allclose(half, 1.96 * (1 - C) / np.sqrt(4000), rtol=0.1)


def test_wrong_widths_and_shifts_show() -> None:
    theta, narrow, _ = problem(5000, 50, width=0.5)
    found = score(narrow, theta, TOY_PRIOR)
    # P(|N(0, 1)| < q width) with q = 1.645, width 1/2.
    expected = 2 * stats.norm.cdf(1.645 * 0.5) - 1
    np.testing.assert_allclose(found["coverage"].sel(level=0.9), expected, atol=0.04)
    exact = score(problem(5000, 50)[1], theta, TOY_PRIOR)
    assert (found["crps"] > exact["crps"]).all()
    # CRPS of N(m, s²) where the truth is N(m, t²): (sqrt(2 (s² + t²)) - s) / sqrt(pi).
    s = 0.5
    ratio = np.sqrt(2 * (s**2 + 1)) - s
    np.testing.assert_allclose(found["crps"] / exact["crps"], ratio, rtol=0.03)


def test_point_estimates() -> None:
    theta, _, mean = problem(20_000, 2)
    found = score(mean, theta, TOY_PRIOR)
    np.testing.assert_allclose(found["r2"], C, atol=0.04)
    np.testing.assert_allclose(found["r"], np.sqrt(C), atol=0.03)
    # The CRPS of a point is the absolute error: sd sqrt(2 / pi).
    np.testing.assert_allclose(found["crps"], np.sqrt(2 / np.pi * (1 - C)), atol=0.03)
    assert np.isnan(found["coverage"]).all() and np.isnan(found["contraction"]).all()
    assert found["beats_mean"].all()


def test_collapsed_predictors_are_flagged() -> None:
    theta, _, mean = problem(1000, 2)
    z = TOY_PRIOR.to_unconstrained(theta)
    tiny = score(1e-6 * z + 0.3, theta, TOY_PRIOR)
    np.testing.assert_allclose(tiny["r"], 1.0, atol=1e-6)  # the trap: perfect correlation
    np.testing.assert_allclose(tiny["spread"], 1e-6, rtol=1e-3)
    np.testing.assert_allclose(tiny["slope"], 1e-6, rtol=1e-3)
    assert tiny["collapsed"].all() and not tiny["beats_mean"].any()
    constant = score(0 * z, theta, TOY_PRIOR)
    assert np.isnan(constant["r"]).all() and constant["collapsed"].all()
    # Above the first threshold, but far less than its correlation warrants.
    share = 2 * MIN_SPREAD
    assert share < SHRUNK * 0.9
    assert score(share * z, theta, TOY_PRIOR)["collapsed"].all()
    fair = score(mean, theta, TOY_PRIOR)
    assert not fair["collapsed"].any()


def test_the_prior_beats_nothing() -> None:
    theta, _, _ = problem(2000, 2)
    draws = np.random.default_rng(5).standard_normal((2000, 400, 3))
    found = score(draws, theta, TOY_PRIOR)
    assert not found["beats_mean"].any()
    assert found["collapsed"].all()
    np.testing.assert_allclose(found["crps_skill"], 0.0, atol=1e-2)
    np.testing.assert_allclose(found["contraction"], 0.0, atol=0.01)
    # Worse than the mean: no gain, negative R².
    z = TOY_PRIOR.to_unconstrained(theta)
    wrong = score(-z, theta, TOY_PRIOR)
    np.testing.assert_allclose(wrong["r2"], 1 - 4 * (z**2).mean(0) / z.var(0), rtol=1e-9)
    assert not wrong["beats_mean"].any()


def test_a_stratum_is_scored_against_its_own_prior() -> None:
    """Only z > 0 is asked about: mean sqrt(2 / pi), variance 1 - 2 / pi (half-normal)."""
    rng = np.random.default_rng(2)
    half = np.abs(rng.standard_normal((4000, 3)))
    theta, accepted = (
        TOY_PRIOR.label(TOY_PRIOR.from_unconstrained(part)) for part in (half[:1000], half[1000:])
    )
    draws = np.abs(rng.standard_normal((1000, 100, 3)))
    found = score(draws, theta, TOY_PRIOR, accepted=accepted)
    np.testing.assert_allclose(found["contraction"], 0.0, atol=0.08)
    np.testing.assert_allclose(found["nrmse"], 1.0, atol=0.08)
    np.testing.assert_allclose(found["crps_skill"], 0.0, atol=0.03)
    np.testing.assert_allclose(found["gain"], 0.0, atol=0.03)
    whole = score(draws, theta, TOY_PRIOR)  # against N(0, 1) it would seem to have learned
    assert (whole["contraction"] > 0.5).all() and whole["beats_mean"].all()


def test_crps_is_fair_and_agrees_with_torchmetrics() -> None:
    rng = np.random.default_rng(0)
    draws, truth = rng.standard_normal((200, 7)), rng.standard_normal(200)
    own = crps(draws, truth)
    half = np.abs(draws[:, :, None] - draws[:, None]).mean(axis=(1, 2)) / 2
    biased = float(
        continuous_ranked_probability_score(torch.as_tensor(draws), torch.as_tensor(truth))
    )
    # torchmetrics counts a draw's distance to itself: m / (m - 1) too little spread.
    assert own.mean() + half.mean() * (7 / 6 - 1) == pytest.approx(biased, rel=1e-6)
    # Two draws of a standard normal, truth 0: expectation (sqrt(2) - 1) / sqrt(pi).
    many = crps(rng.standard_normal((100_000, 2)), np.zeros(100_000))
    assert many.mean() == pytest.approx((np.sqrt(2) - 1) / np.sqrt(np.pi), abs=0.01)
    with pytest.raises(InputError, match="two draws"):
        crps(draws[:, :1], truth)


class Toy:
    """An estimator that knows the answer."""

    prior_ = TOY_PRIOR

    def flat(self, sequences: Any) -> Any:
        return sequences.flat

    def _sample(self, x: np.ndarray, n_draws: int, seed: int) -> np.ndarray:
        white = np.random.default_rng(seed).standard_normal((len(x), n_draws, 3))
        return x[:, None] + np.sqrt(1 - C) * white


def test_estimators_are_scored_on_a_view() -> None:
    theta, _, mean = problem(1200, 2)
    view: Any = SimpleNamespace(theta=theta, sequences=lambda: SimpleNamespace(flat=mean))
    found = score_estimator(Toy(), view, n_draws=30, seed=1)
    np.testing.assert_allclose(found["contraction"], C, atol=0.03)
    xr.testing.assert_identical(found, score_estimator(Toy(), view, n_draws=30, seed=1))
    points = SimpleNamespace(
        prior_=TOY_PRIOR, predict=lambda _: TOY_PRIOR.label(TOY_PRIOR.from_unconstrained(mean))
    )
    np.testing.assert_allclose(
        score_estimator(points, view)["r2"], score(mean, theta, TOY_PRIOR)["r2"], rtol=1e-6
    )


def test_holm_agrees_with_a_worked_example() -> None:
    # p = .01, .04, .03, .005: smallest first 4 x .005, 3 x .01, 2 x .03, then max(.06, .04).
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm(np.array([0.6, 0.9])), [1.0, 1.0])


def test_holm_keeps_the_level_over_all_cells() -> None:
    p = np.random.default_rng(0).random((4000, 12))
    false = np.mean([(holm(row) < 0.05).any() for row in p])
    assert false == pytest.approx(0.05, abs=4 * np.sqrt(0.05 * 0.95 / 4000))


def test_paired_comparison() -> None:
    rng = np.random.default_rng(3)
    shared = rng.gamma(1.0, 1.0, (400, 3, 2))  # difficulty of a run, far larger than what differs
    dims = ("simulation", "parameter", "level")
    coords = {"parameter": NAMES, "level": [0, 10]}
    a = xr.DataArray(shared + 0.01 * rng.standard_normal(shared.shape), dims=dims, coords=coords)
    b = a + 0.05 * rng.standard_normal(shared.shape)
    b = b + xr.DataArray([0.02, 0.0, -0.02], dims="parameter", coords={"parameter": NAMES})
    found = paired_comparison(a, b)
    np.testing.assert_array_equal(found["verdict"], [[1, 1], [0, 0], [-1, -1]])
    one = stats.ttest_rel(b[:, 0, 1], a[:, 0, 1])
    cell = found.sel(parameter=NAMES[0], level=10)
    assert float(cell["p_value"]) == pytest.approx(one.pvalue)
    low, high = one.confidence_interval(0.95)
    np.testing.assert_allclose(cell["difference_interval"], [low, high])
    np.testing.assert_allclose(
        found["p_holm"].values.ravel(), holm(found["p_value"].values.ravel())
    )
    same = paired_comparison(a, a)
    assert (same["verdict"] == 0).all() and (same["p_holm"] == 1).all()
    with pytest.raises(InputError, match="same runs"):
        paired_comparison(a, b.isel(parameter=[0, 1]))


def test_table_shows_correlation_only_in_company() -> None:
    theta, drawn, _ = problem(300, 20)
    z = TOY_PRIOR.to_unconstrained(theta)
    scores = {
        "npe": score(drawn, theta, TOY_PRIOR),
        "tiny": score(1e-6 * z, theta, TOY_PRIOR),
    }
    text = score_table(scores).splitlines()
    assert len(text) == 2 + 6 + 1
    heads = text[0].split(" | ")
    assert {"R²", "nRMSE", "slope", "r", "50 %", "90 %", "CRPS skill"} <= set(heads)
    assert all(row.count("|") == text[0].count("|") for row in text)
    assert sum("collapsed" in row for row in text) == 3
    assert text[-1].startswith("| predict the mean |")


@pytest.mark.parametrize(
    ("shape", "message"), [((40, 5, 3), "shape"), ((50, 5, 2), "shape"), ((50,), "shape")]
)
def test_bad_shapes_are_refused(shape: tuple[int, ...], message: str) -> None:
    theta, _, _ = problem(50, 2)
    with pytest.raises(InputError, match=message):
        score(np.zeros(shape), theta, TOY_PRIOR)
    bad = np.zeros((50, 5, 3))
    bad[3, 2, 1] = np.nan
    with pytest.raises(InputError, match="not finite"):
        score(bad, theta, TOY_PRIOR)
