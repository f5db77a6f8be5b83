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


#: Training runs that are kept where they tell what the prior is.
_KEPT = 20_000


class PriorMean(Estimator, PosteriorMixin):
    """Predict the mean of the prior, whatever was observed; the posterior is the prior.

    In probit space the prior is N(0, I), and so it is here. Where parameter sets were rejected (a
    stratum of columns that rest, say), the prior is what is left: draws of it are parameters of
    training runs, and its density is that of N(0, I) over the share accepted.

    Attributes
    ----------
    drawn_ : numpy.ndarray, shape (n, parameter)
        Parameters of training runs in probit space; none where nothing was rejected.
    """

    name = "prior_mean"

    def _fit(self, view: View, target: NDArray[np.float32], seed: int) -> None:
        self.drawn_ = target[:_KEPT] if self.training_["accepted"] < 1 else target[:0]

    def predict(
        self,
        x: View | Sequences | Observation | Recording,
        forward: Head | None = None,
        *,
        events: str | None = None,
        **_: Any,
    ) -> Any:
        """Return the prior's mean in probit space, mapped back; dims (simulation, parameter)."""
        numbers = self._read(x, forward, events)[1]
        mean = self.drawn_.mean(axis=0) if len(self.drawn_) else np.zeros(len(self.prior_))
        z = np.tile(mean, (len(numbers), 1))
        return self.prior_.label(self.prior_.from_unconstrained(z), numbers=numbers)

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
        numbers = self._read(x, forward, events)[1]
        tails = np.array([(1 - level) / 2, (1 + level) / 2])
        if len(self.drawn_):
            bounds = np.quantile(self.drawn_, tails, axis=0)
        else:
            bounds = np.repeat(stats.norm.ppf(tails)[:, None], len(self.prior_), axis=1)
        return label_interval(self.prior_, np.tile(bounds, (len(numbers), 1, 1)), numbers)

    def _sample(self, x: NDArray[np.float32], n_draws: int, seed: int) -> NDArray[np.float32]:
        rng = _random.generator(seed, "draws/prior")
        if len(self.drawn_):
            return self.drawn_[rng.integers(len(self.drawn_), size=(len(x), n_draws))]
        return rng.standard_normal((len(x), n_draws, len(self.prior_)), dtype=np.float32)

    def _log_prob(self, z: NDArray[np.float32], x: NDArray[np.float32]) -> NDArray[np.float64]:
        log_share = np.log(self.training_["accepted"])
        return np.asarray(stats.norm.logpdf(z.astype(float)).sum(axis=1) - log_share)

    def _state(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        return {}, {"drawn": torch.as_tensor(self.drawn_)}

    @classmethod
    def _restore(cls, settings: Mapping[str, Any]) -> Self:
        return cls()

    def _load_weights(self, weights: dict[str, torch.Tensor]) -> None:
        self.drawn_ = weights["drawn"].numpy()
