"""Local identifiability against closed forms: linear models, ridges of products, walls."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from likelihood_oracles import Gaussian, Linear, Ridge, Stratum, normal_prior

from nmm_infer.errors import InputError
from nmm_infer.sensitivity.identifiability import compare_with_posterior, identifiability

LINEAR = Linear()


class Shares(Gaussian):
    """y = s (theta1 theta5, ..., theta4 theta5) + noise in logarithms, as C_k = alpha_k C."""

    def __init__(self) -> None:
        super().__init__()
        self.prior = normal_prior(5)

    def function(self, z: np.ndarray) -> np.ndarray:
        return 10 * (z[:, :4] + z[:, 4:])


def test_linear_model_attains_the_bound() -> None:
    functions = {"log_p2": lambda p: np.log(p["p2"]), "sum": lambda p: np.log(p["p1"] * p["p3"])}
    found = identifiability(LINEAR, n_draws=50, functions=functions)
    # Rounding of differences with a step of 3e-3 in float64: 1e-13 / 3e-3.
    np.testing.assert_allclose(found["bound"], np.diag(LINEAR.covariance), rtol=1e-9)
    np.testing.assert_allclose(found["local_variance"], found["bound"], rtol=1e-9)
    np.testing.assert_allclose(found["contraction_bound"], 1 - np.diag(LINEAR.covariance))
    np.testing.assert_allclose(found["information"], LINEAR.matrix.T @ LINEAR.matrix, atol=1e-9)
    assert found.attrs["admitted"] == 1.0
    # log p2 = z2; log p1 p3 = z1 + z3 (differences with a step of 1e-4: 1e-8 and rounding).
    weights = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 1.0]])
    exact = np.diag(weights @ LINEAR.covariance @ weights.T)
    np.testing.assert_allclose(found["function_bound"], exact, rtol=1e-6)
    np.testing.assert_allclose(found["function_local_variance"], exact, rtol=1e-6)
    # Variances of 50 draws have a standard error of a fifth.
    np.testing.assert_allclose(found["function_prior_variance"], [1, 2], rtol=1.0)


def test_product_ridge_is_recovered() -> None:
    found = identifiability(Ridge(), n_draws=400, functions={"C": lambda p: p["p1"] / p["p2"]})
    assert found.attrs["unidentifiable"] == 1
    first = found["loading"].values[0]
    np.testing.assert_allclose(first[0], -first[1], rtol=1e-9)  # equal and opposite, exactly
    assert abs(first[2]) < 1e-9
    assert found["direction_contraction"].values[0] == pytest.approx(0, abs=1e-9)
    assert found["direction_bound"].values[0] == pytest.approx(0, abs=1e-9)
    assert found["ridge_name"].values.tolist() == ["p2 up, p1 down: p2*p1 unchanged"]
    # A product of two parts with equal priors leaves each half of its variance, but for what the
    # known product has left.
    assert found["contraction_local"].values[0] == pytest.approx(0.5, abs=0.01)
    assert found["contraction_local"].values[2] == pytest.approx(1 - 1 / 401, rel=1e-6)
    assert found["coordinate"].values.tolist() == ["log"] * 3


def test_shares_of_one_number() -> None:
    found = identifiability(
        Shares(), n_draws=100, functions={"product": lambda p: np.log(p["p1"] * p["p5"])}
    )
    assert found.attrs["unidentifiable"] == 1
    name = "p1, p2, p3, p4 up, p5 down: p1*p5, p2*p5, p3*p5, p4*p5 unchanged"
    assert found["ridge_name"].values.tolist() == [name]
    # Four sums z_k + z_5 are known with a precision of 100. The posterior keeps 1 along
    # (1, 1, 1, 1, -1) / sqrt 5: each keeps a fifth, and what the noise leaves.
    assert found["contraction_local"].values == pytest.approx(0.8, abs=0.01)
    matrix = np.hstack([np.eye(4), np.ones((4, 1))]) * 10
    covariance = np.linalg.inv(matrix.T @ matrix + np.eye(5))
    weights = np.array([1.0, 0, 0, 0, 1])
    assert found["function_bound"].item() == pytest.approx(weights @ covariance @ weights, rel=1e-5)
    assert found["function_contraction_local"].item() > 0.99


def test_bound_is_below_the_local_variance() -> None:
    """Jensen's inequality for the inverse, where the information varies over the prior."""
    found = identifiability(Ridge(scale=1.0, weight=1.0), n_draws=300)
    assert (found["bound"] <= found["local_variance"] + 1e-12).all()
    assert float(found["bound"][0]) < 0.95 * float(found["local_variance"][0])


def test_a_wall_in_the_prior() -> None:
    found = identifiability(Stratum(), n_draws=2000)
    assert found.attrs["admitted"] == pytest.approx(0.5, abs=5 * (0.25 / 4000) ** 0.5)
    # Of z1 and z2 with z1 + z2 <= 0: half of a half-normal's variance 1 - 2/pi, and half of 1.
    exact = (1 - 2 / np.pi) / 2 + 0.5
    error = 5 * exact * (2 / 2000) ** 0.5
    np.testing.assert_allclose(found["prior_variance"][:2], exact, atol=error)
    np.testing.assert_allclose(
        found["contraction_local"], 1 - np.diag(LINEAR.covariance) / found["prior_variance"]
    )


def test_table_beside_an_estimator_follows_names() -> None:
    found = identifiability(LINEAR, n_draws=50)
    exact = 1 - np.diag(LINEAR.covariance)
    calibration = xr.Dataset(
        {
            "contraction": ("parameter", (exact * [1.0, 0.5, 1.0])[::-1]),
            "prior_variance": ("parameter", np.ones(3)),
        },
        coords={"parameter": LINEAR.prior.names[::-1]},
    )
    table = compare_with_posterior(found, calibration)
    np.testing.assert_allclose(table["share"], [1.0, 0.5, 1.0], rtol=1e-9)
    np.testing.assert_allclose(table["largest_possible"], exact, rtol=1e-9)
    assert table["identifiable"].values.tolist() == (exact >= 0.1).tolist()
    assert table.to_dataframe().index.tolist() == LINEAR.prior.names
    with pytest.raises(InputError, match="same parameters"):
        compare_with_posterior(found, calibration.isel(parameter=[0, 1]))


def test_bad_input() -> None:
    class Nowhere(Linear):
        def inside(self, z: np.ndarray) -> np.ndarray:
            return np.zeros(len(z), bool)

    with pytest.raises(InputError, match="stratum"):
        identifiability(Nowhere(), n_draws=20)
    with pytest.raises(InputError, match="one finite number"):
        identifiability(LINEAR, n_draws=20, functions={"bad": lambda p: np.zeros(3)})
    with pytest.raises(InputError, match="step"):
        identifiability(LINEAR, step=0.0)
