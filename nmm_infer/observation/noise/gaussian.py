"""Gaussian sensor noise: absolute, coloured in time, correlated in space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import mne
import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len
from scipy.linalg import solve_toeplitz, toeplitz
from scipy.spatial.distance import pdist, squareform
from scipy.special import boxcox

from nmm_infer._checks import check_whole, pair
from nmm_infer.anatomy.sensors import SensorOperator, identity, reference
from nmm_infer.errors import InputError
from nmm_infer.observation.noise._channels import Level, channel_types, levels, positions

__all__ = [
    "Noise",
    "noise_from_baseline",
    "noise_from_covariance",
    "noise_from_level",
    "power_law_noise",
    "white_noise",
    "widening",
]

AR_ORDER = 5
_WIDE = 1e3  # levels of channels that differ by more are of different units


def _root(matrix: NDArray[np.float64]) -> NDArray[np.float32]:
    """Symmetric square root of a covariance that may lack rank."""
    values, vectors = np.linalg.eigh(matrix)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    return np.asarray(root, dtype=np.float32)


def _spatial_root(covariance: NDArray[np.float64]) -> NDArray[np.float32]:
    """Root of a covariance whose channels may differ in unit.

    V^2 and T^2 differ by some 15 orders of magnitude, more than the eigenvalues of one matrix can
    hold; so such a matrix is first divided by the channels' levels.
    """
    level = np.sqrt(np.clip(np.diag(covariance), 0, None))
    if not level.any() or level.max() < _WIDE * level[level > 0].min():
        return _root(covariance)
    scale = np.where(level > 0, level, 1.0)
    return np.asarray(scale[:, None] * _root(covariance / np.outer(scale, scale)), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Noise:
    """Gaussian noise whose covariance is the product of a spatial and a temporal one.

    Parameters
    ----------
    channels : tuple of str
        Channel names.
    spatial : numpy.ndarray, shape (channel, channel)
        Covariance of one sample of the (averaged) data after reference and filter, in V^2 (T^2
        for magnetometers, T^2/m^2 for gradiometers).
    autocorrelation : numpy.ndarray, shape (lag,)
        Correlation in time at lags 0, 1, ... of the protocol's samples; 1 at lag 0.
    source : str
        Where it was estimated.
    sfreq : float, optional
        Sampling rate in Hz that the lags are for; none where it does not matter (white noise).
    samples : float, optional
        Number of independent samples that it was estimated from; none where it is given.
    """

    channels: tuple[str, ...]
    spatial: NDArray[np.float64]
    autocorrelation: NDArray[np.float64]
    source: str
    sfreq: float | None = None
    samples: float | None = None

    def covariance(self, n_samples: int = 1) -> mne.Covariance:
        """Return the spatial covariance as MNE knows it."""
        return mne.Covariance(
            self.spatial, list(self.channels), [], [], nfree=n_samples, verbose="error"
        )

    def through(self, operator: SensorOperator) -> Noise:
        """Return the noise after a sensor operator: referenced, interpolated, whitened."""
        missing = [name for name in operator.inputs if name not in self.channels]
        if missing:
            raise InputError(
                f"the noise lacks channel(s) {', '.join(missing[:5])}, which the sensor operator "
                "needs: make both for the same channels"
            )
        rows = [self.channels.index(name) for name in operator.inputs]
        spatial = operator.covariance(self.spatial[np.ix_(rows, rows)])
        return replace(self, channels=operator.outputs, spatial=spatial)

    def of_channels(self, channels: Sequence[str]) -> Noise:
        """Return the noise of some of the channels, in their order."""
        if tuple(channels) == self.channels:
            return self
        return self.through(identity(channels))

    def sample(self, n: int, n_times: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """Draw noise, shape (n, channel, n_times), in V (MEG: T, T/m).

        Raises
        ------
        InputError
            If ``n_times`` exceeds the lags that are known.
        """
        if n_times > len(self.autocorrelation):
            raise InputError(
                f"the noise knows {len(self.autocorrelation)} lags, {n_times} were asked for"
            )
        white = rng.standard_normal((len(self.channels), n * n_times), dtype=np.float32)
        coloured = (self._space @ white).reshape(-1, n_times)
        if self.autocorrelation[0] != 1 or self.autocorrelation[1:n_times].any():
            coloured = coloured @ self._time(n_times)
        shape = (len(self.channels), n, n_times)
        return np.ascontiguousarray(np.swapaxes(coloured.reshape(shape), 0, 1))

    @cached_property
    def _space(self) -> NDArray[np.float32]:
        """Root of the spatial covariance."""
        return _spatial_root(self.spatial)

    def _time(self, n_times: int) -> NDArray[np.float32]:
        """Root of the temporal covariance of so many samples, found once."""
        if n_times not in self._times:
            self._times[n_times] = _root(toeplitz(self.autocorrelation[:n_times]))
        return self._times[n_times]

    @cached_property
    def _times(self) -> dict[int, NDArray[np.float32]]:
        return {}


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
    baseline: NDArray[np.float64],
    info: mne.Info,
    n_averages: int,
    n_lags: int,
    operator: SensorOperator | None = None,
) -> Noise:
    """Estimate noise from stretches without response.

    Parameters
    ----------
    baseline : numpy.ndarray, shape (segment, channel, time)
        Pre-stimulus data after reference, filter and resampling, in V.
    info : mne.Info
        Channels of the data, and their sampling rate.
    n_averages : int
        How many trials the observation averages over a segment (1 if the segments are averages
        themselves).
    n_lags : int
        Lags needed, the longest sequence that will be drawn.
    operator : SensorOperator, optional
        What the data went through, interpolation and reference; the average reference without.
        The covariance is estimated over its inputs and has its rank.

    Returns
    -------
    Noise
        Covariance: Ledoit-Wolf shrinkage (:func:`mne.compute_covariance`), divided by
        ``n_averages`` and widened for the few samples that it comes from (:func:`widening`), which
        ``samples`` has. Autocorrelation: pooled over channels and segments, continued by an
        autoregressive model of order 5 (Yule-Walker).

    Raises
    ------
    InputError
        If the baseline has other channels, is flat or not finite, or a number is not possible.
    """
    baseline = np.asarray(baseline, dtype=float)
    types = np.array(channel_types(info))
    if baseline.ndim != 3 or baseline.shape[1] != len(types) or not baseline.size:
        raise InputError(
            f"the baseline has shape {baseline.shape}, not (segment, {len(types)} channels, time)"
        )
    if not np.isfinite(baseline).all():
        raise InputError("the baseline holds NaN or infinite values: leave such segments out")
    flat = sorted({str(kind) for kind in types if baseline[:, types == kind].std() == 0})
    if flat:
        raise InputError(f"the baseline of all {', '.join(flat)} channels is flat: it has no noise")
    _check_averages(n_averages)
    check_whole("n_lags", n_lags, 1)
    operator = reference(info) if operator is None else operator
    epochs = mne.EpochsArray(baseline, info.copy(), tmin=0.0, baseline=None, verbose="error")
    covariance = mne.compute_covariance(
        epochs, method="ledoit_wolf", rank="full", on_mismatch="ignore", verbose="error"
    )
    autocovariance = _autocovariance(baseline, types.tolist())
    samples = _independent(autocovariance, len(baseline), baseline.shape[-1])
    noise = Noise(
        tuple(covariance.ch_names),
        covariance.data / n_averages * widening(samples),
        _autoregressive(autocovariance, n_lags),
        f"baseline of the recording ({len(baseline)} segments, averaged over {n_averages})",
        float(info["sfreq"]),
        samples,
    )
    return noise.through(operator)


def widening(samples: float) -> float:
    """Return the factor by which a variance that few samples tell is widened.

    What is known of a Gaussian value whose variance is estimated from n independent samples is a t
    distribution with n degrees of freedom (Gelman et al., Bayesian Data Analysis, 3rd ed., section
    3.2), whose variance is larger by n / (n - 2). It is infinite for two samples and fewer: they
    count as three.

    Parameters
    ----------
    samples : float
        Number of independent samples.
    """
    return max(samples, 3.0) / (max(samples, 3.0) - 2.0)


def _independent(autocovariance: NDArray[np.float64], segments: int, length: int) -> float:
    """Count the independent samples among correlated ones, as far as a variance goes.

    Bartlett (1946), J. R. Stat. Soc. Suppl. 8:27-41: the variance of a variance is that of
    independent samples times one plus twice the sum of the squares of the autocorrelation.
    """
    lags = np.arange(1, length)
    rho = _autoregressive(autocovariance, length)[1:]
    return segments * length / float(1.0 + 2.0 * np.sum((1.0 - lags / length) * rho**2))


def _autocovariance(baseline: NDArray[np.float64], types: list[str]) -> NDArray[np.float64]:
    """Pool the autocovariance over segments and channels, these in units of their type's level."""
    # Not centred by segment: what is slower than a segment is noise too.
    length = baseline.shape[-1]
    lags = min(AR_ORDER + 1, length // 2)
    if len(set(types)) > 1:
        kinds = np.array(types)
        level = {kind: baseline[:, kinds == kind].std() for kind in set(types)}
        baseline = baseline / np.array([level[kind] for kind in types])[:, np.newaxis]
    # Biased estimates: they make the autoregressive model stable.
    return np.array(
        [np.mean((baseline[..., : length - k] * baseline[..., k:]).sum(-1)) for k in range(lags)]
    )


def noise_from_level(
    info: mne.Info,
    level: Level,
    n_lags: int,
    sfreq: float,
    band: tuple[float, float],
    *,
    exponent: float = 1.0,
    correlation_length: float = 0.05,
) -> Noise:
    """Describe noise of a given level, correlated between near channels.

    Parameters
    ----------
    info : mne.Info
        Channels with positions in m.
    level : float, dict or numpy.ndarray
        Standard deviation of a channel before the average reference, as in :func:`white_noise`.
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
        The noise after the average reference of EEG; MEG has none.

    Raises
    ------
    InputError
        If a position is unknown, ``correlation_length`` is not above 0, or for the reasons of
        :func:`power_law_noise`.
    """
    if not (np.isfinite(correlation_length) and correlation_length > 0):
        raise InputError(f"correlation_length is {correlation_length:g} m: it must be above 0")
    coloured = power_law_noise(info, level, n_lags, sfreq, band, exponent=exponent)
    types, places = np.array(channel_types(info)), positions(info)
    correlation = np.exp(-squareform(pdist(places)) / correlation_length)
    correlation *= types[:, np.newaxis] == types
    deviation = np.sqrt(np.diag(coloured.spatial))
    spatial = correlation * np.outer(deviation, deviation)
    return replace(coloured, spatial=spatial).through(reference(info))


def white_noise(info: mne.Info, level: Level, n_lags: int) -> Noise:
    """Describe noise that is independent in time and between channels.

    Parameters
    ----------
    info : mne.Info
        EEG and MEG channels.
    level : float, dict or numpy.ndarray
        Standard deviation of a channel, in V (MEG: T, T/m): one for all channels, one for each
        type, as ``{"eeg": ..., "mag": ...}``, or one for each channel, shape (channel,).
    n_lags : int
        Length of the longest sequence that will be drawn.

    Returns
    -------
    Noise
        The noise; no reference is taken.

    Raises
    ------
    InputError
        If a level is missing or negative, or one level is given for channels of different units.
    """
    deviation = levels(info, level)
    check_whole("n_lags", n_lags, 1)
    return Noise(
        tuple(info.ch_names), np.diag(deviation**2), _white(n_lags), _given(deviation, "white")
    )


def power_law_noise(
    info: mne.Info,
    level: Level,
    n_lags: int,
    sfreq: float,
    band: tuple[float, float],
    *,
    exponent: float = 1.0,
) -> Noise:
    """Describe noise with a power spectrum of 1 / f^exponent, independent between channels.

    Parameters
    ----------
    info : mne.Info
        EEG and MEG channels; its sampling rate does not count.
    level : float, dict or numpy.ndarray
        Standard deviation of a channel, as in :func:`white_noise`.
    n_lags, sfreq : int, float
        Length of the longest sequence and its sampling rate in Hz, which the noise keeps.
    band : tuple of float
        Pass band in Hz, above 0 and at most half the sampling rate: the noise has no power
        outside it.
    exponent : float
        0 is white in the band, 1 pink, 2 that of a random walk; see Donoghue et al. (2020, Nat
        Neurosci 23:1655) for those of EEG.

    Returns
    -------
    Noise
        The noise; no reference is taken. See :func:`noise_from_level` for noise that is correlated
        between channels.

    Raises
    ------
    InputError
        If the band or the exponent is impossible, or for the reasons of :func:`white_noise`.
    """
    low, high = pair("band", band)
    check_whole("n_lags", n_lags, 1)
    if not np.isfinite(exponent):
        raise InputError(f"the exponent of power-law noise is {exponent:g}: it must be finite")
    if not 0 < low < high <= sfreq / 2:
        raise InputError(
            f"the band is {low:g} to {high:g} Hz: it must begin above 0 and end at or below half "
            f"the sampling rate, {sfreq / 2:g} Hz"
        )
    deviation = levels(info, level)
    # Fine enough for the lowest frequency, and without return within the lags.
    n = next_fast_len(max(4 * n_lags, round(16 * sfreq / low)), real=True)
    edges = np.clip((np.arange(n // 2 + 2) - 0.5) * sfreq / n, low, high)
    power = np.diff(boxcox(edges, 1 - exponent))  # the integral of f^-exponent over each bin
    autocovariance = irfft(power, n)[:n_lags]
    return Noise(
        tuple(info.ch_names),
        np.diag(deviation**2),
        autocovariance / autocovariance[0],
        _given(deviation, f"1/f^{exponent:g}"),
        float(sfreq),
    )


def noise_from_covariance(
    covariance: mne.Covariance,
    info: mne.Info,
    n_lags: int,
    *,
    autocorrelation: NDArray[np.float64] | None = None,
    n_averages: int = 1,
) -> Noise:
    """Take the noise between channels from a covariance of MNE.

    Parameters
    ----------
    covariance : mne.Covariance
        Full or diagonal, of any rank, in V^2 (MEG: T^2, T^2/m^2). It may hold more channels.
    info : mne.Info
        EEG and MEG channels, matched by name; with an autocorrelation, its sampling rate too.
    n_lags : int
        Length of the longest sequence that will be drawn.
    autocorrelation : numpy.ndarray, shape (lag,), optional
        Correlation in time at ``n_lags`` or more lags, 1 at lag 0; white without.
    n_averages : int
        Trials that the data average over, where the covariance is that of single trials.

    Returns
    -------
    Noise
        The noise; no reference is taken.

    Raises
    ------
    InputError
        If the covariance lacks channels or is none, the autocorrelation is too short or none, or a
        number is not possible.
    """
    _check_averages(n_averages)
    check_whole("n_lags", n_lags, 1)
    missing = [name for name in info.ch_names if name not in covariance.ch_names]
    if missing:
        raise InputError(f"the noise covariance lacks channel(s) {', '.join(missing)}")
    order = [covariance.ch_names.index(name) for name in info.ch_names]
    data = np.asarray(covariance.data, dtype=float)
    spatial = np.diag(data[order]) if data.ndim == 1 else data[np.ix_(order, order)]
    level = np.sqrt(np.clip(np.diag(spatial), 0, None))
    scale = np.where(level > 0, level, 1.0)
    scaled = spatial / np.outer(scale, scale)
    if (
        not np.isfinite(spatial).all()
        or (np.diag(spatial) < 0).any()
        or not np.allclose(scaled, scaled.T, rtol=0, atol=1e-6)
        or np.linalg.eigvalsh(scaled).min() < -1e-6
    ):
        raise InputError(
            "the noise covariance is not finite, not symmetric or has negative eigenvalues: "
            "compute it again, for example with mne.compute_covariance(..., method='shrunk')"
        )
    sfreq = None if autocorrelation is None else float(info["sfreq"])
    if autocorrelation is None:
        autocorrelation = _white(n_lags)
    elif len(autocorrelation) < n_lags or not np.isclose(autocorrelation[0], 1.0):
        raise InputError(
            f"the autocorrelation has {len(autocorrelation)} lags and begins with "
            f"{', '.join(f'{r:g}' for r in autocorrelation[:1]) or 'none'}: it needs {n_lags} and "
            "must begin with 1"
        )
    elif not (np.abs(autocorrelation) <= 1 + 1e-6).all():
        raise InputError("the autocorrelation is NaN or beyond -1 to 1 at a lag: divide by lag 0")
    return Noise(
        tuple(info.ch_names),
        spatial / n_averages,
        np.asarray(autocorrelation, dtype=float)[:n_lags],
        "given covariance",
        sfreq,
    )


def _check_averages(n_averages: float) -> None:
    if not (np.isfinite(n_averages) and n_averages > 0):
        raise InputError(f"n_averages is {n_averages:g}: give the number of trials, 1 or more")


def _white(n_lags: int) -> NDArray[np.float64]:
    return np.concatenate([[1.0], np.zeros(n_lags - 1)])


def _given(deviation: NDArray[np.float64], colour: str) -> str:
    low, high = deviation.min(), deviation.max()
    return f"given: {low:g}{'' if low == high else f' to {high:g}'} (SI units), {colour}"
