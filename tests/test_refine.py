"""Refinement: from a biased estimator to the posterior in closed form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from likelihood_oracles import Banana, Gaussian, Linear, Ridge, Stratum
from scipy import stats

from nmm_infer.errors import InputError
from nmm_infer.inference._c2st import c2st
from nmm_infer.inference._moves import move, resample
from nmm_infer.inference._proposal import (
    MixtureProposal,
    effective_sample_size,
    smoothed_weights,
)
from nmm_infer.inference.base import PosteriorMixin
from nmm_infer.inference.refine import Refined, refine
from nmm_infer.observation import Sequences

LINEAR = Linear()
Y = np.array([1.0, 2.0, 0.0])


def _estimator(
    likelihood: Linear, y: np.ndarray, n: int, shift: float, width: float, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Draws and log densities of a Gaussian off by ``shift`` posterior standard deviations."""
    covariance = width**2 * likelihood.covariance
    mean = likelihood.posterior_mean(y) + shift * np.sqrt(np.diag(likelihood.covariance))
    z = np.random.default_rng(seed).multivariate_normal(mean, covariance, n)
    return z, stats.multivariate_normal(mean, covariance).logpdf(z)


def _evidence(likelihood: Linear, y: np.ndarray) -> float:
    """log p(y) of the linear problem: y is N(0, G G' + I)."""
    matrix = likelihood.matrix
    return float(stats.multivariate_normal(cov=matrix @ matrix.T + np.eye(len(y))).logpdf(y))


def test_effective_sample_size_and_tail_in_closed_form() -> None:
    assert effective_sample_size(np.full(50, 0.02)) == pytest.approx(50)
    assert effective_sample_size(np.array([0.5, 0.5, 0.0])) == pytest.approx(2)
    # Target N(0, 1), proposal N(0, s^2): the mean square weight is s^2 / sqrt(2 s^2 - 1).
    s = np.sqrt(2.0)
    z = np.random.default_rng(0).normal(0, s, 20_000)
    weights, k, log_mean = smoothed_weights(stats.norm.logpdf(z) - stats.norm.logpdf(z, 0, s))
    expected = 20_000 * np.sqrt(3) / 2
    # Weights are bounded by sqrt(2): the size is known to well below a percent.
    assert effective_sample_size(weights) == pytest.approx(expected, rel=0.01)
    assert k < 0.3 and log_mean == pytest.approx(0, abs=0.02)
    # Proposal half as wide as the target: weights have no variance (2 s^2 < 1), and k says so.
    z = np.random.default_rng(0).normal(0, 0.5, 20_000)
    assert smoothed_weights(stats.norm.logpdf(z) - stats.norm.logpdf(z, 0, 0.5))[1] > 0.5
    nothing = smoothed_weights(np.full(100, -np.inf))
    assert nothing[1] == np.inf and np.isfinite(nothing[0]).all()


def test_mixture_is_a_density() -> None:
    rng = np.random.default_rng(0)
    draws = rng.standard_normal((2000, 2)) * [0.1, 2.0] + [3.0, 0.0]
    proposal = MixtureProposal(draws, rng)
    # The integral of q, by importance sampling from a normal twice as wide as the prior and data.
    cover = stats.multivariate_normal([1.5, 0.0], np.diag([9.0, 36.0]))
    z = np.asarray(cover.rvs(200_000, random_state=1))
    ratio = np.exp(proposal.log_prob(z) - cover.logpdf(z))
    assert ratio.mean() == pytest.approx(1, abs=5 * ratio.std() / len(ratio) ** 0.5)
    # Its draws have its density: E[N(z) / q(z)] = 1 under q for any density inside.
    z = proposal.sample(20_000, rng)
    ratio = np.exp(stats.multivariate_normal([3.0, 0.0], np.diag([0.01, 4.0])).logpdf(z)
                   - proposal.log_prob(z))  # fmt: skip
    assert ratio.mean() == pytest.approx(1, abs=5 * ratio.std() / len(ratio) ** 0.5)


def test_mixture_around_given_components() -> None:
    means = np.array([[0.0, 1.0], [2.0, -1.0]])
    covariances = np.array([[[1.0, 0.5], [0.5, 2.0]], [[0.3, -0.1], [-0.1, 0.2]]])
    z = np.random.default_rng(0).standard_normal((50, 2))
    density = sum(
        share * np.mean([stats.multivariate_normal(m, f * c).pdf(z)
                         for m, c in zip(means, covariances, strict=True)], axis=0)
        for share, f in ((0.8, 1.0), (0.17, 4.0))
    ) + 0.03 * stats.multivariate_normal(np.zeros(2)).pdf(z)  # fmt: skip
    log_prob = MixtureProposal.around(means, covariances).log_prob(z)
    np.testing.assert_allclose(log_prob, np.log(density), rtol=1e-9)


def test_systematic_resampling_counts() -> None:
    counts = np.bincount(
        resample(np.array([0.5, 0.25, 0.25, 0.0]), 100, np.random.default_rng(0)), minlength=4
    )
    assert counts.tolist() == [50, 25, 25, 0]  # exact, as systematic resampling is


def test_moves_keep_a_gaussian(random_state_guard: None) -> None:
    start = LINEAR.exact(Y, 400, seed=0)
    moved = move(
        lambda z: LINEAR.log_prob(z, Y) + stats.norm.logpdf(z).sum(axis=1), start, 30,
        np.random.default_rng(1), every=10,
    )  # fmt: skip
    assert moved.kept.shape == (3, 400, 3)
    assert 0.1 < moved.acceptance < 0.9
    sd = np.sqrt(np.diag(LINEAR.covariance))
    error = (moved.kept[-1].mean(axis=0) - LINEAR.posterior_mean(Y)) / sd
    assert np.abs(error).max() < 5 / 20  # five standard errors of 400 draws
    np.testing.assert_allclose(moved.kept[-1].std(axis=0) / sd, 1, atol=5 / 800**0.5)
    assert (moved.kept[-1] != start).any(axis=1).mean() > 0.9


def test_biased_estimator_is_pulled_to_the_posterior(random_state_guard: None) -> None:
    z, log_q = _estimator(LINEAR, Y, 4000, shift=1.5, width=1.3)
    exact = LINEAR.exact(Y, 600, seed=9)
    found = refine(z, LINEAR, Y, log_q=log_q, n_draws=4000, seed=1)
    assert found.reliable, found.summary
    assert found.draws.dims == ("draw", "parameter") and found.draws.sizes["draw"] == 4000
    before = c2st(z, exact, max_samples=600)
    after = c2st(found.z, exact, max_samples=600)
    # Off by 1.5 sd in each of 3 parameters. Chance at 2 x 600 has a deviation of .0144: four of it.
    assert before > 0.75 and after < 0.558
    assert found.ess > 2000 > found.ess_estimator
    # A constant weight but for the mixture's fit: .05 is ten standard errors at 2,000 effective.
    assert found.log_evidence == pytest.approx(_evidence(LINEAR, Y), abs=0.05)
    assert found.evaluations < 60_000
    assert "reliable; effective sample size" in found.summary


def test_seed_repeats_and_densities_are_optional() -> None:
    z, _ = _estimator(LINEAR, Y, 1000, shift=0.5, width=1.3)
    one, other = (refine(z, LINEAR, Y, n_draws=1000, seed=4) for _ in range(2))
    np.testing.assert_array_equal(one.draws, other.draws)
    assert np.isnan(one.ess_estimator)
    sd = np.sqrt(np.diag(LINEAR.covariance))
    error = (one.z.mean(axis=0) - LINEAR.posterior_mean(Y)) / sd
    assert np.abs(error).max() < 5 * 400**-0.5  # 1,000 draws worth 400


def test_estimator_far_off_is_replaced_by_fits() -> None:
    likelihood = Linear(np.diag([30.0, 20.0, 10.0]))
    y = np.array([20.0, -10.0, 5.0])
    z = np.random.default_rng(0).normal(3.0, 0.1, (2000, 3))  # 30 to 100 posterior sd away
    log_q = stats.norm.logpdf(z, 3.0, 0.1).sum(axis=1)
    found = refine(z, likelihood, y, log_q=log_q, n_draws=2000, seed=1)
    assert found.ess_estimator < 20
    assert found.reliable, found.summary
    sd = np.sqrt(np.diag(likelihood.covariance))
    error = (found.z.mean(axis=0) - likelihood.posterior_mean(y)) / sd
    assert np.abs(error).max() < 5 * 500**-0.5  # 2,000 draws worth 500


def test_nothing_to_refine_is_not_reliable() -> None:
    class Nowhere(Linear):
        def inside(self, z: np.ndarray) -> np.ndarray:
            return np.zeros(len(z), bool)

    z, log_q = _estimator(LINEAR, Y, 1000, shift=0.0, width=1.0)
    found = refine(z, Nowhere(), Y, log_q=log_q, n_draws=1000)
    assert not found.reliable
    assert found.summary.startswith("not reliable: effective sample size 0")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("likelihood", "y", "width"),
    [(Ridge(), [25.0, 5.0], 1.0), (Banana(), [8.0, 5.0], 1.0), (Stratum(), [1.0, 2.0, 0.0], 0.6)],
    ids=["ridge", "two branches", "stratum"],
)
def test_hard_posteriors_in_closed_form(likelihood: Gaussian, y: list[float], width: float) -> None:
    """From the prior itself, or a part of it, as an estimator that has learned little."""
    z = np.random.default_rng(0).normal(0, width, (10_000, 3))
    log_q = stats.norm.logpdf(z, 0, width).sum(axis=1)
    found = refine(z, likelihood, np.array(y), log_q=log_q, seed=1)
    assert found.reliable, found.summary
    exact = likelihood.exact(np.array(y), 4000, seed=2)  # type: ignore[attr-defined]
    assert c2st(found.z, exact, max_samples=4000) < 0.53  # the target


class Fake(PosteriorMixin):
    """An estimator for the linear problem, off by a standard deviation."""

    n_context = 0

    def __init__(self, likelihood: Linear) -> None:
        self.likelihood, self.prior_ = likelihood, likelihood.prior

    def sequences(self, x: Any, **_: Any) -> Sequences:
        return x

    def flat(self, sequences: Sequences) -> np.ndarray:
        return sequences.flat

    def _sample(self, x: np.ndarray, n_draws: int, seed: int) -> np.ndarray:
        draws = [_estimator(self.likelihood, y, n_draws, 1.0, 1.4, seed)[0] for y in x]
        return np.stack(draws).astype(np.float32)

    def _log_prob(self, z: np.ndarray, x: np.ndarray) -> np.ndarray:
        sd = np.sqrt(np.diag(self.likelihood.covariance))
        density = stats.multivariate_normal(cov=1.4**2 * self.likelihood.covariance)
        return np.asarray(density.logpdf(z - self.likelihood.posterior_mean(x) - sd))


def test_refined_estimator_has_the_contract() -> None:
    refined = Refined(Fake(LINEAR), LINEAR, n_draws=2000)
    truth = np.random.default_rng(3).standard_normal((2, 3))
    y = LINEAR.simulate(truth, seed=4)
    x = Sequences(y.astype(np.float32), np.zeros(2, int))
    draws = refined.posterior(x, n_draws=1000)
    assert draws.dims == ("simulation", "draw", "parameter")
    z = LINEAR.prior.to_unconstrained(draws)
    sd = np.sqrt(np.diag(LINEAR.covariance))
    error = (z.mean(axis=1) - LINEAR.posterior_mean(y)) / sd
    assert np.abs(error).max() < 5 * 400**-0.5  # the estimator alone is off by 1
    exact = [
        stats.multivariate_normal(m, LINEAR.covariance).logpdf(t)
        for m, t in zip(LINEAR.posterior_mean(y), truth, strict=True)
    ]
    log_prob = refined._log_prob(truth.astype(np.float32), refined.flat(x))
    np.testing.assert_allclose(log_prob, exact, atol=0.1)  # error of the evidence


def test_refined_follows_names() -> None:
    order = [2, 0, 1]
    swapped = Linear(LINEAR.matrix[:, order])
    swapped.prior = LINEAR.prior.select([LINEAR.prior.names[i] for i in order])
    y = LINEAR.simulate(np.array([[1.0, -1.0, 0.5]]), seed=4)
    x = Sequences(y.astype(np.float32), np.zeros(1, int))
    draws = Refined(Fake(LINEAR), swapped, n_draws=1000).posterior(x, n_draws=1000)
    assert draws.coords["parameter"].values.tolist() == LINEAR.prior.names
    sd = np.sqrt(np.diag(LINEAR.covariance))
    z = LINEAR.prior.to_unconstrained(draws)[0]
    assert np.abs((z.mean(axis=0) - LINEAR.posterior_mean(y[0])) / sd).max() < 5 * 400**-0.5
    other = Linear(np.eye(3))
    other.prior = Ridge().prior.select(["p1", "p2"])
    with pytest.raises(InputError, match="p3"):
        Refined(Fake(LINEAR), other)


def test_likelihood_may_depend_on_context() -> None:
    """Two observations with the same values, of which the context says how noisy they are."""

    class Told(Fake):
        n_context = 1

        def _sample(self, x: np.ndarray, n_draws: int, seed: int) -> np.ndarray:
            return super()._sample(x[:, :-1], n_draws, seed)

        def _log_prob(self, z: np.ndarray, x: np.ndarray) -> np.ndarray:
            return super()._log_prob(z, x[:, :-1])

    def likelihood(context: np.ndarray) -> Linear:
        class Scaled(Linear):
            def whiten(self, values: np.ndarray) -> np.ndarray:
                return np.asarray(values, dtype=float) / context[0]

        return Scaled(LINEAR.matrix / context[0])

    x = Sequences(np.tile(Y, (2, 1)).astype(np.float32), np.zeros(2, int),
                  np.array([[1.0], [3.0]], np.float32))  # fmt: skip
    found = Refined(Told(LINEAR), likelihood, n_draws=2000).refine(x, n_draws=2000)
    for noise, result in zip((1.0, 3.0), found, strict=True):
        exact = Linear(LINEAR.matrix / noise)
        sd = np.sqrt(np.diag(exact.covariance))
        error = (result.z.mean(axis=0) - exact.posterior_mean(Y / noise)) / sd
        assert np.abs(error).max() < 5 * 800**-0.5  # 2,000 draws worth 800


def test_bad_input() -> None:
    z, log_q = _estimator(LINEAR, Y, 200, 0.0, 1.0)
    with pytest.raises(InputError, match="100 draws of 3 parameters"):
        refine(z[:, :2], LINEAR, Y)
    with pytest.raises(InputError, match="one number for each"):
        refine(z, LINEAR, Y, log_q=log_q[:-1])
    with pytest.raises(InputError, match="not finite"):
        refine(np.where(z > 0, np.nan, z), LINEAR, Y)
    with pytest.raises(InputError, match="too few"):
        refine(z, LINEAR, Y, n_draws=100)


def test_draws_come_with_their_densities(toy_posterior: Any) -> None:
    """One pass of the encoder instead of one for each draw gives the same densities."""
    x = np.random.default_rng(0).normal(size=(1, toy_posterior.protocol_.n_steps))
    x = np.exp(x).astype(np.float32)
    draws, density = toy_posterior._sample_and_log_prob(x, 200, 3)
    expected = toy_posterior._log_prob(draws, np.repeat(x, 200, axis=0))
    # The flow and its inverse agree to what float32 and a spline or a mask carry.
    np.testing.assert_allclose(density, expected, atol=1e-3)
    assert draws.shape == (200, 3) and len(np.unique(draws, axis=0)) == 200
