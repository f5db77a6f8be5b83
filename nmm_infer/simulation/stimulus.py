"""Stimuli: what reaches a column from the outside world."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from nmm_infer.errors import InputError
from nmm_infer.simulation._math import exp, exp_64, log, log_64

__all__ = ["Course", "Pulse", "Stimulus", "Volley"]

#: A volley lasts until it has fallen to this fraction of its peak.
_NEGLIGIBLE = {"float32": 1e-9, "float64": 1e-15}


@dataclass(frozen=True, eq=False)
class Stimulus(ABC):
    """A time course of firing rates that enters one node.

    Parameters
    ----------
    node : str, int or array_like of int, shape (batch,)
        The node, or one for each simulation.
    target : str, optional
        The population; the model's first target without.
    """

    node: Any = 0
    target: str | None = None

    @abstractmethod
    def courses(
        self,
        times: NDArray[np.float64],
        batch: int,
        dtype: Any = np.float32,
        window: tuple[int, int] | None = None,
    ) -> NDArray[Any]:
        """Return rates in 1/s at equally spaced ``times`` [s], shape (batch, time).

        With a ``window`` only those at ``times[first:last]``, with the same bits.
        """

    def window(self, times: NDArray[np.float64]) -> tuple[int, int]:
        """Return the first place in ``times``, and the one after the last, of a rate not zero."""
        return 0, len(times)

    def on(self, times: NDArray[np.float64]) -> Stimulus:
        """Return the stimulus for a clock with these ``step_times``."""
        return self

    @property
    def batch(self) -> int:
        """Number of simulations that this stimulus tells apart; 1 if none."""
        sizes = [np.shape(self.node)[0]] if np.ndim(self.node) == 1 else [1]
        for name in ("onset", "amplitude"):
            values = getattr(self, name, 0.0)
            sizes += [np.shape(values)[0]] if np.ndim(values) else []
        rates = getattr(self, "rates", ())
        sizes += [np.shape(rates)[0]] if np.ndim(rates) == 2 else []
        return max(sizes)

    def places(self, nodes: Sequence[str], batch: int) -> NDArray[np.int64]:
        """Return the position of the node in each simulation, shape (batch,)."""
        if isinstance(self.node, str):
            if self.node not in nodes:
                raise InputError(f"stimulus: no node {self.node!r}; there are {', '.join(nodes)}")
            return np.full(batch, list(nodes).index(self.node), dtype=np.int64)
        try:
            places = np.broadcast_to(np.asarray(self.node, dtype=np.int64), (batch,))
        except ValueError:
            raise InputError(
                f"stimulus: {np.size(self.node)} nodes do not fit {batch} simulations"
            ) from None
        if places.size and (places.min() < 0 or places.max() >= len(nodes)):
            raise InputError(f"stimulus: there are {len(nodes)} nodes, numbered from 0")
        return np.array(places)


@dataclass(frozen=True, eq=False)
class Course(Stimulus):
    """An arbitrary time course, linear between its samples and zero outside of them.

    Parameters
    ----------
    rates : array_like, shape (time,) or (batch, time)
        Rates in 1/s.
    times : array_like, shape (time,), optional
        Times in s, increasing. Without, the rates are those at the clock's ``step_times``.
    """

    rates: ArrayLike = ()
    times: ArrayLike | None = None

    def on(self, times: NDArray[np.float64]) -> Course:
        """See :class:`Stimulus`."""
        if self.times is not None:
            return self
        found = np.atleast_2d(np.asarray(self.rates)).shape[1]
        if found != len(times):
            raise InputError(
                f"stimulus: {found} samples were given, but the clock has {len(times)} steps (both "
                "ends included); give times with the rates"
            )
        return replace(self, times=times)

    def courses(
        self,
        times: NDArray[np.float64],
        batch: int,
        dtype: Any = np.float32,
        window: tuple[int, int] | None = None,
    ) -> NDArray[Any]:
        """See :class:`Stimulus`."""
        rates = np.atleast_2d(np.asarray(self.rates, dtype=float))
        if not np.isfinite(rates).all():
            raise InputError("stimulus: rates must be finite")
        if rates.shape[0] not in (1, batch):
            raise InputError(f"stimulus: {rates.shape[0]} courses do not fit {batch} simulations")
        own = times if self.times is None else np.asarray(self.times, dtype=float)
        if own.shape != (rates.shape[1],) or not (np.diff(own) > 0).all():
            raise InputError(
                f"stimulus: {rates.shape[1]} samples need as many increasing times, got {own.size}"
            )
        first, last = window or (0, len(times))
        rows = [np.interp(times[first:last], own, row, left=0.0, right=0.0) for row in rates]
        return np.array(np.broadcast_to(np.asarray(rows, dtype=dtype), (batch, last - first)))


@dataclass(frozen=True, eq=False)
class Pulse(Stimulus):
    """Rectangular pulses.

    A pulse begins and ends with a step. Euler's scheme meets it in just these steps. Heun's takes
    the mean of both ends of a step, and so meets a pulse half a step early (0.5 ms at a step of
    1 ms, with the right area): responses lead by that much, and the order is 1 where there are
    pulses. A :class:`Volley` is smooth and keeps order 2.

    Parameters
    ----------
    onset : array_like, shape () or (batch,) or (batch, pulse)
        Times in s at which the pulses begin; several for repeated trials, with any jitter.
    amplitude : array_like, like ``onset``
        Rates in 1/s.
    duration : float
        Duration in s.
    """

    onset: ArrayLike = 0.0
    amplitude: ArrayLike = 0.0
    duration: float = 0.01

    def window(self, times: NDArray[np.float64]) -> tuple[int, int]:
        """See :class:`Stimulus`."""
        self._check(times)
        return _reached(times, self.onset, self.duration)

    def _check(self, times: NDArray[np.float64]) -> None:
        if not times[1] - times[0] <= self.duration < np.inf:
            raise InputError("stimulus: a pulse must last for one step at least")

    def courses(
        self,
        times: NDArray[np.float64],
        batch: int,
        dtype: Any = np.float32,
        window: tuple[int, int] | None = None,
    ) -> NDArray[Any]:
        """See :class:`Stimulus`."""
        self._check(times)
        onset, amplitude = _pulses(self.onset, self.amplitude, batch)
        step = times[1] - times[0]
        # Whole steps, so that every pulse has the same area.
        first = np.rint((onset - times[0]) / step)
        last = first + np.rint(self.duration / step)
        place = np.arange(*(window or (0, len(times))))
        result = np.zeros((batch, len(place)), dtype)
        for column in range(onset.shape[1]):
            begin, end = first[:, column, None], last[:, column, None]
            near = slice(*np.searchsorted(place, [begin.min(), end.max()]))
            inside = (place[near] >= begin) & (place[near] < end)
            result[:, near] += np.where(inside, amplitude[:, column, None], 0.0).astype(dtype)
        return result


@dataclass(frozen=True, eq=False)
class Volley(Stimulus):
    r"""Short afferent volleys in the shape of an alpha function.

    .. math:: p(t) = q \, (t / n w)^n \, e^{n - t / w}, \quad t > 0

    with its peak, the amplitude q, reached n w after the onset.

    Parameters
    ----------
    onset : array_like, shape () or (batch,) or (batch, volley)
        Times in s at which the volleys arrive; several for repeated trials, with any jitter.
    amplitude : array_like, like ``onset``
        Peak rates q in 1/s.
    width : float
        Time constant w in s.
    order : float
        Exponent n.

    References
    ----------
    Jansen BH, Rit VG (1995), Biological Cybernetics 73:357-366, section 4: the transient that
    models a visual stimulus, with n = 7 and w = 5 ms.
    """

    onset: ArrayLike = 0.0
    amplitude: ArrayLike = 0.0
    width: float = 0.005
    order: float = 7.0

    def window(self, times: NDArray[np.float64]) -> tuple[int, int]:
        """See :class:`Stimulus`."""
        self._check()
        longest = max(self._support(kind) for kind in _NEGLIGIBLE)
        return _reached(times, self.onset, longest * self.order * self.width)

    def _check(self) -> None:
        if not (0 < self.width < np.inf and 0 < self.order < np.inf):
            raise InputError("stimulus: width and order of a volley must be positive and finite")

    def _support(self, kind: str) -> float:
        """Return when a volley is over, in units of its rise: t**n exp(n (1 - t)) = negligible."""
        support = 1.0
        for _ in range(200):
            support = 1.0 - math.log(_NEGLIGIBLE[kind]) / self.order + math.log(support)
        return support

    def courses(
        self,
        times: NDArray[np.float64],
        batch: int,
        dtype: Any = np.float32,
        window: tuple[int, int] | None = None,
    ) -> NDArray[Any]:
        """See :class:`Stimulus`."""
        self._check()
        onset, amplitude = _pulses(self.onset, self.amplitude, batch)
        first, last = window or (0, len(times))
        result = np.zeros((batch, last - first), dtype)
        number = result.dtype.type
        add = _add_volleys if number is np.float32 else _add_volleys_64
        add(
            result, first, times[0], times[1] - times[0], onset, amplitude,
            number(self.order * self.width), number(self.order),
            self._support(result.dtype.name),
        )  # fmt: skip
        return result


def _reached(times: NDArray[np.float64], onset: ArrayLike, duration: float) -> tuple[int, int]:
    """Return the places of equally spaced times that pulses of this duration can reach."""
    onset, step = _finite("onset", onset), times[1] - times[0]
    begin = np.clip((onset.min(initial=np.inf) - times[0]) / step - 1, 0, len(times))
    end = np.clip((onset.max(initial=-np.inf) + duration - times[0]) / step + 3, 0, len(times))
    return int(begin), max(int(begin), int(end))


def _finite(name: str, values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=float)
    if not np.isfinite(array).all():
        raise InputError(f"stimulus: {name} must be finite")
    return array


def _pulses(
    onset: ArrayLike, amplitude: ArrayLike, batch: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return onsets and amplitudes, both of shape (batch, pulse)."""
    parts = [_finite("onset", onset), _finite("amplitude", amplitude)]
    for name, part in zip(("onset", "amplitude"), parts, strict=True):
        if part.ndim > 2 or (part.ndim and part.shape[0] not in (1, batch)):
            raise InputError(f"stimulus: {name} of shape {part.shape} does not fit {batch} runs")
    wide = [part[:, None] if part.ndim == 1 else np.atleast_2d(part) for part in parts]
    count = max(part.shape[1] for part in wide)
    try:
        first, second = (np.array(np.broadcast_to(part, (batch, count))) for part in wide)
    except ValueError:
        raise InputError("stimulus: onset and amplitude differ in their number of pulses") from None
    return first, second


def _writer(number: Any, exp: Any, log: Any) -> Any:
    """Compile the sum of volleys in one precision."""

    @numba.njit(nogil=True, error_model="numpy", fastmath={"contract", "nsz"})
    def add_volleys(result, origin, begin, step, onset, amplitude, rise, order, support):  # type: ignore[no-untyped-def]
        one = number(1.0)
        relative = number(step / rise)
        for i in range(result.shape[0]):
            for p in range(onset.shape[1]):
                first = max(int(np.floor((onset[i, p] - begin) / step)) + 1, 0)
                last = first + int(support * rise / step) + 1
                t0 = number((begin + first * step - onset[i, p]) / rise)
                q = number(amplitude[i, p])
                low = max(first, origin)
                part = result[i, low - origin : max(low, last) - origin]
                for k in range(part.size):
                    t = t0 + number(np.int32(k + low - first)) * relative
                    part[k] += q * exp(order * (log(t) + one - t))

    return add_volleys


_add_volleys = _writer(np.float32, exp, log)
_add_volleys_64 = _writer(np.float64, exp_64, log_64)
