"""A baseline without a model: the nearest training runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from nmm_infer._checks import check_whole
from nmm_infer.errors import InputError
from nmm_infer.inference.base import Estimator
from nmm_infer.inference.conformal import ConformalMixin, split
from nmm_infer.inference.network import part
from nmm_infer.inference.ridge import RidgeGaussian
from nmm_infer.observation import View
from nmm_infer.settings import SHARD
from nmm_infer.training import read

__all__ = ["NearestNeighbour"]

#: Least scale in probit space, where neighbours agree by chance.
_FLOOR = 0.05
#: Training runs, at most, that the numbers of neighbours are compared on.
_COMPARED = 4000


class NearestNeighbour(Estimator, ConformalMixin):
    """Mean and spread of the parameters of the training runs that look most alike.

    Distances are Euclidean between the estimates that ridge regression (:class:`RidgeGaussian`)
    makes of all parameters, in probit space: what tells nothing about them does not count, as in
    semi-automatic approximate Bayesian computation [1]_. How many neighbours are averaged is chosen
    for each parameter, by the squared error of training runs from their own neighbours
    (``chosen_``): what the observations tell faintly needs many. Intervals are split-conformal.

    Parameters
    ----------
    neighbours : sequence of int
        Numbers of neighbours to choose from.
    most : int
        Training runs that are kept, the first ones of a larger campaign.

    References
    ----------
    .. [1] Fearnhead P, Prangle D (2012). Constructing summary statistics for approximate Bayesian
       computation: semi-automatic approximate Bayesian computation. Journal of the Royal
       Statistical Society B 74(3):419-474.
    """

    name = "nearest_neighbour"

    def __init__(
        self,
        neighbours: Sequence[int] = (5, 10, 20, 50, 100, 200),
        most: int = 100_000,
    ) -> None:
        if isinstance(neighbours, int) or not tuple(neighbours):
            raise InputError(f"neighbours: give numbers to choose from, not {neighbours!r}")
        for number in neighbours:
            check_whole("neighbours", number, 1)
        self.neighbours, self.most = tuple(neighbours), most

    def _build(self) -> None:
        self.ridge_ = RidgeGaussian(most=self.most)
        self.ridge_._like(self)

    def _scores(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(self.ridge_._mean(x), dtype=np.float32)

    def _index(self) -> None:
        self.search_ = NearestNeighbors().fit(self.scores_)

    def _near(self, scores: NDArray[np.float32], k: int) -> NDArray[np.float64]:
        """Return targets of the nearest runs, nearest first, (n, neighbour, parameter)."""
        k = min(k, len(self.scores_))
        rows = self.search_.kneighbors(scores, n_neighbors=k, return_distance=False)
        return self.target_[rows].astype(float)

    def _choose(self) -> None:
        """Choose the number of neighbours of each parameter; a run is not its own neighbour."""
        n = min(len(self.scores_), _COMPARED)
        near = self._near(self.scores_[:n], max(self.neighbours) + 1)[:, 1:]
        truth = self.target_[:n]
        errors = [((near[:, :k].mean(axis=1) - truth) ** 2).mean(axis=0) for k in self.neighbours]
        self.chosen_ = np.asarray(self.neighbours)[np.argmin(errors, axis=0)]

    def _fit(self, view: View, target: NDArray[np.float32], seed: int) -> None:
        self._build()
        x = read(view, 0, SHARD, limit=self.most)
        learned, held_out = split(len(x))
        self.ridge_._learn(x[learned], target[learned])
        self.scores_, self.target_ = self._scores(x[learned]), target[learned]
        self._index()
        self._choose()
        self._calibrate(view.select(held_out), target[held_out])

    def _moments(self, x: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        near = self._near(self._scores(x), int(self.chosen_.max()))
        mean, scale = np.empty((2, len(x), near.shape[2]))
        for k in np.unique(self.chosen_):
            own = self.chosen_ == k
            mean[:, own] = near[:, :k, own].mean(axis=1)
            scale[:, own] = np.sqrt(near[:, :k, own].var(axis=1) + _FLOOR**2)
        return mean, scale

    def _state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        weights = {
            f"near.{name}": torch.as_tensor(getattr(self, f"{name}_"))
            for name in ("scores", "target", "chosen")
        }
        weights |= {f"ridge.{k}": v for k, v in self.ridge_._state()[1].items()}
        settings = {"neighbours": self.neighbours, "most": self.most}
        return settings, weights | self._residuals()

    @classmethod
    def _restore(cls, settings: Mapping[str, Any]) -> Self:
        return cls(**settings)

    def _load_weights(self, weights: dict[str, Tensor]) -> None:
        self._build()
        self.ridge_._load_weights(part(weights, "ridge."))
        for name, value in part(weights, "near.").items():
            setattr(self, f"{name}_", value.numpy())
        self._index()
        self._take_residuals(weights)
