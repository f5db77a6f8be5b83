"""The baseline that a network has to beat: ridge regression with Gaussian residuals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from sklearn.linear_model import RidgeCV
from torch import Tensor

from nmm_infer.inference.base import Estimator, PosteriorMixin
from nmm_infer.inference.network import part
from nmm_infer.networks import Standardise
from nmm_infer.observation import View
from nmm_infer.settings import SHARD
from nmm_infer.training import read

__all__ = ["RidgeGaussian"]


class RidgeGaussian(Estimator, PosteriorMixin):
    """A Gaussian posterior in probit space, linear in the observation and its upright copy.

    The mean is a ridge regression (penalty by generalised cross-validation), the covariance that
    of its residuals on runs held out from it.

    Parameters
    ----------
    penalties : sequence of float
        Candidates.
    most : int
        Training runs that are read, the first ones of a larger campaign.
    """

    name = "ridge_gaussian"

    def __init__(
        self, penalties: tuple[float, ...] = (1e-2, 1.0, 1e2, 1e4), most: int = 50_000
    ) -> None:
        self.penalties, self.most = tuple(penalties), most

    def _features(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        with torch.no_grad():
            known = self.standardise_(torch.as_tensor(x))
            shape, amplitude = known.shape.flatten(1), known.amplitude.flatten(1)
        # The sign of a source is fair, so what is offered is offered with its largest peak up too.
        largest = shape.abs().argmax(dim=1, keepdim=True)
        sign = torch.sign(torch.take_along_dim(shape, largest, dim=1))
        columns = [shape, amplitude, sign * shape, sign * amplitude, known.summary]
        return np.asarray(torch.cat(columns, dim=1).double().numpy())

    def _build(self) -> None:
        protocol = self.protocol_
        self.standardise_ = Standardise(
            protocol.n_steps, self.logarithmic, protocol.n_components, self.n_context
        )

    def _fit(self, view: View, target: NDArray[np.float32], seed: int) -> None:
        self._learn(read(view, 0, SHARD, limit=self.most), target)

    def _learn(self, x: NDArray[np.float32], target: NDArray[np.float32]) -> None:
        self._build()
        self.standardise_.fit(torch.as_tensor(x))
        features, target, split = self._features(x), target[: len(x)], round(0.8 * len(x))
        ridge = RidgeCV(self.penalties).fit(features[:split], target[:split])
        self.coefficients_ = np.atleast_2d(np.asarray(ridge.coef_, dtype=float))
        self.intercept_ = np.atleast_1d(np.asarray(ridge.intercept_, dtype=float))
        residual = target[split:] - self._mean(x[split:])
        self.covariance_ = np.atleast_2d(np.cov(residual.T)) + 1e-6 * np.eye(target.shape[1])

    def _mean(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        return self._features(x) @ self.coefficients_.T + self.intercept_

    def _sample(self, x: NDArray[np.float32], n_draws: int, seed: int) -> NDArray[np.float32]:
        mean = self._mean(x)
        root = np.linalg.cholesky(self.covariance_)
        white = np.random.default_rng(seed).standard_normal((len(mean), n_draws, len(root)))
        return np.asarray(mean[:, None] + white @ root.T, dtype=np.float32)

    def _log_prob(self, z: NDArray[np.float32], x: NDArray[np.float32]) -> NDArray[np.float64]:
        zero = np.zeros(len(self.covariance_))
        density = stats.multivariate_normal(zero, self.covariance_)
        return np.asarray(density.logpdf(np.atleast_2d(z - self._mean(x)))).reshape(len(x))

    def _state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        weights = {
            f"linear.{name}": torch.as_tensor(getattr(self, f"{name}_"))
            for name in ("coefficients", "intercept", "covariance")
        }
        weights |= {f"standardise.{k}": v for k, v in self.standardise_.state_dict().items()}
        return {"penalties": list(self.penalties), "most": self.most}, weights

    @classmethod
    def _restore(cls, settings: Mapping[str, Any]) -> Self:
        return cls(tuple(settings["penalties"]), settings["most"])

    def _load_weights(self, weights: dict[str, Tensor]) -> None:
        self._build()
        self.standardise_.load_state_dict(part(weights, "standardise."))
        for name, value in part(weights, "linear.").items():
            setattr(self, f"{name}_", value.numpy())
