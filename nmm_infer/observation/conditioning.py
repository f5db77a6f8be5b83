"""Filter and resample: the same design for simulated and recorded signals."""

from __future__ import annotations

from functools import lru_cache

import mne
import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.signal import resample_poly

__all__ = ["bandpass", "line_harmonics", "resample_at", "time_operator"]


def line_harmonics(notch: float | None, sfreq: float) -> NDArray[np.float64]:
    """Return the line frequency and its harmonics below half the sampling rate, Hz."""
    return np.empty(0) if notch is None else np.arange(notch, sfreq / 2 - 1.0, notch)


def bandpass(
    values: NDArray[np.float64],
    sfreq: float,
    l_freq: float | None,
    h_freq: float | None,
    notch: float | None = None,
) -> NDArray[np.float64]:
    """Apply MNE's default zero-phase FIR filters to isolated signals, shape (..., times).

    Outside its window a signal is taken to stay at its first and last value, as a response does
    that begins and ends at rest; so the result is what the filter makes of the same response
    inside a long recording.
    """
    if h_freq is not None and h_freq >= sfreq / 2:
        h_freq = None
    lines = line_harmonics(notch, sfreq)
    if l_freq is None and h_freq is None and not len(lines):
        return values
    taps = 0
    if l_freq is not None or h_freq is not None:
        taps = len(mne.filter.create_filter(None, sfreq, l_freq, h_freq, verbose="error"))
    if len(lines):
        taps = max(taps, round(7 * sfreq))  # MNE's notch filter: 3.3 over its slope of .5 Hz
    margin = [(0, 0)] * (values.ndim - 1) + [(taps, taps)]
    filtered = np.pad(np.asarray(values, dtype=float), margin, mode="edge")
    if len(lines):
        filtered = mne.filter.notch_filter(filtered, sfreq, lines, verbose="error")
    if l_freq is not None or h_freq is not None:
        filtered = mne.filter.filter_data(filtered, sfreq, l_freq, h_freq, verbose="error")
    return np.asarray(filtered[..., taps:-taps])


def resample_at(
    values: NDArray[np.float64],
    sfreq: float,
    start: float,
    times: NDArray[np.float64],
    oversample: int = 8,
) -> NDArray[np.float64]:
    """Evaluate band-limited signals at arbitrary times.

    Parameters
    ----------
    values : numpy.ndarray, shape (..., samples)
        Signals without power near half their sampling rate.
    sfreq, start : float
        Sampling rate in Hz and time of the first sample in s.
    times : numpy.ndarray, shape (times,)
        Times in s within the signals.
    oversample : int
        Factor of the polyphase oversampling that precedes the cubic interpolation.

    Returns
    -------
    numpy.ndarray, shape (..., times)
        Values at ``times``.
    """
    fine = resample_poly(values, oversample, 1, axis=-1, padtype="line")
    grid = start + np.arange(fine.shape[-1]) / (sfreq * oversample)
    return np.asarray(CubicSpline(grid, fine, axis=-1)(times))


def time_operator(
    n_samples: int,
    sfreq: float,
    start: float,
    times: NDArray[np.float64],
    l_freq: float | None,
    h_freq: float | None,
    notch: float | None = None,
) -> NDArray[np.float64]:
    """Return filter and resampling as one matrix, shape (n_samples, times), read-only.

    Both steps are linear, so a signal ``x`` (..., n_samples) becomes ``x @ operator``. A long one
    takes seconds to make, so the last few are kept.
    """
    return _operator(n_samples, sfreq, start, tuple(times.tolist()), l_freq, h_freq, notch)


@lru_cache(maxsize=4)
def _operator(
    n_samples: int,
    sfreq: float,
    start: float,
    times: tuple[float, ...],
    l_freq: float | None,
    h_freq: float | None,
    notch: float | None,
) -> NDArray[np.float64]:
    filtered = bandpass(np.eye(n_samples), sfreq, l_freq, h_freq, notch)
    operator = resample_at(filtered, sfreq, start, np.array(times))
    operator.flags.writeable = False
    return operator
