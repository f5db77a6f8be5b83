"""Nonlinear least squares against linear solutions, and many fits as one batch."""

from __future__ import annotations

import numpy as np
import pytest
from likelihood_oracles import Linear, Ridge, Stratum

from nmm_infer.errors import InputError
from nmm_infer.inference._differences import jacobians
from nmm_infer.inference.least_squares import least_squares_from_truth, nonlinear_least_squares

LINEAR = Linear()
Z = 0.7 * np.random.default_rng(0).standard_normal((30, 3))
Y = LINEAR.simulate(Z, seed=1)
TRUTH = LINEAR.prior.label(LINEAR.prior.from_unconstrained(Z))


def test_linear_solution() -> None:
    found = nonlinear_least_squares(LINEAR, Y, TRUTH, prior=True)
    # Convergence stops at relative changes of 1e-6; differences of a linear map are exact.
    np.testing.assert_allclose(found["z"], LINEAR.posterior_mean(Y), atol=1e-5)
    np.testing.assert_allclose(
        found["covariance"], np.broadcast_to(LINEAR.covariance, (30, 3, 3)), rtol=1e-8, atol=1e-10
    )
    assert found["converged"].all()
    np.testing.assert_allclose(
        found["estimate"], LINEAR.prior.from_unconstrained(found["z"]), rtol=1e-12
    )
    assert found["covariance"].dims == ("simulation", "parameter", "other")

    tall = Linear(np.vstack([LINEAR.matrix, np.eye(3)]))
    y = tall.simulate(Z, seed=2)
    found = nonlinear_least_squares(tall, y, TRUTH)
    solved = np.linalg.lstsq(tall.matrix, y.T, rcond=None)[0].T
    np.testing.assert_allclose(found["z"], solved, atol=1e-5)
    cost = 0.5 * ((y - solved @ tall.matrix.T) ** 2).sum(axis=1)
    np.testing.assert_allclose(found["cost"], cost, rtol=1e-8)
    inverse = np.linalg.inv(tall.matrix.T @ tall.matrix)
    np.testing.assert_allclose(found["covariance"][0], inverse, rtol=1e-8, atol=1e-10)


def test_fits_share_batches_and_do_not_touch() -> None:
    together, alone = Linear(), Linear()
    found = nonlinear_least_squares(together, Y, TRUTH, prior=True)
    one = nonlinear_least_squares(alone, Y[7], TRUTH[7], prior=True)
    np.testing.assert_allclose(one["z"][0], found["z"][7], atol=1e-9)
    assert together.evaluations == int(found["evaluations"].sum())
    # 30 fits of 7 points: the first batch holds all of them.
    assert together.largest_batch == 30 * 7 and alone.largest_batch == 7


def test_oracle_on_a_ridge_and_its_singular_covariance() -> None:
    ridge = Ridge()
    z = np.array([[0.5, -0.2, 0.3]])
    y = ridge.function(z)  # without noise the truth is the minimum
    truth = ridge.prior.label(ridge.prior.from_unconstrained(z))
    found = least_squares_from_truth(ridge, y, truth)
    np.testing.assert_allclose(found["z"], z, atol=1e-6)
    assert found["cost"].item() == pytest.approx(0, abs=1e-10)
    assert np.isinf(found["covariance"]).all()  # a product of two leaves a line
    assert found.attrs["oracle"] == "starts at the true parameters"
    held = least_squares_from_truth(ridge, y, truth, prior=True)
    # With the prior the ridge's direction keeps its variance of 1: along (1, -1) / sqrt 2.
    along = np.array([1.0, -1.0, 0.0]) / np.sqrt(2)
    assert along @ held["covariance"].values[0] @ along == pytest.approx(1, abs=1e-6)


def test_order_of_the_differences() -> None:
    ridge = Ridge()
    z = np.array([[0.5, -0.2, 0.3]])
    slope = 0.5 * 20 * np.exp(0.5 * 0.3)
    errors = []
    for step in (0.2, 0.1, 0.05):
        mean, derivative, valid = jacobians(ridge, z, step)
        assert valid.all() and mean.shape == (1, 2) and derivative.shape == (1, 2, 3)
        errors.append(derivative[0, 0, 0] - slope)
        np.testing.assert_allclose(derivative[0, 1], [0, 0, 20], atol=1e-10)
    # Second order: a step half as long leaves a quarter, to within the next order (step**2).
    np.testing.assert_allclose(np.divide(errors[:-1], errors[1:]), 4, rtol=0.01)


def test_edges_of_the_domain() -> None:
    stratum = Stratum()
    z = np.array([[-1e-9, 0.0, 0.0], [1.0, 1.0, 0.0]])  # on the inner side; outside
    _, slope, valid = jacobians(stratum, z, 0.01)
    assert valid.tolist() == [True, False]
    np.testing.assert_allclose(slope[0], stratum.matrix, atol=1e-10)  # one-sided differences
    y = stratum.function(np.array([[-0.5, -0.5, 0.0]] * 2))
    start = stratum.prior.label(stratum.prior.from_unconstrained(z))
    found = nonlinear_least_squares(stratum, y, start)
    np.testing.assert_allclose(found["z"][0], [-0.5, -0.5, 0.0], atol=1e-4)
    assert found["converged"].values.tolist() == [True, False]
    assert np.isnan(found["estimate"][1]).all() and np.isnan(found["covariance"][1]).all()


def test_a_start_at_the_prior_median_moves_on() -> None:
    """SciPy's own first step is as long as the start is far from 0."""
    start = LINEAR.prior.label(LINEAR.prior.from_unconstrained(np.full((30, 3), 1e-9)))
    found = nonlinear_least_squares(LINEAR, Y, start, prior=True)
    np.testing.assert_allclose(found["z"], LINEAR.posterior_mean(Y), atol=1e-5)


def test_bad_input_and_errors_of_the_model() -> None:
    with pytest.raises(InputError, match="30 starts for 29 observations"):
        nonlinear_least_squares(LINEAR, Y[:-1], TRUTH)
    with pytest.raises(InputError, match="not finite"):
        nonlinear_least_squares(LINEAR, np.where(Y > 0, np.nan, Y), TRUTH)

    class Broken(Linear):
        def function(self, z: np.ndarray) -> np.ndarray:
            raise RuntimeError("the model broke")

    with pytest.raises(RuntimeError, match="the model broke"):  # and nobody waits forever
        nonlinear_least_squares(Broken(), Y, TRUTH)
