"""Band powers, the alpha peak and the aperiodic part of a power spectrum."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy import signal

from nmm_infer.errors import InputError
from nmm_infer.features._labels import Feature, label, series

__all__ = ["BANDS", "SPECTRUM", "power_spectrum", "spectrum_features"]

#: Bands of the EEG in Hz: the customary ones, gamma up to below the line frequency.
BANDS = {
    "delta": (1.0, 4.0),
    "theta": (4.0, 8.0),
    "alpha": (8.0, 13.0),
    "beta": (13.0, 30.0),
    "gamma": (30.0, 45.0),
}
#: Where the alpha peak is looked for, and what the aperiodic fit leaves out, in Hz.
_PEAK = (7.0, 14.0)
#: Where the aperiodic part is fitted, in Hz: the range that is usual for EEG (Donoghue et al. 2020,
#: Nature Neuroscience 23:1655-1665, fit 2 to 40 Hz).
_FIT = (2.0, 40.0)
#: Power below this share of a spectrum's largest is not told from none.
_FLOOR = 1e-12
#: Tuning constant of Huber's weights, for 95 % efficiency at normal errors (Huber 1964).
_HUBER = 1.345

SPECTRUM = {
    **{
        f"band_power_{name}": Feature("({unit})**2", f"power from {low:g} to {high:g} Hz")
        for name, (low, high) in BANDS.items()
    },
    **{
        f"relative_power_{name}": Feature("1", f"share of {low:g} to {high:g} Hz in all bands")
        for name, (low, high) in BANDS.items()
    },
    "log_power": Feature("log10(({unit})**2)", "logarithm of the power in all bands"),
    "alpha_peak_frequency": Feature("Hz", "where power stands highest over the aperiodic part"),
    "alpha_peak_power": Feature("log10(1)", "logarithm of power over the aperiodic part there"),
    "aperiodic_slope": Feature("1", "slope of log power over log frequency"),
    "aperiodic_offset": Feature("log10(({unit})**2/Hz)", "log of the aperiodic power at 1 Hz"),
    "spectral_centroid": Feature("Hz", "mean frequency, weighted with power, of all bands"),
}


def power_spectrum(
    values: ArrayLike, sfreq: float, *, window: float = 2.0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return power spectral densities by Welch's method.

    Parameters
    ----------
    values : array_like, shape (..., time)
        Time series.
    sfreq : float
        Their rate in Hz.
    window : float
        Length of the Hann windows in s, which overlap by half; the whole series if it is shorter.

    Returns
    -------
    power : numpy.ndarray, shape (..., frequency)
        One-sided density, in the square of the unit of the series per Hz.
    frequencies : numpy.ndarray, shape (frequency,)
        In Hz.
    """
    x = np.asarray(values, dtype=np.float64)
    length = min(x.shape[-1], max(3, round(window * sfreq)))
    frequencies, power = signal.welch(x, sfreq, nperseg=length, axis=-1)
    return power, frequencies


def spectrum_features(
    power: ArrayLike,
    frequencies: ArrayLike,
    names: Iterable[str] | None = None,
    *,
    unit: str = "mV",
) -> xr.DataArray:
    """Describe power spectra.

    Band powers are integrals of the density over :data:`BANDS` (sums over frequencies times their
    step; a frequency on an edge belongs to the band above). The aperiodic part is a straight line
    through log10 power over log10 frequency from 2 to 40 Hz without 7 to 14 Hz, fitted with
    Huber's weights, so that narrow peaks in other bands count little: the simple form of what
    Donoghue et al. 2020 do. The alpha peak is where log power exceeds that line most between 7
    and 14 Hz, at the vertex of the parabola through three frequencies.

    Finite input gives finite features. A band without a frequency has no power; without any
    power, shares are zero, the centroid is the middle of the frequencies and logarithms stop at
    1e-30. A spectrum without alpha rhythm has a peak of about zero or less, whose frequency means
    little; where no frequency lies between 7 and 14 Hz it is 10.5 Hz, of power zero. With fewer
    than two frequencies to fit, the slope is zero and the offset the mean.

    Parameters
    ----------
    power : array_like, shape (n, frequency)
        Densities, in (unit)**2/Hz.
    frequencies : array_like, shape (frequency,)
        Equidistant frequencies in Hz.
    names : iterable of str, optional
        Features to return; all of :data:`SPECTRUM` without.
    unit : str
        Unit of the time series.

    Returns
    -------
    xarray.DataArray, dims (simulation, feature)
        The features, with their ``unit``.

    Raises
    ------
    InputError
        If shapes or names do not fit, or power is negative.
    """
    density, grid = series(power, frequencies, "frequencies")
    if (density < 0).any():
        raise InputError("power must not be negative: give densities, not decibels or logarithms")
    step = float(grid[1] - grid[0])
    powers = {
        name: density[:, (grid >= low) & (grid < high)].sum(axis=1) * step
        for name, (low, high) in BANDS.items()
    }
    total = np.sum(list(powers.values()), axis=0)
    floor = np.maximum(_FLOOR * density.max(axis=1, keepdims=True), 1e-30)
    logs = np.log10(np.maximum(density, floor))
    slope, offset = _aperiodic(logs, grid)
    frequency, height = _peak(logs, grid, slope, offset)
    lowest, highest = BANDS["delta"][0], BANDS["gamma"][1]
    inside = (grid >= lowest) & (grid < highest)
    weight = density[:, inside].sum(axis=1)
    middle = grid[inside].mean() if inside.any() else grid.mean()
    columns = {
        **{f"band_power_{name}": value for name, value in powers.items()},
        **{
            f"relative_power_{name}": np.divide(
                value, total, out=np.zeros(len(total)), where=total > 0
            )
            for name, value in powers.items()
        },
        "log_power": np.log10(np.maximum(total, 1e-30)),
        "alpha_peak_frequency": frequency,
        "alpha_peak_power": height,
        "aperiodic_slope": slope,
        "aperiodic_offset": offset,
        "spectral_centroid": np.divide(
            density[:, inside] @ grid[inside],
            weight,
            out=np.full(len(weight), middle),
            where=weight > 0,
        ),
    }
    return label(columns, SPECTRUM, names, unit)


def _aperiodic(
    logs: NDArray[np.float64], grid: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fit lines over log10 frequency by iteratively reweighted least squares."""
    fitted = (grid >= _FIT[0]) & (grid <= _FIT[1]) & ((grid < _PEAK[0]) | (grid > _PEAK[1]))
    y = logs[:, fitted]
    if y.shape[1] < 2:
        return np.zeros(len(logs)), logs.mean(axis=1)
    x = np.log10(grid[fitted])
    weights = np.ones_like(y)
    for _ in range(10):
        sums = weights.sum(axis=1)
        centre_x, centre_y = weights @ x / sums, (weights * y).sum(axis=1) / sums
        dx, dy = x - centre_x[:, None], y - centre_y[:, None]
        slope = (weights * dx * dy).sum(axis=1) / (weights * dx**2).sum(axis=1)
        residual = np.abs(dy - slope[:, None] * dx)
        spread = np.median(residual, axis=1, keepdims=True) / 0.6745  # of a normal distribution
        # Rounding of an exact line is no spread.
        limit = _HUBER * np.maximum(spread, 1e-9)
        weights = limit / np.maximum(residual, limit)
    return slope, centre_y - slope * centre_x


def _peak(
    logs: NDArray[np.float64],
    grid: NDArray[np.float64],
    slope: NDArray[np.float64],
    offset: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return frequency of the alpha peak and its height over the aperiodic part."""
    places = np.flatnonzero((grid >= _PEAK[0]) & (grid <= _PEAK[1]))
    if not len(places):
        return np.full(len(logs), np.mean(_PEAK)), np.zeros(len(logs))
    around = slice(max(places[0] - 1, 0), min(places[-1] + 2, len(grid)))
    line = offset[:, None] + slope[:, None] * np.log10(np.maximum(grid[around], 1e-6))
    flat = logs[:, around] - line
    at = flat[:, places - around.start].argmax(axis=1) + places[0] - around.start
    rows, step = np.arange(len(flat)), float(grid[1] - grid[0])
    inside = np.clip(at, 1, flat.shape[1] - 2) if flat.shape[1] >= 3 else at
    left, middle, right = (
        flat[rows, np.clip(inside + k, 0, flat.shape[1] - 1)] for k in (-1, 0, 1)
    )
    bend, rise = left - 2 * middle + right, (right - left) / 2
    vertex = (inside == at) & (bend < 0) & (np.abs(rise) <= np.abs(bend) / 2)
    shift = np.divide(-rise, bend, out=np.zeros(len(flat)), where=vertex)
    return grid[around][at] + shift * step, flat[rows, at] + rise * shift / 2
