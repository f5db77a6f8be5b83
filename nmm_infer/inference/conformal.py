"""Split-conformal calibration: what makes intervals and a predictive distribution of a prediction.

A fitted predictor gives a mean and a scale in probit space. Runs that it was not fitted on give its
normalised residuals, (truth - mean) / scale. If a new run is exchangeable with them, the interval
mean ± q scale holds its truth with probability level, whatever the predictor is worth, if q is the
residuals' ceil((m + 1) level)-th smallest magnitude of m (and with at most 1 / (m + 1) more). Where
the predictor is told one of several levels of noise, each level has residuals of its own, and the
probability holds at each.

References
----------
Lei J, G'Sell M, Rinaldo A, Tibshirani RJ, Wasserman L (2018). Distribution-free predictive
inference for regression. J Am Stat Assoc 113:1094-1111. Vovk V (2013). Conditional validity of
inductive conformal predictors. Machine Learning 92:349-376.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from scipy import stats

from nmm_infer import _random
from nmm_infer.anatomy import Head
from nmm_infer.errors import InputError
from nmm_infer.inference.base import PosteriorMixin, check_level, label_interval
from nmm_infer.inference.network import part
from nmm_infer.observation import Observation, Recording, Sequences, View
from nmm_infer.settings import SHARD
from nmm_infer.training import read

__all__ = ["Conformal", "ConformalMixin", "split"]

#: Share of the runs that calibrates, and the largest number of them. The rank distribution of 2,000
#: residuals (a fifth of 10,000 runs) is within .03 of the truth nineteen times in twenty.
SHARE, MOST = 0.2, 10_000
#: Looks at the runs that calibrate, for each level of noise: all but a twentieth have had it then.
_LOOKS = 3
#: Residuals for each parameter that a covariance is estimated from.
_ENOUGH = 5


def split(n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the positions of the runs that are learned from, and of those that calibrate."""
    held_out = min(round(SHARE * n), MOST)
    return np.arange(n - held_out), np.arange(n - held_out, n)


@dataclass(frozen=True, eq=False)
class Conformal:
    """Normalised residuals of a predictor.

    Parameters
    ----------
    residuals : numpy.ndarray, shape (m, parameter)
        (truth - mean) / scale of runs that the predictor was not fitted on, in probit space.
    """

    residuals: NDArray[np.float64]

    @classmethod
    def of(cls, truth: NDArray[Any], mean: NDArray[Any], scale: NDArray[Any]) -> Self:
        """Take the residuals of some predictions, all of shape (m, parameter)."""
        return cls(np.asarray((truth - mean) / scale, dtype=float))

    def quantile(self, level: float) -> NDArray[np.float64]:
        """Return half-widths of intervals in units of the scale, shape (parameter,).

        They are infinite where there are too few residuals for the level.
        """
        check_level(level)
        m = len(self.residuals)
        k = max(1, int(np.ceil((m + 1) * level - 1e-9)))
        if k > m:
            return np.full(self.residuals.shape[1], np.inf)
        return np.asarray(np.partition(np.abs(self.residuals), k - 1, axis=0)[k - 1])

    def sample(
        self, mean: NDArray[Any], scale: NDArray[Any], n_draws: int, seed: int
    ) -> NDArray[np.float32]:
        """Draw mean + scale * residuals, shape (n, draw, parameter).

        The residuals of a run stay together, and with them their correlations.
        """
        rng = _random.generator(seed, "draws/conformal")
        rows = rng.integers(len(self.residuals), size=(len(mean), n_draws))
        draws = mean[:, None] + scale[:, None] * self.residuals[rows]
        return np.asarray(draws, dtype=np.float32)

    def log_prob(
        self, z: NDArray[Any], mean: NDArray[Any], scale: NDArray[Any]
    ) -> NDArray[np.float64]:
        """Return the log density of the Gaussian with mean and covariance of the draws, (n,).

        Where there are too few residuals for a covariance, it has their mean squares alone.
        """
        m, size = self.residuals.shape
        if m < _ENOUGH * size:
            centre, covariance = np.zeros(size), np.diag((self.residuals**2).mean(axis=0))
        else:
            centre = self.residuals.mean(axis=0)
            covariance = np.atleast_2d(np.cov(self.residuals.T))
        covariance = covariance + 1e-6 * np.eye(size)
        density = stats.multivariate_normal(centre, covariance, allow_singular=True)
        white = (z - mean) / scale
        return np.asarray(density.logpdf(white)).reshape(len(white)) - np.log(scale).sum(axis=1)


class ConformalMixin(PosteriorMixin):
    """What a predictor of mean and scale offers once its residuals are known.

    Intervals are split-conformal. The posterior is the conformal predictive distribution, mean +
    scale * residual with the residuals of held-out runs; its density is taken as Gaussian.
    """

    training_: dict[str, Any]
    _conformal: tuple[Conformal, ...] = ()

    @abstractmethod
    def _moments(self, x: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return mean and scale in probit space, both of shape (n, parameter)."""

    @property
    def conformal_(self) -> tuple[Conformal, ...]:
        """Residuals of runs that the predictor was not fitted on, for each level of noise.

        One for all where the predictor is told no levels.
        """
        if not self._conformal:
            raise InputError(
                "this predictor is the first stage of a posterior and was never calibrated: ask "
                "the posterior, or fit the predictor by itself"
            )
        return self._conformal

    @property
    def _level_names(self) -> list[str]:
        return [name for name in self.training_["context"] if name.startswith("level=")]

    def _levels(self, x: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Return which level of noise each observation has, shape (n, level)."""
        names = self.training_["context"]
        told = x[:, x.shape[1] - len(names) :]
        levels = told[:, [name in self._level_names for name in names]] > 0.5
        if not levels.shape[1]:
            return np.ones((len(x), 1), bool)
        unknown = levels.sum(axis=1) != 1
        if unknown.any():
            raise InputError(
                f"{unknown.sum()} of {len(x)} observations (the first is number "
                f"{int(unknown.argmax())}) do not have one of the levels that intervals are known "
                f"for: {', '.join(self._level_names)}"
            )
        return np.asarray(levels)

    def _calibrate(self, view: View, target: NDArray[np.float32]) -> None:
        """Take the residuals of runs that the predictor was not fitted on.

        They are observed again and again, and have one of the levels of noise each time, until
        nearly all have had each; of a run that has a level again, the first residual counts.
        """
        parts: list[NDArray[np.float64]] = []
        chosen: list[NDArray[np.bool_]] = []
        while True:
            x = read(view, len(parts), SHARD)
            parts.append(Conformal.of(target, *self._moments(x)).residuals)
            chosen.append(self._levels(x) & ~np.logical_or.reduce(chosen, axis=0))
            missing = ~np.logical_or.reduce(chosen, axis=0)
            if not missing.any() or len(parts) >= _LOOKS * missing.shape[1]:
                break
        residuals, levels = np.concatenate(parts), np.concatenate(chosen)
        self._conformal = tuple(Conformal(residuals[own]) for own in levels.T)

    def _by_level(
        self, x: NDArray[np.float32], answer: Callable[[Conformal, NDArray[np.int64]], NDArray[Any]]
    ) -> NDArray[Any]:
        """Ask the residuals of each level about the observations that have it."""
        rows = [np.flatnonzero(own) for own in self._levels(x).T]
        parts = []
        for k, (conformal, own) in enumerate(zip(self.conformal_, rows, strict=True)):
            if not len(own):
                continue
            if not len(conformal.residuals):
                raise InputError(
                    f"no run of {self._level_names[k]} was held out in training: nothing is known "
                    "of intervals there"
                )
            parts.append(answer(conformal, own))
        order = np.concatenate(rows)
        return np.concatenate(parts)[np.argsort(order)]

    def predict(
        self,
        x: View | Sequences | Observation | Recording,
        forward: Head | None = None,
        *,
        events: str | None = None,
        **_: Any,
    ) -> xr.DataArray:
        """Return point estimates, dims (simulation, parameter), in the parameters' units.

        The estimate is the mean in probit space, mapped back: the median of a posterior that is
        normal there.
        """
        flat, numbers = self._read(x, forward, events)
        mean, _scale = self._moments(flat)
        return self.prior_.label(self.prior_.from_unconstrained(mean), numbers=numbers)

    def interval(
        self,
        x: View | Sequences | Observation | Recording,
        level: float = 0.9,
        forward: Head | None = None,
        *,
        events: str | None = None,
        **_: Any,
    ) -> xr.DataArray:
        """Return split-conformal intervals.

        Parameters
        ----------
        x : View, Observation or MNE object
            What was observed.
        level : float
            Probability, between 0 and 1, with which an interval holds the truth, over runs that
            are exchangeable with the training runs.
        forward : Head, optional
            Forward model of an MNE object; the template head without.
        events : str, optional
            Events of a Raw.

        Returns
        -------
        xarray.DataArray, dims (simulation, bound, parameter)
            ``low`` and ``high``, in the parameters' units; the parameter's whole range where too
            few runs were held out for the level.
        """
        flat, numbers = self._read(x, forward, events)
        mean, scale = self._moments(flat)
        reach = self._by_level(flat, lambda c, own: c.quantile(level) * scale[own])
        return label_interval(self.prior_, np.stack([mean - reach, mean + reach], axis=1), numbers)

    def _sample(self, x: NDArray[np.float32], n_draws: int, seed: int) -> NDArray[np.float32]:
        mean, scale = self._moments(x)
        return self._by_level(x, lambda c, own: c.sample(mean[own], scale[own], n_draws, seed))

    def _log_prob(self, z: NDArray[np.float32], x: NDArray[np.float32]) -> NDArray[np.float64]:
        mean, scale = self._moments(x)
        return self._by_level(x, lambda c, own: c.log_prob(z[own], mean[own], scale[own]))

    def _residuals(self) -> dict[str, torch.Tensor]:
        """Return what is to be saved of the calibration."""
        return {
            f"conformal.{k}": torch.as_tensor(c.residuals) for k, c in enumerate(self._conformal)
        }

    def _take_residuals(self, weights: dict[str, torch.Tensor]) -> None:
        found = part(weights, "conformal.")
        self._conformal = tuple(Conformal(found[str(k)].numpy()) for k in range(len(found)))
