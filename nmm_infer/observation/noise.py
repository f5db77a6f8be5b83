"""Sensor noise: absolute, coloured in time, correlated in space."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import mne
import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_toeplitz, toeplitz
from scipy.spatial.distance import pdist, squareform

from nmm_infer.errors import InputError

__all__ = ["Noise", "noise_from_baseline", "noise_from_level"]

AR_ORDER = 5


def _root(matrix: NDArray[np.float64]) -> NDArray[np.float32]:
    """Symmetric square root of a covariance that may lack rank."""
    values, vectors = np.linalg.eigh(matrix)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    return np.asarray(root, dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Noise:
    """Gaussian noise whose covariance is the product of a spatial and a temporal one.

    Parameters
    ----------
    channels : tuple of str
        Channel names.
    spatial : numpy.ndarray, shape (channel, channel)
        Covariance of one sample of the (averaged) data after reference and filter, in V^2.
    autocorrelation : numpy.ndarray, shape (lag,)
        Correlation in time at lags 0, 1, ... of the protocol's samples; 1 at lag 0.
    source : str
        Where it was estimated.
    """

    channels: tuple[str, ...]
    spatial: NDArray[np.float64]
    autocorrelation: NDArray[np.float64]
    source: str

    def covariance(self, n_samples: int = 1) -> mne.Covariance:
        """Return the spatial covariance as MNE knows it."""
        return mne.Covariance(
            self.spatial, list(self.channels), [], [], nfree=n_samples, verbose="error"
        )

    def sample(self, n: int, n_times: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """Draw noise, shape (n, channel, n_times), in V.

        Raises
        ------
        InputError
            If ``n_times`` exceeds the lags that are known.
        """
        if n_times > len(self.autocorrelation):
            raise InputError(
                f"the noise knows {len(self.autocorrelation)} lags, {n_times} were asked for"
            )
        space, time = self._roots
        white = rng.standard_normal((len(self.channels), n * n_times), dtype=np.float32)
        coloured = (space @ white).reshape(-1, n_times) @ _root(time[:n_times, :n_times])
        shape = (len(self.channels), n, n_times)
        return np.ascontiguousarray(np.swapaxes(coloured.reshape(shape), 0, 1))

    @cached_property
    def _roots(self) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Root of the spatial covariance, and the temporal covariance itself."""
        return _root(self.spatial), toeplitz(self.autocorrelation)


def _autoregressive(autocovariance: NDArray[np.float64], n_lags: int) -> NDArray[np.float64]:
    """Continue an autocorrelation by the autoregressive model with the same first lags."""
    order = min(AR_ORDER, len(autocovariance) - 1)
    rho = autocovariance / autocovariance[0]
    if order < 1:
        return np.concatenate([[1.0], np.zeros(n_lags - 1)])
    weights = solve_toeplitz(rho[:order], rho[1 : order + 1])
    result = list(rho[: order + 1])
    while len(result) < n_lags:
        result.append(float(np.dot(weights, result[-1 : -order - 1 : -1])))
    return np.asarray(result[:n_lags])


def noise_from_baseline(
    baseline: NDArray[np.float64], info: mne.Info, n_averages: int, n_lags: int
) -> Noise:
    """Estimate noise from stretches without response.

    Parameters
    ----------
    baseline : numpy.ndarray, shape (segment, channel, time)
        Pre-stimulus data after reference, filter and resampling, in V.
    info : mne.Info
        Channels of the data.
    n_averages : int
        How many trials the observation averages over a segment (1 if the segments are averages
        themselves).
    n_lags : int
        Lags needed, the longest sequence that will be drawn.

    Returns
    -------
    Noise
        Covariance: Ledoit-Wolf shrinkage (:func:`mne.compute_covariance`), divided by
        ``n_averages``. Autocorrelation: pooled over channels and segments, continued by an
        autoregressive model of order 5 (Yule-Walker).
    """
    epochs = mne.EpochsArray(baseline, info.copy(), tmin=0.0, baseline=None, verbose="error")
    covariance = mne.compute_covariance(
        epochs, method="ledoit_wolf", rank="full", on_mismatch="ignore", verbose="error"
    )
    # Not centred by segment: what is slower than a segment is noise too.
    lags = min(AR_ORDER + 1, baseline.shape[-1] // 2)
    length = baseline.shape[-1]
    # Biased estimates: they make the autoregressive model stable.
    autocovariance = np.array(
        [np.mean((baseline[..., : length - k] * baseline[..., k:]).sum(-1)) for k in range(lags)]
    )
    n = len(info.ch_names)
    reference = np.eye(n) - 1.0 / n
    return Noise(
        tuple(info.ch_names),
        reference @ covariance.data @ reference / n_averages,
        _autoregressive(autocovariance, n_lags),
        f"baseline of the recording ({len(baseline)} segments, averaged over {n_averages})",
    )


def noise_from_level(
    info: mne.Info,
    level: float,
    n_lags: int,
    sfreq: float,
    band: tuple[float, float],
    *,
    exponent: float = 1.0,
    correlation_length: float = 0.05,
) -> Noise:
    """Describe noise of a given level.

    Parameters
    ----------
    info : mne.Info
        Channels with positions in m.
    level : float
        Standard deviation of one channel before the average reference, in V.
    n_lags, sfreq : int, float
        Length of the longest sequence and its sampling rate in Hz.
    band : tuple of float
        Pass band in Hz: the noise has no power outside it.
    exponent : float
        The power spectrum falls as 1 / f^exponent.
    correlation_length : float
        Distance in m over which the correlation between channels falls to 1 / e.

    Returns
    -------
    Noise
        The noise after the average reference.
    """
    positions = np.array([channel["loc"][:3] for channel in info["chs"]])
    n = len(positions)
    reference = np.eye(n) - 1.0 / n
    spatial = level**2 * np.exp(-squareform(pdist(positions)) / correlation_length)
    frequencies = np.linspace(band[0], band[1], 2048)
    power = frequencies**-exponent
    lags = np.arange(n_lags) / sfreq
    autocorrelation = (power @ np.cos(2 * np.pi * frequencies[:, None] * lags)) / power.sum()
    return Noise(
        tuple(info.ch_names),
        reference @ spatial @ reference,
        autocorrelation,
        f"given: {level * 1e6:g} uV, 1/f^{exponent:g}",
    )
