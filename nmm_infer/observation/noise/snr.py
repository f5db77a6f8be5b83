"""The signal-to-noise ratio, defined once: mean power over mean power, in decibels.

``SNR = 10 log10(mean of signal^2 / mean of noise^2)``, with means over the channels and the samples
of the window, after reference and filter. Powers are not halved and means are not removed. Channels
must be of one unit (only EEG, only magnetometers, or only gradiometers) or whitened: the means of
V^2 and T^2 together say nothing.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nmm_infer.errors import InputError

__all__ = ["Window", "level_for_snr", "scale_to_snr", "snr_db"]

Window: TypeAlias = slice | NDArray[np.bool_]
"""Samples that count: a slice, or a mask of shape (time,)."""


def snr_db(
    signal: NDArray[np.floating],
    noise: NDArray[np.floating],
    window: Window | None = None,
) -> NDArray[np.float64]:
    """Return the signal-to-noise ratio of each window in dB.

    Parameters
    ----------
    signal, noise : numpy.ndarray, shape (..., channel, time)
        After reference and filter, of one channel type or whitened.
    window : slice or numpy.ndarray of bool, shape (time,), optional
        Samples that count, e.g. ``protocol.times > 0``; all without.

    Returns
    -------
    numpy.ndarray, shape (...)
        ``10 log10(mean signal power / mean noise power)``, over channels and samples.

    Raises
    ------
    InputError
        If a signal or a noise is silent or not finite in its window, the window is empty, or their
        shapes do not go together.
    """
    _check_alike(signal, noise)
    return np.asarray(
        10 * np.log10(_power(signal, window, "signal") / _power(noise, window, "noise"))
    )


def scale_to_snr(
    signal: NDArray[np.floating],
    noise: NDArray[np.floating],
    snr_db: ArrayLike,
    window: Window | None = None,
) -> NDArray[np.floating]:
    """Scale each window of noise to a signal-to-noise ratio, exactly.

    The noise then depends on each signal, so its level tells the signal's strength: for studies
    that infer parameters, use :func:`level_for_snr`.

    Parameters
    ----------
    signal, noise : numpy.ndarray, shape (..., channel, time)
        See :func:`snr_db`.
    snr_db : float or array_like, shape (...)
        Ratio in dB, of all windows or of each.
    window : slice or numpy.ndarray of bool, optional
        See :func:`snr_db`; all samples are scaled, whether they count or not.

    Returns
    -------
    numpy.ndarray, shape (..., channel, time)
        The noise times one factor a window.

    Raises
    ------
    InputError
        If the ratio is not finite, shapes do not go together, or a signal or a noise is silent in
        its window. Sparse artefacts (blinks, pops) are silent
        in many windows, and no factor gives these a ratio: sample them with ``present=True``, or
        state the ratio over the whole draw by :func:`level_for_snr`.
    """
    _check_alike(signal, noise)
    target = _ratio(snr_db)
    factor = np.sqrt(_power(signal, window, "signal") / (_power(noise, window, "noise") * target))
    return np.asarray(
        noise * factor[..., None, None].astype(np.result_type(noise, np.float32)),
    )


def level_for_snr(
    signals: NDArray[np.floating],
    noise: NDArray[np.floating],
    snr_db: float,
    window: Window | None = None,
) -> float:
    """Return one factor for the noise of a whole set of signals.

    Parameters
    ----------
    signals : numpy.ndarray, shape (..., channel, time)
        The set, e.g. noise-free signals of draws from the prior.
    noise : numpy.ndarray, shape (..., channel, time)
        A draw, large enough for its mean power to be known; it need not be as large as the set.
    snr_db : float
        Ratio in dB of the mean power of the set to that of the draw. (The mean over the runs of
        their own ratios in dB is another number: it is smaller where runs differ in strength.)
    window : slice or numpy.ndarray of bool, optional
        See :func:`snr_db`.

    Returns
    -------
    float
        What to multiply the noise by: one number for all runs, so that the level tells nothing of
        a run's parameters. Single signals or windows of noise may be silent.

    Raises
    ------
    InputError
        If the ratio is not finite, the channels are not as many, or all signals or all windows of
        noise are silent.
    """
    target = float(_ratio(snr_db))
    power = {}
    for what, values in (("signal", signals), ("noise", noise)):
        power[what] = _squares(values, window, what).mean()
        if power[what] == 0:
            raise InputError(
                f"the {what} is silent in the whole set, which has no signal-to-noise ratio: draw "
                "more windows"
            )
    _check_channels(signals, noise)
    return float(np.sqrt(power["signal"] / (power["noise"] * target)))


def _ratio(snr_db: ArrayLike) -> NDArray[np.float64]:
    """Return ratios of power from ratios in dB."""
    ratio = np.asarray(snr_db, dtype=float)
    if not np.isfinite(ratio).all():
        raise InputError(f"snr_db is {ratio}: give finite numbers")
    return np.asarray(10 ** (ratio / 10))


def _check_channels(signal: NDArray[np.floating], noise: NDArray[np.floating]) -> None:
    ours, theirs = np.shape(signal), np.shape(noise)
    if ours[-2:-1] != theirs[-2:-1]:
        raise InputError(
            f"signal and noise have shapes {ours} and {theirs}: they need the same channels, in "
            "the last dimension but one"
        )


def _check_alike(signal: NDArray[np.floating], noise: NDArray[np.floating]) -> None:
    """Refuse signals and noise of other channels, or of windows that do not pair up."""
    _check_channels(signal, noise)
    ours, theirs = np.shape(signal), np.shape(noise)
    try:
        np.broadcast_shapes(ours[:-2], theirs[:-2])
    except ValueError:
        raise InputError(
            f"signal and noise have shapes {ours} and {theirs}: give as many windows of both"
        ) from None


def _squares(values: NDArray[np.floating], window: Window | None, what: str) -> NDArray[np.float64]:
    """Squares of the samples that count."""
    values = np.asarray(values)
    if values.ndim < 2:
        raise InputError(f"the {what} has shape {values.shape}: it needs channel and time")
    if isinstance(window, np.ndarray) and window.shape != values.shape[-1:]:
        raise InputError(
            f"the window has shape {window.shape}, but the {what} has {values.shape[-1]} samples"
        )
    values = values if window is None else values[..., window]
    if values.size == 0:
        raise InputError(f"no sample of the {what} lies in the window: widen it")
    if not np.isfinite(values).all():
        raise InputError(f"the {what} holds NaN or infinite values: leave such windows out")
    return np.square(values, dtype=np.float64)


def _power(values: NDArray[np.floating], window: Window | None, what: str) -> NDArray[np.float64]:
    """Mean square over channels and samples, shape (...), never 0."""
    power = np.asarray(_squares(values, window, what).mean(axis=(-2, -1)))
    silent = np.flatnonzero(power == 0)
    if len(silent):
        raise InputError(
            f"the {what} is silent in {len(silent)} of {power.size} windows (the first is number "
            f"{silent[0]}), which have no signal-to-noise ratio: leave them out; for sparse "
            "artefacts sample with present=True, or state the ratio over the whole draw by "
            "level_for_snr"
        )
    return power
