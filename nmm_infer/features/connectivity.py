"""How far time series of channels or regions go together."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy import signal

from nmm_infer.errors import InputError

__all__ = ["coherence", "correlation"]


def correlation(values: ArrayLike, names: list[str] | None = None) -> xr.DataArray:
    """Return Pearson's correlation of all pairs of channels.

    Parameters
    ----------
    values : array_like, shape (n, channel, time)
        Time series.
    names : list of str, optional
        Names of the channels; their positions without.

    Returns
    -------
    xarray.DataArray, dims (simulation, channel, other)
        Correlations; zero where a channel is constant.
    """
    x = _checked(values)
    x = x - x.mean(axis=-1, keepdims=True)
    size = np.sqrt((x**2).sum(axis=-1, keepdims=True))
    x = np.divide(x, size, out=np.zeros_like(x), where=size > 0)
    return _pairs(np.clip(x @ np.swapaxes(x, -1, -2), -1, 1), names, "correlation")


def coherence(
    values: ArrayLike,
    sfreq: float,
    band: tuple[float, float],
    names: list[str] | None = None,
    *,
    imaginary: bool = False,
    window: float = 2.0,
) -> xr.DataArray:
    """Return the coherence of all pairs of channels, averaged over a band.

    Cross spectra are averages over Hann windows that overlap by half (Welch). The magnitude of
    coherency is returned, or the magnitude of its imaginary part, which sources without delay do
    not produce (Nolte et al. 2004, Clinical Neurophysiology 115:2292-2307).

    Parameters
    ----------
    values : array_like, shape (n, channel, time)
        Time series of at least two windows.
    sfreq : float
        Their rate in Hz.
    band : tuple of float
        Lower and upper frequency in Hz, both included.
    names : list of str, optional
        Names of the channels; their positions without.
    imaginary : bool
        Whether to take the imaginary part.
    window : float
        Length of a window in s; at most half of the series is used.

    Returns
    -------
    xarray.DataArray, dims (simulation, channel, other)
        Mean coherence in the band; zero where a channel has no power.

    Raises
    ------
    InputError
        If no frequency lies in the band.
    """
    x = _checked(values)
    # One window alone is always coherent: there are at least three, by the overlap.
    length = min(max(3, round(window * sfreq)), x.shape[-1] // 2)
    frequencies, _, spectra = signal.spectrogram(
        x, sfreq, "hann", length, length // 2, mode="complex", detrend="constant", axis=-1
    )
    chosen = (frequencies >= band[0]) & (frequencies <= band[1])
    if not chosen.any():
        raise InputError(
            f"coherence: no frequency between {band[0]:g} and {band[1]:g} Hz; there is one every "
            f"{sfreq / length:.3g} Hz: take a longer window, longer series or another band"
        )
    spectra = np.moveaxis(spectra[..., chosen, :], -2, 1)  # n, frequency, channel, window
    cross = spectra @ np.conj(np.swapaxes(spectra, -1, -2))
    power = np.einsum("nfcc->nfc", cross).real
    size = np.sqrt(power[..., :, None] * power[..., None, :])
    coherency = np.divide(cross, size, out=np.zeros_like(cross), where=size > 0)
    part = np.abs(coherency.imag) if imaginary else np.abs(coherency)
    name = "imaginary_coherence" if imaginary else "coherence"
    return _pairs(part.mean(axis=1), names, name)


def _checked(values: ArrayLike) -> NDArray[np.float64]:
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 3 or x.shape[1] < 2:
        raise InputError(
            f"connectivity needs values (n, channel, time) of two channels or more, got {x.shape}"
        )
    return x


def _pairs(values: NDArray[np.float64], names: list[str] | None, name: str) -> xr.DataArray:
    labels = list(range(values.shape[1])) if names is None else list(names)
    return xr.DataArray(
        values,
        dims=("simulation", "channel", "other"),
        coords={"channel": labels, "other": labels},
        attrs={"units": "1"},
        name=name,
    )
