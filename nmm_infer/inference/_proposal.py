"""A heavy-tailed Gaussian mixture as proposal of importance sampling."""

from __future__ import annotations

import copy
import warnings
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import special
from sklearn.mixture import GaussianMixture

from nmm_infer.inference._likelihood import log_prior

__all__ = ["MixtureProposal", "effective_sample_size", "smoothed_weights"]

Array = NDArray[np.float64]

#: Shares of the fitted mixture, of the same with covariances times ``_WIDER``, and of the prior:
#: the last two bound the weights where the mixture is too narrow (Owen and Zhou 2000).
_SHARES = np.array([0.8, 0.17, 0.03])
_WIDER = 4.0


class MixtureProposal:
    """A Gaussian mixture fitted to draws, a wider copy of it, and the prior N(0, I).

    Parameters
    ----------
    draws : numpy.ndarray, shape (n, parameter)
        What it is fitted to.
    rng : numpy.random.Generator
        Source of a seed for the fit.
    components : int
        Components of the mixture; fewer where the draws do not carry them.

    References
    ----------
    Owen A, Zhou Y (2000), Safe and effective importance sampling, Journal of the American
    Statistical Association 95:135-143.
    """

    def __init__(self, draws: Array, rng: np.random.Generator, components: int = 12) -> None:
        distinct = len(np.unique(draws, axis=0))
        self._scale = np.maximum(draws.std(axis=0), 1e-6)
        self._centre = draws.mean(axis=0)
        fitted = GaussianMixture(
            max(1, min(components, distinct // (10 * draws.shape[1]))),
            reg_covar=1e-5,
            init_params="k-means++",
            max_iter=50,
            tol=1e-2,
            random_state=int(rng.integers(2**31)),
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # any mixture will do
            fitted.fit((draws - self._centre) / self._scale)
        self._parts = _with_wider(fitted)

    @classmethod
    def around(cls, means: Array, covariances: Array) -> Self:
        """Build the mixture with equal weights from its components.

        Parameters
        ----------
        means : numpy.ndarray, shape (component, parameter)
            Centres.
        covariances : numpy.ndarray, shape (component, parameter, parameter)
            Their covariances.
        """
        made = object.__new__(cls)
        made._scale, made._centre = np.ones(means.shape[1]), np.zeros(means.shape[1])
        mixture = GaussianMixture(len(means))
        mixture.weights_ = np.full(len(means), 1 / len(means))
        mixture.means_, mixture.covariances_ = means, covariances
        # A root of the precision: the inverse of the transposed Cholesky factor.
        factors = np.linalg.cholesky(covariances)
        mixture.precisions_cholesky_ = np.swapaxes(np.linalg.inv(factors), 1, 2)
        made._parts = _with_wider(mixture)
        return made

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        """Draw points, shape (n, parameter), in random order."""
        counts = rng.multinomial(n, _SHARES)
        drawn = [rng.standard_normal((counts[2], len(self._scale)))]
        for part, count in zip(self._parts, counts, strict=False):
            if count:
                part.random_state = int(rng.integers(2**31))
                drawn.append(part.sample(count)[0] * self._scale + self._centre)
        return np.asarray(rng.permutation(np.concatenate(drawn)))

    def log_prob(self, z: Array) -> Array:
        """Return the log density of points, shape (n,)."""
        scaled, jacobian = (z - self._centre) / self._scale, np.log(self._scale).sum()
        each = [part.score_samples(scaled) - jacobian for part in self._parts] + [log_prior(z)]
        return np.asarray(special.logsumexp(np.stack(each), axis=0, b=_SHARES[:, None]))

    def propose(self, z: Array, random: Any) -> tuple[Array, Array]:
        """Propose independent points to walkers: emcee's ``MHMove`` takes this function.

        Returns
        -------
        points : numpy.ndarray, shape (walker, parameter)
            Proposals.
        factors : numpy.ndarray, shape (walker,)
            Log density of the walkers less that of the proposals (Hastings 1970).
        """
        points = self.sample(len(z), np.random.default_rng(random.randint(2**31)))
        return points, self.log_prob(z) - self.log_prob(points)


def _with_wider(mixture: GaussianMixture) -> tuple[Any, Any]:
    wide = copy.deepcopy(mixture)
    wide.covariances_ = mixture.covariances_ * _WIDER
    wide.precisions_cholesky_ = mixture.precisions_cholesky_ / np.sqrt(_WIDER)
    return mixture, wide


def smoothed_weights(log_weights: Array) -> tuple[Array, float, float]:
    """Smooth importance weights by a generalised Pareto tail.

    Parameters
    ----------
    log_weights : numpy.ndarray, shape (n,)
        Logarithms of weights; -inf where there is none.

    Returns
    -------
    weights : numpy.ndarray, shape (n,)
        They add to 1.
    k : float
        Shape of the tail; infinite if no weight is positive. Above .7 the weights are not to be
        relied on.
    log_mean : float
        Log of the mean of the weights as they were.

    References
    ----------
    Vehtari A et al. (2024), Pareto smoothed importance sampling, Journal of Machine Learning
    Research 25(72):1-58; as implemented in ArviZ.
    """
    if not np.isfinite(log_weights).any():
        return np.full(len(log_weights), 1 / len(log_weights)), np.inf, -np.inf
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few finite weights: k says it
        from nmm_infer._arviz import arviz  # a second, which only weights need

        smooth, k = arviz.psislw(log_weights)
    weights = np.exp(np.asarray(smooth, dtype=float))
    log_mean = float(special.logsumexp(log_weights) - np.log(len(log_weights)))
    return weights / weights.sum(), float(k) if np.isfinite(k) else np.inf, log_mean


def effective_sample_size(weights: Array) -> float:
    """Return 1 / sum of squares of weights that add to 1 (Kish 1965)."""
    return float(1.0 / np.square(weights).sum())
