"""Diagnostics must pass what is right and fail what is wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import TOY_PRIOR, ToyObserver, toy_campaign
from scipy import stats

from nmm_infer.diagnostics import (
    MAX_GAP,
    calibrate,
    misspecification,
    predictive_check,
    rank_band,
    score_estimator,
)
from nmm_infer.errors import InputError
from nmm_infer.inference import PosteriorEstimator
from nmm_infer.observation import Sequences


class Given:
    """The exact posterior of the toy problem, bent by a factor of its width or a shift."""

    def __init__(self, toy: ToyObserver, width: float = 1.0, shift: float = 0.0) -> None:
        self.toy, self.width, self.shift = toy, width, shift
        self.prior_ = TOY_PRIOR
        self.covariance = toy.covariance * width**2

    def flat(self, sequences: Sequences) -> np.ndarray:
        return sequences.flat

    def _mean(self, x: np.ndarray) -> np.ndarray:
        return self.toy.mean(x) + self.shift * np.sqrt(np.diag(self.toy.covariance))

    def _sample(self, x: np.ndarray, n_draws: int, seed: int) -> np.ndarray:
        white = np.random.default_rng(seed).standard_normal((len(x), n_draws, 3))
        root = np.linalg.cholesky(self.covariance)
        return (self._mean(x)[:, None] + white @ root.T).astype(np.float32)

    def _log_prob(self, z: np.ndarray, x: np.ndarray) -> np.ndarray:
        return stats.multivariate_normal(np.zeros(3), self.covariance).logpdf(z - self._mean(x))


@pytest.fixture(scope="module")
def fresh(toy: ToyObserver) -> Any:
    return toy.view(toy_campaign(2000, "fresh"), "fresh")


def test_the_exact_posterior_passes(toy: ToyObserver, fresh: Any, random_state_guard: None) -> None:
    result = calibrate(Given(toy), fresh)
    assert result.attrs["passed"] == 1
    assert (result["gap"] < result.attrs["band"]).all()
    assert result.attrs["tarp_p_value"] > 0.01
    np.testing.assert_allclose(result["coverage"].sel(level=0.5), 0.5, atol=0.04)
    np.testing.assert_allclose(result["coverage"].sel(level=0.9), 0.9, atol=0.03)
    np.testing.assert_allclose(result["contraction"], 1 - np.diag(toy.covariance), atol=0.03)
    # Of an exact posterior mean: error = posterior variance, slope = r2 = contraction.
    np.testing.assert_allclose(result["r2"], result["contraction"], atol=0.05)
    np.testing.assert_allclose(result["slope"], result["contraction"], atol=0.05)
    np.testing.assert_allclose(result["nrmse"] ** 2, np.diag(toy.covariance), atol=0.05)
    information = -0.5 * np.log(np.linalg.det(toy.covariance))
    gain = result["log_density_gain"]
    assert float(gain.mean()) == pytest.approx(information, abs=0.1)
    assert result["rank"].shape == (2000, 3)
    assert 0 < float(result["rank"].min()) and float(result["rank"].max()) < 1
    assert (result.attrs["runs"], result.attrs["draws"]) == (2000, 64)
    assert list(result["parameter"].values) == TOY_PRIOR.names


@pytest.mark.parametrize(("width", "shift"), [(0.6, 0.0), (1.6, 0.0), (1.0, 0.4), (1.0, -0.4)])
def test_wrong_posteriors_fail(toy: ToyObserver, fresh: Any, width: float, shift: float) -> None:
    result = calibrate(Given(toy, width, shift), fresh)
    assert result.attrs["passed"] == 0
    assert (result["gap"] > max(result.attrs["band"], MAX_GAP)).all()
    inside = result["coverage"].sel(level=0.9)
    if width < 1:
        assert (inside < 0.8).all()
    if width > 1:
        assert (inside > 0.95).all()
    exact = calibrate(Given(toy), fresh)
    assert result["log_density_gain"].mean() < exact["log_density_gain"].mean() - 0.05


def test_runs_that_calibrate_nothing(toy: ToyObserver, fresh: Any) -> None:
    with pytest.raises(InputError, match="1 runs say nothing"):
        calibrate(Given(toy), fresh.select(np.arange(1)))
    for ask in (calibrate, score_estimator):
        with pytest.raises(InputError, match=r"observer\.view\(campaign\), not a Campaign"):
            ask(Given(toy), toy_campaign(50))


def test_the_prior_is_calibrated_and_useless(toy: ToyObserver, fresh: Any) -> None:
    class PriorOnly(Given):
        def _mean(self, x: np.ndarray) -> np.ndarray:
            return np.zeros((len(x), 3))

    estimator = PriorOnly(toy)
    estimator.covariance = np.eye(3)
    result = calibrate(estimator, fresh)
    assert result.attrs["passed"] == 1
    np.testing.assert_allclose(result["contraction"], 0.0, atol=0.03)
    np.testing.assert_allclose(result["log_density_gain"], 0.0, atol=1e-4)


@pytest.mark.parametrize(("n", "n_parameters"), [(300, 1), (300, 5), (50, 3)])
def test_rank_band_holds_as_often_as_it_says(n: int, n_parameters: int) -> None:
    u = np.sort(np.random.default_rng(0).random((4000, n_parameters, n)), axis=-1)
    k = np.arange(n)
    gap = np.maximum((k + 1) / n - u, u - k / n).max(axis=(-1, -2))
    inside = (gap < rank_band(n, n_parameters)).mean()
    assert inside == pytest.approx(0.95, abs=0.012)
    assert rank_band(n, n_parameters, 0.99) > rank_band(n, n_parameters)


@pytest.fixture(scope="module")
def predicted() -> np.ndarray:
    rng = np.random.default_rng(0)
    t = np.linspace(0, 1, 40)
    wave = rng.normal(3.0, 0.5, (300, 1)) * np.sin(2 * np.pi * t)
    return (wave + 0.5 * rng.standard_normal((300, 40))).astype(np.float32)


def test_a_possible_observation_is_not_flagged(predicted: np.ndarray) -> None:
    checks = [predictive_check(row, predicted) for row in predicted[:100]]
    assert np.mean([c["inside_90"] for c in checks]) == pytest.approx(0.9, abs=0.02)
    for name in ("p_size", "p_distance"):
        values = [c[name] for c in checks]
        assert np.mean(np.array(values) < 0.1) < 0.2
        assert np.mean(values) == pytest.approx(0.5, abs=0.1)


def test_impossible_observations_are_flagged(predicted: np.ndarray) -> None:
    loud = predictive_check(5 * predicted[0], predicted)
    assert loud["p_size"] == 0
    assert loud["p_distance"] == 0
    assert loud["inside_90"] < 0.5
    assert predictive_check(0 * predicted[0], predicted)["p_size"] == 0
    # Of the right size, but of another shape.
    other = np.roll(predicted.mean(axis=0), 20)
    shape = predictive_check(other * 1.02, predicted)
    assert shape["p_distance"] == 0
    assert shape["inside_90"] < 0.5


def test_misspecification_tells_far_from_simulated(
    toy: ToyObserver, toy_posterior: PosteriorEstimator, random_state_guard: None
) -> None:
    training = toy.view(toy_campaign(200, "train"), "train").sequences()
    simulated = toy.view(toy_campaign(3, "own"), "own").sequences()
    own = [
        misspecification(
            toy_posterior, Sequences(simulated.values[k : k + 1], np.zeros(1, int)), training
        )["p_value"]
        for k in range(3)
    ]
    assert np.median(own) > 0.1
    spectrum = np.exp(20 * np.sin(np.arange(toy.protocol.n_steps)))[None].astype(np.float32)
    far = misspecification(toy_posterior, Sequences(spectrum, np.zeros(1, int)), training)
    assert far["p_value"] < 0.02
    assert far["mmd"] > 0
