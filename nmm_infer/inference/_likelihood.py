"""What reference posteriors, refinement and least squares ask of a likelihood."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from nmm_infer.errors import InputError
from nmm_infer.parameters import Prior

__all__ = ["Counted", "Likelihood", "check_data", "log_prior"]

Array = NDArray[np.float64]


class Likelihood(Protocol):
    """A model whose data are a deterministic mean plus Gaussian noise, in whitened units.

    Attributes
    ----------
    prior : Prior
        The free parameters; their prior in probit space is N(0, I).
    """

    prior: Prior

    def mean(self, z: Array) -> tuple[Array, NDArray[np.bool_]]:
        """Return noise-free data, (n, m), where the noise is N(0, I), and where the model holds.

        ``z`` (n, parameter) are points of probit space. Rows outside of the model's domain are not
        valid, and their data mean nothing.
        """
        ...

    def log_prob(self, z: Array, y: Array) -> Array:
        """Return log p(y | z) of one observation ``y`` (m,), shape (n,); -inf if not valid."""
        ...


class Counted:
    """The log density of z and one observation, which counts its evaluations.

    Parameters
    ----------
    likelihood : Likelihood
        The likelihood.
    y : numpy.ndarray, shape (m,)
        The observation, whitened.
    """

    def __init__(self, likelihood: Likelihood, y: Array) -> None:
        self._likelihood, self._y = likelihood, y
        self.evaluations = 0

    def log_likelihood(self, z: Array) -> Array:
        """Return log p(y | z), shape (n,)."""
        self.evaluations += len(z)
        value = np.asarray(self._likelihood.log_prob(z, self._y), dtype=float)
        return np.where(np.isnan(value), -np.inf, value)

    def __call__(self, z: Array) -> Array:
        """Return log p(y, z) in probit space, shape (n,)."""
        return self.log_likelihood(z) + log_prior(z)


def log_prior(z: Array) -> Array:
    """Return the log density of N(0, I), shape (n,)."""
    return np.asarray(stats.norm.logpdf(z).sum(axis=-1))


def check_data(y: ArrayLike, dims: int = 1) -> Array:
    """Return whitened data as floats, or raise an error if they are of no use."""
    data = np.asarray(y, dtype=float)
    if data.ndim != dims or not data.size:
        wanted = "one observation, shape (m,)" if dims == 1 else "observations, shape (n, m)"
        raise InputError(f"y: give {wanted}, in whitened units; got an array {data.shape}")
    if not np.isfinite(data).all():
        raise InputError(
            f"y: {np.size(data) - np.isfinite(data).sum()} numbers are not finite: a likelihood "
            "needs whole observations"
        )
    return data
