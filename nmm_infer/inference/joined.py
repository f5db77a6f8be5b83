"""Several campaigns read as one, with the name of the model as what is asked."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from nmm_infer import _random
from nmm_infer.errors import InputError
from nmm_infer.observation import Sequences, View

__all__ = ["JoinedView"]


class JoinedView:
    """Runs of several models, seen through one observer, in one fixed random order.

    Parameters
    ----------
    views : mapping of str to View
        Runs of each model, by its name. Give views different noise streams, so that runs with the
        same number do not share sensor noise.
    seed : int
        Seed of the order.

    Attributes
    ----------
    models : tuple of str
        Names.
    labels : numpy.ndarray of int, shape (n,)
        Position of each run's model in ``models``.
    """

    def __init__(self, views: Mapping[str, View], *, seed: int = 0) -> None:
        if not views:
            raise InputError("models: give at least one campaign")
        self.models = tuple(views)
        self._views = tuple(views.values())
        counts = [len(view) for view in self._views]
        labels = np.repeat(np.arange(len(counts)), counts)
        self.labels: NDArray[np.int64] = _random.generator(seed, "models/order").permutation(labels)
        # Runs of a model stay in their order: a stretch of the whole is read from one of each.
        self._rows: NDArray[np.int64] = np.empty_like(self.labels)
        for k, count in enumerate(counts):
            self._rows[self.labels == k] = np.arange(count)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def truth(self) -> NDArray[np.str_]:
        """Name of each run's model, shape (n,)."""
        return np.array(self.models)[self.labels]

    def select(self, positions: NDArray[np.int64]) -> JoinedView:
        """Return some of the runs, in the order of ``positions``."""
        part = object.__new__(JoinedView)
        part.models, part.labels = self.models, self.labels[positions]
        wanted = self._rows[positions]
        part._rows = np.empty_like(wanted)
        views = []
        for k, view in enumerate(self._views):
            own = part.labels == k
            views.append(view.select(wanted[own]))
            part._rows[own] = np.arange(own.sum())
        part._views = tuple(views)
        return part

    def sequences(self, epoch: int = 0) -> Sequences:
        """Return what an estimator sees, with the noise of one epoch."""
        seen = [view.sequences(epoch) for view in self._views if len(view)]
        start = np.cumsum([0, *(len(view) for view in self._views)])
        order = start[self.labels] + self._rows
        contexts = [part.context for part in seen if part.context is not None]
        return Sequences(
            np.concatenate([part.values for part in seen])[order],
            np.concatenate([part.region for part in seen])[order],
            np.concatenate(contexts)[order] if len(contexts) == len(seen) else None,
        )
