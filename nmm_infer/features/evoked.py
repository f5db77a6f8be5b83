"""Peaks, latencies and size of the response to an event at time 0."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy import signal

from nmm_infer.features._labels import Feature, label, series

__all__ = ["EVOKED", "evoked_features"]

#: Features of a response, in units of the series and seconds.
EVOKED = {
    "positive_peak": Feature("{unit}", "largest value"),
    "positive_peak_latency": Feature("s", "its time from the event"),
    "negative_peak": Feature("{unit}", "least value"),
    "negative_peak_latency": Feature("s", "its time from the event"),
    "peak": Feature("{unit}", "the larger of both in magnitude, with its sign"),
    "peak_latency": Feature("s", "its time from the event"),
    "first_peak": Feature("{unit}", "first local extreme of at least half that magnitude"),
    "first_peak_latency": Feature("s", "its time from the event"),
    "onset_latency": Feature("s", "first time at which half that magnitude is reached"),
    "half_width": Feature("s", "time that the largest peak stays above half its magnitude"),
    "peak_to_peak": Feature("{unit}", "positive less negative peak"),
    "mean": Feature("{unit}", "mean"),
    "rms": Feature("{unit}", "root mean square"),
    "area": Feature("{unit}*s", "integral of the magnitude"),
    "centroid_latency": Feature("s", "mean time, weighted with the square"),
}

#: A parabola is fitted to this much time around every sample, in s: short beside the peaks of
#: evoked potentials (tens of ms), long beside the samples of a recording.
_SMOOTHING = 0.02


def evoked_features(
    sequences: ArrayLike,
    times: ArrayLike,
    names: Iterable[str] | None = None,
    *,
    unit: str = "mV",
) -> xr.DataArray:
    """Describe responses to an event at time 0.

    A series is taken less its mean before the event (less its first value, if nothing is before
    it), and described by what follows the event. Peaks are those of the series after local
    parabolas over 20 ms (a Savitzky-Golay filter of order 2, which at 100 Hz leaves it as it is),
    and lie at the vertex of the parabola through the three samples there. Mean, root mean square,
    area and centroid are of the samples themselves.

    Finite input gives finite features; those of a series with a number that is not finite are NaN.
    Of a constant series all peaks, areas and widths are zero, and all latencies are that of the
    first sample after the event.

    Parameters
    ----------
    sequences : array_like, shape (n, step)
        Time courses.
    times : array_like, shape (step,)
        Equidistant times in s, the event at zero. Without a sample after it, all times count.
    names : iterable of str, optional
        Features to return; all of :data:`EVOKED` without.
    unit : str
        Unit of the series.

    Returns
    -------
    xarray.DataArray, dims (simulation, feature)
        The features, with their ``unit``.

    Raises
    ------
    InputError
        If shapes or names do not fit.

    Examples
    --------
    >>> times = np.arange(-0.1, 0.5, 0.01)
    >>> bump = np.exp(-0.5 * ((times - 0.12) / 0.03) ** 2)
    >>> evoked_features(bump[None], times, ["peak_latency"]).round(3).values
    array([[0.12]])
    """
    x, times = series(sequences, times, "times")
    step = float(times[1] - times[0])
    after = times > 1e-6 * step  # whatever rounding makes of the event itself
    after = after if after.sum() >= 3 else np.full(len(times), True)
    before = ~after
    rest = x[:, before].mean(axis=1) if before.any() else x[:, 0]
    x, times = (x - rest[:, None])[:, after], times[after]
    smooth = _parabolas(x, step)
    largest, largest_at = _extreme(smooth, times, step, smooth.argmax(axis=1))
    least, least_at = _extreme(smooth, times, step, smooth.argmin(axis=1))
    up = largest >= -least
    peak = np.where(up, largest, least)
    magnitude = np.abs(smooth)
    top = np.where(up, smooth.argmax(axis=1), smooth.argmin(axis=1))
    half = magnitude[np.arange(len(x)), top] / 2
    first, first_at = _extreme(smooth, times, step, _first(magnitude, half, top))
    power = x**2
    total = power.sum(axis=1)
    centroid = np.divide(power @ times, total, out=np.full(len(x), times[0]), where=total > 0)
    columns = {
        "positive_peak": largest,
        "positive_peak_latency": largest_at,
        "negative_peak": least,
        "negative_peak_latency": least_at,
        "peak": peak,
        "peak_latency": np.where(up, largest_at, least_at),
        "first_peak": first,
        "first_peak_latency": first_at,
        "onset_latency": _crossing(magnitude, half, times),
        "half_width": _width(np.where(up[:, None], smooth, -smooth), half, top, step),
        "peak_to_peak": largest - least,
        "mean": x.mean(axis=1),
        "rms": np.sqrt(power.mean(axis=1)),
        "area": np.abs(x).sum(axis=1) * step,
        "centroid_latency": centroid,
    }
    lost = ~np.isfinite(x).all(axis=1)
    columns = {name: np.where(lost, np.nan, values) for name, values in columns.items()}
    return label(columns, EVOKED, names, unit)


def _parabolas(x: NDArray[np.float64], step: float) -> NDArray[np.float64]:
    """Fit a parabola around every sample."""
    window = 2 * int(_SMOOTHING / step / 2 + 1e-6) + 1
    window = min(window, x.shape[1] - 1 + x.shape[1] % 2)
    return x if window <= 3 else np.asarray(signal.savgol_filter(x, window, 2, axis=1))


def _extreme(
    x: NDArray[np.float64], times: NDArray[np.float64], step: float, at: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return value and time of the vertex through the samples around ``at``."""
    rows = np.arange(len(x))
    inside = np.clip(at, 1, x.shape[1] - 2)
    left, middle, right = (x[rows, inside + k] for k in (-1, 0, 1))
    bend = left - 2 * middle + right
    slope = (right - left) / 2
    # A vertex farther than half a sample away is not that of the extreme, which is at an edge then.
    vertex = (inside == at) & (np.abs(slope) <= np.abs(bend) / 2) & (bend != 0)
    shift = np.divide(-slope, bend, out=np.zeros(len(x)), where=vertex)
    return x[rows, at] + slope * shift / 2, times[at] + shift * step


def _first(
    magnitude: NDArray[np.float64], half: NDArray[np.float64], top: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the first local maximum that reaches ``half``; the largest where there is none."""
    inner = magnitude[:, 1:-1]
    found = (inner > magnitude[:, :-2]) & (inner >= magnitude[:, 2:]) & (inner >= half[:, None])
    return np.where(found.any(axis=1), found.argmax(axis=1) + 1, top)


def _crossing(
    magnitude: NDArray[np.float64], half: NDArray[np.float64], times: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return when the magnitude first reaches ``half``, between samples by a straight line."""
    at = (magnitude >= half[:, None]).argmax(axis=1)
    rows, last = np.arange(len(at)), np.maximum(at - 1, 0)
    low, high = magnitude[rows, last], magnitude[rows, at]
    share = np.divide(half - low, high - low, out=np.ones(len(at)), where=high > low)
    return times[last] + np.clip(share, 0, 1) * (times[at] - times[last])


def _width(
    x: NDArray[np.float64], half: NDArray[np.float64], top: NDArray[np.int64], step: float
) -> NDArray[np.float64]:
    """Return how long a positive peak stays above ``half``, up to the edges of the window."""
    below = x < half[:, None]
    places = np.arange(x.shape[1])
    rows = np.arange(len(x))
    before = np.where(below & (places <= top[:, None]), places, -1).max(axis=1)
    behind = np.where(below & (places >= top[:, None]), places, x.shape[1]).min(axis=1)
    start = _between(x, half, before, np.minimum(before + 1, x.shape[1] - 1), rows)
    stop = _between(x, half, behind, np.maximum(behind - 1, 0), rows)
    return np.where(half > 0, stop - start, 0.0) * step


def _between(
    x: NDArray[np.float64],
    half: NDArray[np.float64],
    low: NDArray[np.int64],
    high: NDArray[np.int64],
    rows: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Return the place of ``half`` between a sample below and its neighbour above."""
    outside = (low < 0) | (low >= x.shape[1])
    below = x[rows, np.clip(low, 0, x.shape[1] - 1)]
    rise = x[rows, high] - below
    share = np.divide(half - below, rise, out=np.ones(len(x)), where=(rise > 0) & ~outside)
    return np.where(outside, high, low + share * (high - low))
