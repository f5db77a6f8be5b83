"""A campaign as an observer of few spatial components sees it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmm_infer import _random
from nmm_infer.observation.noise import NoiseLevels
from nmm_infer.observation.observer import Sequences, View, moments_at

__all__ = ["ComponentView"]

_BLOCK = 512


class ComponentView(View):
    """A campaign through an observer with ``protocol.components``.

    All steps are linear but the spectrum, so regions go to components at once and sensors are never
    made, unless there are fewer of them than regions.
    """

    def sources(self) -> tuple[NDArray[np.float32], bool]:
        """Return noise-free signals (n, window, source, time), and whether sources are sensors.

        Sources are regions, in nAm, or sensors, in V.
        """
        observer = self.observer
        n_regions = len(observer.head.regions)
        if observer._free or n_regions > len(observer.head.channels):
            return self.clean(), True
        if self._moments is None:
            self._moments = moments_at(self.observer, self.campaign)
        return self._moments, False

    _moments: NDArray[np.float32] | None = None

    def select(self, positions: NDArray[np.int64]) -> ComponentView:
        """Return a view of some of the runs; its noise is its own."""
        part = super().select(positions)
        assert isinstance(part, ComponentView)
        if self._moments is not None:
            part._moments = self._moments[positions]
        return part

    def conditions(self, epoch: int = 0) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the kind and the level of the noise of each run in an epoch, shape (n,)."""
        noise = self.observer.noise
        if isinstance(noise, NoiseLevels):
            return noise.draw(self.observer.seed, self.stream, self.numbers, epoch)
        zero = np.zeros(len(self), np.int64)
        return zero, zero

    def sequences(self, epoch: int = 0) -> Sequences:
        """Return what an estimator sees, with the noise of one epoch."""
        return self._sequences(epoch, noisy=True)

    def clean_sequences(self, epoch: int = 0) -> Sequences:
        """Return what an estimator would see without noise, scaled for that of one epoch."""
        return self._sequences(epoch, noisy=False)

    def _sequences(self, epoch: int, noisy: bool) -> Sequences:
        observer, protocol = self.observer, self.observer.protocol
        levels = observer.noise if isinstance(observer.noise, NoiseLevels) else None
        kind, level = self.conditions(epoch)
        numbers = self.numbers
        signals, sensors = self.sources()
        values = np.empty((len(self), protocol.n_steps, protocol.n_components), np.float32)
        for start in range(0, len(self), _BLOCK):
            stop = min(start + _BLOCK, len(self))
            for k, part in enumerate(observer.channels_to_components):
                rows = start + np.flatnonzero(kind[start:stop] == k)
                if not len(rows):
                    continue
                rng = _random.generator(
                    observer.seed, f"sensors/{self.stream}", epoch, int(numbers[start]), k
                )
                matrix = part.matrix if sensors else part.matrix @ observer._leadfield
                signal: NDArray[Any] = matrix @ signals[rows]
                if levels is not None:
                    name = list(levels.kinds)[k]
                    factors = [levels.levels[snr][name] for snr in levels.snrs[level[rows]]]
                    signal = signal / np.asarray(factors, np.float32)[:, None, None, None]
                    signal = part.kind.blur(signal.astype(np.float32), protocol.sfreq, rng)
                if noisy:
                    n, windows, components, times = signal.shape
                    noise = part.sample(n * windows, times, rng)
                    signal = signal + noise.reshape(n, windows, components, times)
                values[rows] = observer._compress(observer.level(signal))
        region = np.zeros(len(self), np.int64)
        if protocol.region is not None:
            region += observer.head.regions.index(protocol.region)
        context = None if levels is None else levels.context(kind, level)
        return Sequences(values, region, context, self.numbers)
