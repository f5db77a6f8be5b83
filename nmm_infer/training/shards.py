"""Campaigns larger than memory, read in parts while the network learns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nmm_infer import _random
from nmm_infer.observation import View

__all__ = ["Shards", "read"]

#: Sensor noise is drawn in blocks of so many runs, so parts that begin with one have the noise
#: that they have in the whole.
_BLOCK = 512

Read = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def _same(flat: NDArray[np.float32]) -> NDArray[np.float32]:
    return flat


def read(view: View, epoch: int, size: int, limit: int | None = None) -> NDArray[np.float32]:
    """Observe a view once, in parts.

    Parameters
    ----------
    view : View
        The runs.
    epoch : int
        Number of the sensor noise.
    size : int
        Runs whose sensor signals may be in memory at a time.
    limit : int, optional
        Runs to read at most, from the first.

    Returns
    -------
    numpy.ndarray of float32, shape (n, step * component + context)
        See :attr:`nmm_infer.observation.Sequences.flat`.
    """
    n = len(view) if limit is None else min(limit, len(view))
    if n == len(view) and n <= size:
        return view.sequences(epoch=epoch).flat
    starts = range(0, n, size)
    parts = [view.select(np.arange(a, min(a + size, n))).sequences(epoch=epoch) for a in starts]
    return np.concatenate([part.flat for part in parts])


class Shards:
    """The runs of a view in contiguous parts, observed anew in every epoch.

    A part is observed by a thread of its own while the network learns from the one before, so at
    most the sensor signals of one part and the sequences of two are in memory. Parts come in
    random order, and runs in random order within a part. A view that is no larger than one part
    is observed as a whole, and its noise-free signals are kept.

    Order and noise depend on seed and epoch only, not on what came before: training can go on
    from any epoch.

    Parameters
    ----------
    view : View
        Training runs.
    target : numpy.ndarray of float32, shape (n, parameter)
        What is to be learned of each.
    size : int
        Largest number of runs in a part, a multiple of 512; the last one may have up to a batch
        more.
    batch : int
        Runs in a batch; those left over in a part are left out of the epoch.
    seed : int
        Seed of the order.
    prepare : callable, optional
        Maps what is observed, (n, step * component + context), to what the network reads.
    """

    def __init__(
        self,
        view: View,
        target: NDArray[np.float32],
        size: int,
        batch: int,
        seed: int,
        prepare: Read = _same,
    ) -> None:
        self.view, self.target = view, target
        self.batch, self.seed, self.prepare = batch, seed, prepare
        n = len(view)
        if n > size:  # about equal parts, whole blocks
            size = -(-n // (-(-n // size) * _BLOCK)) * _BLOCK
        edges = np.arange(0, n, size)
        if len(edges) > 1 and n - edges[-1] < batch:  # too few for a batch: more for the last part
            edges = edges[:-1]
        self.edges = np.append(edges, n)
        self._executor = ThreadPoolExecutor(max_workers=1)
        self._pending: tuple[tuple[int, int], Future[tuple[Tensor, Tensor]]] | None = None

    @property
    def n_parts(self) -> int:
        """Number of parts."""
        return len(self.edges) - 1

    @property
    def n_batches(self) -> int:
        """Batches in an epoch."""
        return sum(max(1, int(n) // self.batch) for n in np.diff(self.edges))

    def batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of one epoch: targets (n, parameter) and what the network reads."""
        order = self._order(epoch)
        for place, part in enumerate(order):
            target, x = self._take((epoch, part))
            last = place + 1 == self.n_parts
            self._begin(
                (epoch + 1, self._order(epoch + 1)[0]) if last else (epoch, order[place + 1])
            )
            size = min(self.batch, len(x))
            for start in range(0, len(x) - size + 1, size):
                yield target[start : start + size], x[start : start + size]

    def close(self) -> None:
        """Stop observing ahead."""
        self._executor.shutdown(cancel_futures=True)

    def _order(self, epoch: int) -> list[int]:
        rng = _random.generator(self.seed, "training/parts", epoch)
        return [int(part) for part in rng.permutation(self.n_parts)]

    def _begin(self, what: tuple[int, int]) -> None:
        self._pending = what, self._executor.submit(self._observe, *what)

    def _take(self, what: tuple[int, int]) -> tuple[Tensor, Tensor]:
        if self._pending is None or self._pending[0] != what:
            self._begin(what)
        assert self._pending is not None
        return self._pending[1].result()

    def _observe(self, epoch: int, part: int) -> tuple[Tensor, Tensor]:
        start, stop = self.edges[part : part + 2]
        view = self.view if self.n_parts == 1 else self.view.select(np.arange(start, stop))
        # Epoch 0 is that of validation.
        x = self.prepare(view.sequences(epoch=1 + epoch).flat)
        order = _random.generator(self.seed, "training/runs", epoch, part).permutation(len(x))
        target = self.target[start:stop][order]
        return torch.from_numpy(target), torch.from_numpy(np.ascontiguousarray(x[order]))
