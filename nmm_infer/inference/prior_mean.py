"""The baseline that has seen nothing: the prior."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from nmm_infer import _random
from nmm_infer.anatomy import Head
from nmm_infer.inference.base import Estimator, PosteriorMixin, check_level, label_interval
from nmm_infer.observation import Observation, Recording, Sequences, View

__all__ = ["PriorMean"]


class PriorMean(Estimator, PosteriorMixin):
    """Predict the centre of the prior, whatever was observed; the posterior is the prior.

    In probit space the prior is N(0, I): the prediction is 0 there, which is the median of each
    parameter (and the mean of a uniform one).
    """

    name = "prior_mean"

    def _fit(self, view: View, target: NDArray[np.float32], seed: int) -> None:
        pass

    def predict(
        self,
        x: View | Sequences | Observation | Recording,
        forward: Head | None = None,
        *,
        events: str | None = None,
        **_: Any,
    ) -> Any:
        """Return the prior's median, dims (simulation, parameter), in the parameters' units."""
        n = len(self._read(x, forward, events))
        return self.prior_.label(self.prior_.from_unconstrained(np.zeros((n, len(self.prior_)))))

    def interval(
        self,
        x: View | Sequences | Observation | Recording,
        level: float = 0.9,
        forward: Head | None = None,
        *,
        events: str | None = None,
        **_: Any,
    ) -> Any:
        """Return central intervals of the prior, dims (simulation, bound, parameter)."""
        check_level(level)
        n = len(self._read(x, forward, events))
        reach = stats.norm.ppf((1 + level) / 2) * np.ones((n, len(self.prior_)))
        return label_interval(self.prior_, np.stack([-reach, reach], axis=1))

    def _sample(self, x: NDArray[np.float32], n_draws: int, seed: int) -> NDArray[np.float32]:
        rng = _random.generator(seed, "draws/prior")
        return rng.standard_normal((len(x), n_draws, len(self.prior_)), dtype=np.float32)

    def _log_prob(self, z: NDArray[np.float32], x: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.asarray(stats.norm.logpdf(z.astype(float)).sum(axis=1))

    def _state(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        return {}, {"nothing": torch.zeros(1)}  # a file of weights without weights is not read

    @classmethod
    def _restore(cls, settings: Mapping[str, Any]) -> Self:
        return cls()

    def _load_weights(self, weights: dict[str, torch.Tensor]) -> None:
        pass
