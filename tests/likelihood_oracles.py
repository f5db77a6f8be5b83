"""Likelihoods whose posteriors are known: linear-Gaussian, a product ridge, a bounded stratum.

Each has the interface of :class:`nmm_infer.inference.Likelihood` and an exact sampler that shares
no code with the package.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from nmm_infer.parameters import Parameter, Prior

Array = NDArray[np.float64]


def normal_prior(n: int) -> Prior:
    """Log-normal parameters of geometric standard deviation e: log theta is N(0, 1)."""
    return Prior([Parameter(f"p{i + 1}", "1", "lognormal", 1.0, np.e) for i in range(n)])


@dataclass
class Gaussian:
    """The base: a Gaussian of unit variance around a mean; counts evaluations."""

    evaluations: int = field(default=0, init=False)
    largest_batch: int = field(default=0, init=False)

    def mean(self, z: Array) -> tuple[Array, NDArray[np.bool_]]:
        z = np.atleast_2d(np.asarray(z, dtype=float))
        self.evaluations += len(z)
        self.largest_batch = max(self.largest_batch, len(z))
        return self.function(z), self.inside(z)

    def log_prob(self, z: Array, y: Array) -> Array:
        mean, valid = self.mean(z)
        y = np.asarray(y, dtype=float)
        value = -0.5 * ((y - mean) ** 2).sum(-1) - 0.5 * y.shape[-1] * np.log(2 * np.pi)
        return np.where(valid, value, -np.inf)

    def whiten(self, values: Array) -> Array:
        return np.asarray(values, dtype=float)

    def inside(self, z: Array) -> NDArray[np.bool_]:
        return np.ones(len(z), bool)

    def function(self, z: Array) -> Array:
        raise NotImplementedError

    def simulate(self, z: Array, seed: int) -> Array:
        """Noisy data of each parameter set."""
        clean = self.function(np.atleast_2d(z))
        return clean + np.random.default_rng(seed).standard_normal(clean.shape)


@dataclass
class Linear(Gaussian):
    """y = G z + noise: the posterior is Gaussian (Bishop 2006, eqs. 2.116 and 2.117)."""

    matrix: Array = field(
        default_factory=lambda: np.array([[3.0, 1.0, 0.0], [0.0, 2.0, 1.0], [1.0, 0.0, 0.2]])
    )

    def __post_init__(self) -> None:
        self.prior = normal_prior(self.matrix.shape[1])
        self.covariance = np.linalg.inv(self.matrix.T @ self.matrix + np.eye(len(self.prior)))

    def function(self, z: Array) -> Array:
        return z @ self.matrix.T

    def posterior_mean(self, y: Array) -> Array:
        return np.asarray(y) @ self.matrix @ self.covariance

    def exact(self, y: Array, n: int, seed: int) -> Array:
        rng = np.random.default_rng(seed)
        return rng.multivariate_normal(self.posterior_mean(y), self.covariance, n)


@dataclass
class Ridge(Gaussian):
    """y = (s exp(w (z1 + z2)), s z3) + noise, as in C_k = alpha_k C: only a product enters.

    With log theta = z (see :func:`normal_prior`), theta1 theta2 is what the first number tells.
    """

    scale: float = 20.0
    weight: float = 0.5

    def __post_init__(self) -> None:
        self.prior = normal_prior(3)

    def function(self, z: Array) -> Array:
        product = np.exp(self.weight * (z[:, 0] + z[:, 1]))
        return self.scale * np.stack([product, z[:, 2]], axis=1)

    def exact(self, y: Array, n: int, seed: int) -> Array:
        """Draw: the sum of z1 and z2 by a fine grid, their difference from its prior."""
        rng = np.random.default_rng(seed)
        s = np.linspace(-8, 8, 400_001)
        log_p = (
            stats.norm.logpdf(s, 0, np.sqrt(2))
            - 0.5 * (y[0] - self.scale * np.exp(self.weight * s)) ** 2
        )
        total = _from_grid(s, log_p, n, rng)
        difference = rng.normal(0, np.sqrt(2), n)
        precision = self.scale**2 + 1
        third = rng.normal(y[1] * self.scale / precision, precision**-0.5, n)
        return np.stack([(total + difference) / 2, (total - difference) / 2, third], axis=1)


@dataclass
class Banana(Gaussian):
    """y = (s z1 z2, s z3) + noise: a hyperbola with two branches."""

    scale: float = 10.0

    def __post_init__(self) -> None:
        self.prior = normal_prior(3)

    def function(self, z: Array) -> Array:
        return self.scale * np.stack([z[:, 0] * z[:, 1], z[:, 2]], axis=1)

    def exact(self, y: Array, n: int, seed: int) -> Array:
        """Draw: z1 by a fine grid of its marginal, z2 given z1 from its normal."""
        rng = np.random.default_rng(seed)
        z1 = np.linspace(-8, 8, 400_001)
        spread = np.sqrt(1 + (self.scale * z1) ** 2)
        log_p = stats.norm.logpdf(z1) + stats.norm.logpdf(y[0], 0, spread)
        first = _from_grid(z1, log_p, n, rng)
        precision = 1 + (self.scale * first) ** 2
        second = rng.normal(self.scale * first * y[0] / precision, precision**-0.5)
        precision = self.scale**2 + 1.0
        third = rng.normal(y[1] * self.scale / precision, precision**-0.5, n)
        return np.stack([first, second, third], axis=1)


@dataclass
class Stratum(Linear):
    """The linear problem where z1 + z2 > 0 is forbidden."""

    def inside(self, z: Array) -> NDArray[np.bool_]:
        return np.asarray(z[:, 0] + z[:, 1] <= 0)

    def exact(self, y: Array, n: int, seed: int) -> Array:
        """Draw by rejection."""
        kept = np.empty((0, len(self.prior)))
        rng = np.random.default_rng(seed)
        while len(kept) < n:
            z = rng.multivariate_normal(self.posterior_mean(y), self.covariance, 20_000)
            kept = np.concatenate([kept, z[self.inside(z)]])
        return kept[:n]


def _from_grid(x: Array, log_p: Array, n: int, rng: np.random.Generator) -> Array:
    p = np.exp(log_p - log_p.max())
    cumulative = np.concatenate([[0.0], np.cumsum((p[1:] + p[:-1]) / 2)])
    return np.interp(rng.random(n) * cumulative[-1], cumulative, x)
