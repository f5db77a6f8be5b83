"""Times of a simulation, and the filter before decimation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.signal import firwin, kaiserord

from nmm_infer.errors import InputError

__all__ = ["STOP_BAND_DB", "Clock"]

#: Attenuation of the anti-alias filter in its stop band, in dB.
STOP_BAND_DB = 60.0
#: What the design by a formula falls short of the attenuation that it was asked for, at most.
_RESERVE_DB = 5.0


@dataclass(frozen=True)
class Clock:
    """Times of a simulation.

    Parameters
    ----------
    start, stop : float
        First and last sample that is kept, in s.
    step : float
        Integration step, in s.
    every : int
        Steps from one kept sample to the next.
    settle : float
        Time integrated before ``start`` and thrown away, in s.
    antialias : bool
        Whether samples pass a low-pass filter before they are thinned out. It has linear phase
        and no delay. With f the kept sampling rate it passes up to .4 f (to within .1 %) and
        stops from .6 f on (by 60 dB), so nothing above .6 f is folded below .4 f. With
        ``every=1`` there is nothing to filter.
    margin : float
        Time at both ends, in s, that is there for filters only: features and samples of runs
        leave it out.

    Examples
    --------
    >>> clock = Clock(0.0, 1.0, step=1e-3, every=4)
    >>> clock.n_samples, clock.sfreq
    (251, 250.0)
    """

    start: float
    stop: float
    step: float = 1e-3
    every: int = 4
    settle: float = 0.3
    antialias: bool = True
    margin: float = 0.0

    def __post_init__(self) -> None:
        numbers = (self.start, self.stop, self.step, self.settle, self.margin)
        if not np.isfinite(numbers).all() or self.every != int(self.every):
            raise InputError(f"these simulation times make no sense: {self}")
        if not self.stop > self.start or self.step <= 0 or self.settle < 0 or self.every < 1:
            raise InputError(f"these simulation times make no sense: {self}")
        if not 0 <= self.margin < (self.stop - self.start) / 2:
            raise InputError(f"these simulation times make no sense: {self}")

    @property
    def sfreq(self) -> float:
        """Sampling rate of what is kept, in Hz."""
        return 1.0 / (self.step * self.every)

    @property
    def settle_steps(self) -> int:
        """Steps before the first sample."""
        return round(self.settle / self.step)

    @property
    def n_samples(self) -> int:
        """Samples kept."""
        return round((self.stop - self.start) / (self.step * self.every)) + 1

    @cached_property
    def taps(self) -> NDArray[np.float64]:
        """Coefficients of the anti-alias filter (Kaiser window), shape (samples reached, every).

        Row by row they are one symmetric filter of odd length, with a zero at its end where that
        is needed to fill the last row.
        """
        if self.every == 1 or not self.antialias:
            return np.ones((1, 1))
        count, beta = kaiserord(STOP_BAND_DB + _RESERVE_DB, 0.2 * 2 / self.every)
        size = -(-count // self.every) * self.every
        taps = firwin(size if size % 2 else size - 1, 1.0 / self.every, window=("kaiser", beta))
        return np.pad(taps, (0, size - len(taps))).reshape(-1, self.every)

    @property
    def filtered(self) -> bool:
        """Whether samples pass a filter."""
        return self.taps.size > 1

    @property
    def lead(self) -> int:
        """First step that the filter sees; before step 0 the past counts as constant."""
        return self.settle_steps - (self.taps.size - 1) // 2

    @property
    def n_steps(self) -> int:
        """Integration steps, those before the first and after the last sample included."""
        return self.lead + (self.n_samples - 1) * self.every + self.taps.size - 1

    @property
    def sample_times(self) -> NDArray[np.float64]:
        """Times of the kept samples, in s."""
        return np.asarray(self.start + np.arange(self.n_samples) * (self.step * self.every))

    @property
    def attrs(self) -> dict[str, str | float]:
        """Unit of the times, and the margin where there is one, for a coordinate."""
        return {"units": "s"} | ({"margin": self.margin} if self.margin else {})

    @property
    def step_times(self) -> NDArray[np.float64]:
        """Times of all steps, both ends included, in s."""
        steps = np.arange(self.n_steps + 1)
        return np.asarray(self.start + (steps - self.settle_steps) * self.step)
