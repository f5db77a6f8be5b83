"""Noise whose kind and level differ from run to run, and are known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmm_infer import _random
from nmm_infer.errors import InputError
from nmm_infer.observation.noise.gaussian import Noise
from nmm_infer.observation.noise.mixture import NoiseSource

__all__ = ["NoiseKind", "NoiseLevels", "levels_for"]

_DB = 20.0  # context is of order one: decibels over this


@dataclass(frozen=True, eq=False)
class NoiseKind:
    """One kind of noise at its unit level.

    Parameters
    ----------
    noise : NoiseSource
        Noise of the data; levels multiply it.
    jitter : float
        Standard deviation, s, of the time by which each trial of the average comes early or late
        (normal): the response is blurred, differently in each run.
    trials : int
        Trials of that average.
    """

    noise: NoiseSource
    jitter: float = 0.0
    trials: int = 1

    def __post_init__(self) -> None:
        if not (np.isfinite(self.jitter) and self.jitter >= 0) or self.trials < 1:
            raise InputError("a kind of noise has a jitter of 0 s or more, and 1 trial or more")

    def blur(
        self, signal: NDArray[np.float32], sfreq: float, rng: np.random.Generator
    ) -> NDArray[np.float32]:
        """Average trials that come early or late, shape (n, ..., time).

        Exact for signals without power at half the sampling rate that are at rest at both ends:
        a delay is a turn of phase at every frequency.
        """
        if self.jitter == 0:
            return signal
        n_times = signal.shape[-1]
        late = rng.normal(0.0, self.jitter, (len(signal), self.trials))
        width = [(0, 0)] * (signal.ndim - 1) + [(n_times // 2, n_times // 2)]
        padded = np.pad(signal, width, mode="edge")
        frequencies = np.fft.rfftfreq(padded.shape[-1], 1 / sfreq)
        # The mean over trials of the phases, a power series of one rotation a frequency step.
        turn = np.exp(-2j * np.pi * frequencies[1] * late)
        response = np.empty((len(signal), len(frequencies)), complex)
        power = np.ones_like(turn)
        for k in range(len(frequencies)):
            response[:, k] = power.mean(axis=1)
            power *= turn
        shape = (len(signal), *(1,) * (signal.ndim - 2), len(frequencies))
        spectrum = np.fft.rfft(padded, axis=-1) * response.reshape(shape)
        whole = np.fft.irfft(spectrum, padded.shape[-1], axis=-1)
        first = n_times // 2
        return np.asarray(whole[..., first : first + n_times], dtype=np.float32)


@dataclass(frozen=True, eq=False)
class NoiseLevels:
    """Kinds of noise at several levels; a run has one of each, drawn anew in every epoch.

    An estimator is told which: the level and the kind are its context.

    Parameters
    ----------
    kinds : mapping of str to NoiseKind
        Kinds by name, of the same channels.
    levels : mapping of float to dict of str to float
        For each nominal SNR in dB, what each kind is multiplied by.
    reference : float
        SNR in dB that counts as 0 in the context.

    Raises
    ------
    InputError
        If a kind lacks a level, or a factor is not above 0.
    """

    kinds: Mapping[str, NoiseKind]
    levels: Mapping[float, Mapping[str, float]]
    reference: float = 10.0
    source: str = field(default="kinds and levels drawn for each run")
    sfreq: float | None = None

    def __post_init__(self) -> None:
        if not self.kinds or not self.levels:
            raise InputError("noise levels: give one kind and one level at least")
        channels = {tuple(kind.noise.channels) for kind in self.kinds.values()}
        if len(channels) > 1:
            raise InputError("noise levels: the kinds have different channels")
        for snr, factors in self.levels.items():
            for name in self.kinds:
                if not (np.isfinite(factors.get(name, np.nan)) and factors[name] > 0):
                    raise InputError(f"noise levels: {name!r} has no factor above 0 at {snr:g} dB")

    @property
    def channels(self) -> tuple[str, ...]:
        """Channel names."""
        return tuple(next(iter(self.kinds.values())).noise.channels)

    def of_channels(self, channels: Sequence[str]) -> NoiseLevels:
        """Return the noise of some of the channels, in their order."""
        if tuple(channels) == self.channels:
            return self
        kinds = {}
        for name, kind in self.kinds.items():
            if not isinstance(kind.noise, Noise):
                raise InputError(
                    f"noise levels: {name!r} is not Gaussian; make it for the channels of the "
                    "head, in their order"
                )
            kinds[name] = replace(kind, noise=kind.noise.of_channels(channels))
        return replace(self, kinds=kinds)

    @property
    def snrs(self) -> NDArray[np.float64]:
        """Nominal ratios in dB."""
        return np.array(list(self.levels), dtype=float)

    @property
    def context_names(self) -> tuple[str, ...]:
        """What an estimator is told: the SNR, and which kind and level where there are several."""
        kinds, snrs = tuple(self.kinds), tuple(self.snrs)
        return (
            "snr",
            *(f"kind={name}" for name in kinds if len(kinds) > 1),
            *(f"level={snr:g}" for snr in snrs if len(snrs) > 1),
        )

    def only(self, kind: str | None = None, snr: float | None = None) -> NoiseLevels:
        """Return these levels of one kind, or this level of all kinds; the context stays alike."""
        if kind is not None and kind not in self.kinds:
            raise InputError(f"no kind of noise {kind!r}; there are {', '.join(self.kinds)}")
        if isinstance(snr, str):
            raise InputError(f"snr: give a number of dB, not the text {snr!r}")
        if snr is not None and snr not in self.levels:
            raise InputError(f"no level of {snr:g} dB; there are {', '.join(map(str, self.snrs))}")
        return _Part(self.kinds, self.levels, self.reference, self.source, self.sfreq, kind, snr)

    def draw(
        self, seed: int, stream: str, numbers: NDArray[np.int64], epoch: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the kind and the level of each run, places among them, shape (n,)."""
        u = _random.uniforms(seed, f"conditions/{stream}/{epoch}", numbers, 2)
        kinds, levels = self._choices()
        return (
            kinds[(u[:, 0] * len(kinds)).astype(np.int64)],
            levels[(u[:, 1] * len(levels)).astype(np.int64)],
        )

    def _choices(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return np.arange(len(self.kinds)), np.arange(len(self.levels))

    def context(self, kind: NDArray[np.int64], level: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return what an estimator is told, shape (n, context)."""
        columns: list[Any] = [(self.snrs[level] - self.reference) / _DB]
        if len(self.kinds) > 1:
            columns += [(kind == k).astype(float) for k in range(len(self.kinds))]
        if len(self.levels) > 1:
            columns += [(level == k).astype(float) for k in range(len(self.levels))]
        return np.stack(columns, axis=1).astype(np.float32)


@dataclass(frozen=True, eq=False)
class _Part(NoiseLevels):
    """Some of the levels: nothing but the choice differs."""

    kind: str | None = None
    snr: float | None = None

    def _choices(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        kinds, levels = np.arange(len(self.kinds)), np.arange(len(self.levels))
        if self.kind is not None:
            kinds = np.array([list(self.kinds).index(self.kind)])
        if self.snr is not None:
            levels = np.array([list(self.levels).index(self.snr)])
        return kinds, levels


def levels_for(
    kinds: Mapping[str, NoiseKind], power: float, snrs: Iterable[float], n_times: int
) -> NoiseLevels:
    """Fix the levels of noise once, against one power of the signal.

    Parameters
    ----------
    kinds : mapping of str to NoiseKind
        Kinds by name.
    power : float
        Mean square of the signal over sensors and samples that counts, in V^2: the mean over the
        runs of a prior, or their median where few runs are very strong.
    snrs : iterable of float
        Ratios in dB: 10 log10(power / mean square of the noise).
    n_times : int
        Length of a window.

    Returns
    -------
    NoiseLevels
    """
    unit = {}
    for name, kind in kinds.items():
        if isinstance(kind.noise, Noise):
            unit[name] = float(np.trace(kind.noise.spatial) / len(kind.noise.channels))
        else:
            draw = kind.noise.sample(2000, n_times, _random.generator(0, "levels"))
            unit[name] = float(np.square(draw, dtype=np.float64).mean())
    levels = {
        float(snr): {n: float(np.sqrt(power / (u * 10 ** (snr / 10)))) for n, u in unit.items()}
        for snr in snrs
    }
    return NoiseLevels(kinds, levels, reference=float(np.mean(list(levels))))
