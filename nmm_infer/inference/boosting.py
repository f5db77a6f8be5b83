"""A baseline on named features: gradient-boosted trees."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import lightgbm
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nmm_infer import _threads
from nmm_infer.inference.base import Estimator
from nmm_infer.inference.conformal import ConformalMixin, split
from nmm_infer.inference.described import describe_flat
from nmm_infer.observation import View
from nmm_infer.settings import SHARD
from nmm_infer.training import read

__all__ = ["GradientBoosting"]

#: Least scale in probit space.
_FLOOR = 0.01
#: With fewer runs, threads wait for each other longer than they work.
_ALONE = 20_000
#: Mean of log |e| of a standard normal e, -(Euler's gamma + log 2) / 2: what makes the exponential
#: of a mean logarithm a standard deviation.
_LOG_NORMAL = -0.635


class GradientBoosting(Estimator, ConformalMixin):
    """Trees of LightGBM that predict each parameter from named features of the observation.

    For each parameter one set of trees predicts the mean, and stops when a fifth of its runs says
    so; another one, of few leaves, is fitted to the logarithm of the errors on that fifth and
    predicts the scale. Intervals are split-conformal.

    Parameters
    ----------
    rounds : int
        Largest number of trees.
    leaves : int
        Leaves of a tree.
    learning_rate : float
        Shrinkage.
    most : int
        Training runs that are read, the first ones of a larger campaign.
    """

    name = "gradient_boosting"

    def __init__(
        self, rounds: int = 400, leaves: int = 15, learning_rate: float = 0.08, most: int = 100_000
    ) -> None:
        self.rounds, self.leaves, self.most = rounds, leaves, most
        self.learning_rate = learning_rate

    def _features(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(describe_flat(x, self.protocol_, self.training_["context"]).values)

    def _parameters(self, n: int, seed: int, **more: Any) -> dict[str, Any]:
        # The trees do not depend on the number of threads.
        return {
            "objective": "regression", "verbosity": -1, "deterministic": True,
            "force_row_wise": True, "num_threads": _n_threads(n), "seed": seed % 2**31,
            "learning_rate": self.learning_rate, "num_leaves": self.leaves, **more,
        }  # fmt: skip

    def _fit(self, view: View, target: NDArray[np.float32], seed: int) -> None:
        x = self._features(read(view, 0, SHARD, limit=self.most))
        target = target[: len(x)].astype(float)
        learned, held_out = split(len(x))
        fitted, stopping = split(len(learned))
        self.means_, self.scales_ = [], []
        stop = lightgbm.early_stopping(30, verbose=False)
        for k in range(target.shape[1]):
            y = target[:, k]
            training = lightgbm.Dataset(x[fitted], y[fitted], free_raw_data=False)
            validation = lightgbm.Dataset(x[stopping], y[stopping], reference=training)
            settings = self._parameters(len(x), seed)
            mean = _reread(
                lightgbm.train(settings, training, self.rounds, [validation], callbacks=[stop])
            )
            error = np.log(np.abs(y[stopping] - mean.predict(x[stopping])) + 1e-3)
            few = {"num_leaves": 4, "min_data_in_leaf": max(20, len(stopping) // 50)}
            scale = lightgbm.train(
                self._parameters(len(x), seed, **few), lightgbm.Dataset(x[stopping], error), 60
            )
            self.means_.append(mean)
            self.scales_.append(_reread(scale))
        self._calibrate(view.select(held_out), target[held_out])

    def _moments(self, x: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        x = self._features(x)
        threads: Any = {"num_threads": _n_threads(len(x))}
        mean = np.column_stack([booster.predict(x, **threads) for booster in self.means_])
        log = np.column_stack([booster.predict(x, **threads) for booster in self.scales_])
        return mean, np.maximum(np.exp(log - _LOG_NORMAL), _FLOOR)

    def _state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        names = ("rounds", "leaves", "learning_rate", "most")
        weights = {
            f"{kind}.{k}": torch.frombuffer(
                bytearray(booster.model_to_string().encode()), dtype=torch.uint8
            )
            for kind, boosters in (("mean", self.means_), ("scale", self.scales_))
            for k, booster in enumerate(boosters)
        }
        return {name: getattr(self, name) for name in names}, weights | self._residuals()

    @classmethod
    def _restore(cls, settings: Mapping[str, Any]) -> Self:
        return cls(**settings)

    def _load_weights(self, weights: dict[str, Tensor]) -> None:
        def boosters(kind: str) -> list[lightgbm.Booster]:
            texts = [weights[f"{kind}.{k}"].numpy().tobytes() for k in range(len(self.prior_))]
            return [lightgbm.Booster(model_str=text.decode()) for text in texts]

        self.means_, self.scales_ = boosters("mean"), boosters("scale")
        self._take_residuals(weights)


def _n_threads(n: int) -> int:
    return 1 if n < _ALONE else _threads.n_threads()


def _reread(booster: lightgbm.Booster) -> lightgbm.Booster:
    """Return a booster as it will be read from a file: what is tested is what is saved."""
    return lightgbm.Booster(model_str=booster.model_to_string())
