"""Artefacts: what electrodes and sensors record beside the brain.

All are sampled as the channels record them: take the data's reference and filter before a level
or a signal-to-noise ratio is stated of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

import mne
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import pdist, squareform
from scipy.special import eval_legendre
from scipy.stats import poisson

from nmm_infer._checks import pair
from nmm_infer.errors import InputError
from nmm_infer.observation.noise._channels import Level, channel_types, levels, positions
from nmm_infer.observation.noise.gaussian import _root

__all__ = ["Blinks", "ElectrodePops", "LineNoise", "SlowDrifts"]

LINE_LEVEL: Mapping[str, float] = MappingProxyType({"eeg": 2e-6, "mag": 2e-13, "grad": 4e-12})
DRIFT_LEVEL: Mapping[str, float] = MappingProxyType({"eeg": 1e-5, "mag": 5e-13, "grad": 1e-11})

# The eyes in the sphere that is fitted to the head: angle in degrees to either side of the
# midline and below the horizontal plane through the centre, and distance as share of the radius.
EYES = (25.0, -30.0, 0.85)
_MEMORY = 8  # time constants after which a pop has passed


@dataclass(frozen=True, eq=False)
class _Artefact:
    info: mne.Info

    def __post_init__(self) -> None:
        channel_types(self.info)

    @property
    def channels(self) -> tuple[str, ...]:
        """Channel names."""
        return tuple(self.info.ch_names)

    @property
    def sfreq(self) -> float:
        """Sampling rate in Hz."""
        return float(self.info["sfreq"])


@dataclass(frozen=True, eq=False)
class LineNoise(_Artefact):
    """The mains: a sinusoid and its harmonics, with one smooth topography in each window.

    Parameters
    ----------
    info : mne.Info
        EEG and MEG channels with positions, and the sampling rate.
    level : float, dict or numpy.ndarray
        Root mean square over time of a channel, in V (MEG: T, T/m): for all channels, for each
        type or for each channel, as in :func:`white_noise`. By default 2 uV, .2 pT and 4 pT/m
        (chosen here).
    frequency : float
        Of the mains, 50 or 60 Hz.
    harmonics : int
        How many sinusoids, the fundamental included (chosen here). Those at or above half the
        sampling rate are left out, as the recorder's own filter does.
    decay : float
        Harmonic ``k`` has an amplitude proportional to ``k ** -decay`` (chosen here).
    smoothness : float
        Length in m of the squared-exponential correlation ``exp(-d^2 / (2 l^2))`` of the
        topography over the distance of two channels (chosen here).

    Raises
    ------
    InputError
        If the sampling rate cannot hold the frequency, a position is unknown, or a value is not
        possible.

    Notes
    -----
    Each window has its own topography (Gaussian, scaled so that its mean square over the channels
    is 1, then multiplied by the levels) and its own phase of each harmonic.
    """

    level: Level = field(default_factory=lambda: LINE_LEVEL)
    frequency: float = 50.0
    harmonics: int = 3
    decay: float = 1.0
    smoothness: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        _positive("line noise", frequency=self.frequency, smoothness=self.smoothness)
        _positive("line noise", harmonics=self.harmonics)
        if not (np.isfinite(self.decay) and self.decay >= 0):
            raise InputError(f"decay of line noise is {self.decay:g}: it must be 0 or more")
        if self.frequency >= self.sfreq / 2:
            raise InputError(
                f"line noise of {self.frequency:g} Hz does not exist in data sampled at "
                f"{self.sfreq:g} Hz: leave it out, or sample faster"
            )
        _ = self._levels, self._field

    def sample(self, n: int, n_times: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """Draw line noise, shape (n, channel, n_times), in V (MEG: T, T/m)."""
        order = np.arange(1, self.harmonics + 1)
        order = order[order * self.frequency < self.sfreq / 2]
        amplitude = order ** -float(self.decay)
        amplitude *= np.sqrt(2 / (amplitude**2).sum())  # a wave of mean square 1
        phase = rng.uniform(0, 2 * np.pi, (n, len(order), 1))
        angle = 2 * np.pi * self.frequency / self.sfreq * order[:, None] * np.arange(n_times)
        wave = (amplitude[:, None] * np.sin(angle + phase)).sum(axis=1)
        topography = rng.standard_normal((n, len(self.channels))) @ self._field
        topography /= np.sqrt((topography**2).mean(axis=1, keepdims=True))
        return np.asarray((topography * self._levels)[..., None] * wave[:, None], dtype=np.float32)

    @cached_property
    def _levels(self) -> NDArray[np.float64]:
        return levels(self.info, self.level)

    @cached_property
    def _field(self) -> NDArray[np.float32]:
        """Root of the covariance of a smooth random field over the channels."""
        distance = squareform(pdist(positions(self.info)))
        return _root(np.exp(-0.5 * (distance / self.smoothness) ** 2))


@dataclass(frozen=True, eq=False)
class Blinks(_Artefact):
    """Blinks of both eyes.

    Parameters
    ----------
    info : mne.Info
        EEG and MEG channels with digitised head points or a montage, and the sampling rate.
    amplitude : float
        Mean peak in V at the EEG channel that lies furthest to the front, against a reference at
        infinity; without EEG, at the front of the sphere (Fpz). MEG channels follow from the same
        dipoles. 100 uV is chosen here.
    rate : float
        Blinks in 1/s. People at rest blink 17 times a minute (Bentivoglio et al. 1997, Mov Disord
        12:1028).
    duration : float
        Of one blink in s, a Hann window as in :func:`mne.simulation.add_eog`. .3 s is chosen here;
        the fields of voluntary blinks last some .4 s (Bardouille et al. 2006, Clin Neurophysiol
        117:952).
    spread : float
        The peak of a blink is the amplitude times a uniform factor in ``1 - spread, 1 + spread``,
        as in :func:`mne.simulation.add_eog`.
    present : bool
        Whether every window must have the peak of a blink. By default blinks come as they do, and
        a window may be silent: see the notes.

    Raises
    ------
    InputError
        If the head's sphere cannot be fitted, no EEG channel is near the forehead, or a value is
        not possible.

    Notes
    -----
    The source is a current dipole in each eye that points ahead. The lid slides over the cornea,
    which is positive (Picton et al. 2000, Clin Neurophysiol 111:53), and the sources of blinks
    point outwards, not along the movement (Brain Topogr 1993, 6:65). The potential is positive and
    largest at Fp1 and Fp2, as recorded (Iwasaki et al. 2005, Clin Neurophysiol 116:878). Forward
    model: MNE's four-layer sphere, fitted to the head points. The places of the eyes in it (25
    degrees to either side, 30 degrees below its equator, .85 of its radius) follow the template
    head and are chosen here; :func:`mne.simulation.add_eog` puts upward dipoles into the equator,
    which makes Fp1 and Fp2 negative on the template montages.

    Blinks are a Poisson process; where two overlap, the larger counts. A signal-to-noise ratio of
    blinks is defined over a whole draw (:func:`level_for_snr`, :class:`Mixture`). A ratio for each
    window (:func:`scale_to_snr`) needs ``present=True``: the number of blinks with their peak in
    the window is then drawn given that it is not 0, and what reaches in from blinks before and
    after stays as it was.
    """

    amplitude: float = 1e-4
    rate: float = 17 / 60
    duration: float = 0.3
    spread: float = 0.5
    present: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _positive("blinks", amplitude=self.amplitude, rate=self.rate, duration=self.duration)
        _check_spread("blinks", self.spread)
        if self.duration * self.sfreq < 2:
            raise InputError(f"blinks of {self.duration:g} s are shorter than two samples")
        _ = self.topography

    @cached_property
    def topography(self) -> NDArray[np.float64]:
        """Peak of a mean blink at each channel, shape (channel,), in V (MEG: T, T/m)."""
        places = positions(self.info)
        centre, radius = _fit_sphere(self.info)
        front = _blink_gain(_front_electrode(centre, radius), centre, radius)[0]
        gain = _blink_gain(self.info, centre, radius)
        eeg = np.array([kind == "eeg" for kind in channel_types(self.info)])
        if eeg.any():
            frontal = np.argmax(np.where(eeg, places[:, 1], -np.inf))
            if gain[frontal] < 0.2 * front:
                raise InputError(
                    f"the EEG channel furthest to the front, {self.channels[frontal]}, is too far "
                    "from the eyes to state the amplitude of blinks: leave blinks out"
                )
            front = gain[frontal]
        return self.amplitude * gain / front

    def sample(self, n: int, n_times: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """Draw blinks, shape (n, channel, n_times), in V (MEG: T, T/m)."""
        step = 1 / self.sfreq
        margin = (self.duration - step) / 2
        first, last = -step / 2, (n_times - 0.5) * step
        peaks = _events(n, self.rate, (first, last), (margin, margin), self.present, rng)
        factors = rng.uniform(1 - self.spread, 1 + self.spread, peaks.shape)
        times = np.arange(n_times) * step
        course = np.zeros((n, n_times))
        for peak, factor in zip(peaks.T, factors.T, strict=True):
            phase = (times - peak[:, None]) / self.duration
            blink = np.where(np.abs(phase) < 0.5, np.cos(np.pi * phase) ** 2, 0.0)
            np.maximum(course, factor[:, None] * blink, out=course)
        return np.asarray(self.topography[:, None] * course[:, None], dtype=np.float32)


@dataclass(frozen=True, eq=False)
class SlowDrifts(_Artefact):
    """Slow drifts, independent between channels: skin potentials, electrodes, the room.

    For skin potentials and impedance as sources of low-frequency noise in EEG see Kappenman and
    Luck (2010, Psychophysiology 47:888).

    Parameters
    ----------
    info : mne.Info
        EEG and MEG channels, and the sampling rate.
    level : float, dict or numpy.ndarray
        Root mean square of a channel, in V (MEG: T, T/m), as in :func:`white_noise`. By default
        10 uV, .5 pT and 10 pT/m (chosen here).
    degree : int, optional
        Draw polynomials of this degree in each window, without their constant; without, a
        stationary Gaussian process in the band.
    band : tuple of float
        Of the process, in Hz: below .5 Hz (chosen here).
    exponent : float
        Its power falls as 1 / f^exponent; 2, a random walk's, is chosen here.

    Raises
    ------
    InputError
        If a level, the band or the degree is impossible.
    """

    level: Level = field(default_factory=lambda: DRIFT_LEVEL)
    degree: int | None = None
    band: tuple[float, float] = (0.01, 0.5)
    exponent: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self._levels
        if self.degree is not None:
            _positive("slow drifts", degree=self.degree)
        if not np.isfinite(self.exponent):
            raise InputError(f"exponent of slow drifts is {self.exponent:g}: it must be finite")
        low, high = pair("band", self.band)
        if not 0 < low < high < self.sfreq / 2:
            raise InputError(
                f"the band of slow drifts is {low:g} to {high:g} Hz: it must begin above 0 and end "
                f"below half the sampling rate, {self.sfreq / 2:g} Hz"
            )

    def sample(self, n: int, n_times: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """Draw drifts, shape (n, channel, n_times), in V (MEG: T, T/m).

        Raises
        ------
        InputError
            If the windows have no more samples than the polynomial's degree.
        """
        basis = self._waves(n_times) if self.degree is None else _polynomials(self.degree, n_times)
        weights = rng.standard_normal((n, len(self.channels), len(basis)))
        return np.asarray((weights * self._levels[:, None]) @ basis, dtype=np.float32)

    @cached_property
    def _levels(self) -> NDArray[np.float64]:
        return levels(self.info, self.level)

    def _waves(self, n_times: int) -> NDArray[np.float64]:
        """Sines and cosines that with random weights make the process, shape (wave, time).

        Their period is at least twice the window, so that the end knows nothing of the beginning.
        """
        low, high = self.band
        period = max(2 * n_times / self.sfreq, 8 / low)
        frequencies = np.arange(np.ceil(low * period), np.floor(high * period) + 1) / period
        amplitude = np.sqrt(frequencies**-self.exponent)
        amplitude /= np.sqrt((amplitude**2).sum())
        angle = 2 * np.pi * frequencies[:, None] * np.arange(n_times) / self.sfreq
        return np.concatenate([amplitude[:, None] * f(angle) for f in (np.cos, np.sin)])


@dataclass(frozen=True, eq=False)
class ElectrodePops(_Artefact):
    """Pops: a step of one electrode, which the amplifier's high pass lets decay.

    Tatum et al. (2011, J Clin Neurophysiol 28:252) describe pops: confined to one electrode, with
    a steep rise and a slower fall.

    Parameters
    ----------
    info : mne.Info
        EEG channels, and the sampling rate. MEG channels among them stay silent.
    amplitude : float
        Mean height of the step in V, of either sign; 100 uV is chosen here.
    rate : float
        Pops in 1/s, all electrodes together; one a minute is chosen here.
    highpass : float
        Corner of the amplifier's high pass of first order in Hz (chosen here): a step decays as
        ``exp(-2 pi highpass t)``.
    spread : float
        The height is the amplitude times a uniform factor in ``1 - spread, 1 + spread`` (chosen
        here).
    present : bool
        Whether every window must have the onset of a pop, as in :class:`Blinks`.

    Raises
    ------
    InputError
        If no channel is EEG, or a value is not possible.

    Notes
    -----
    Pops are a Poisson process, and each is on an electrode of its own choice. What was said of the
    signal-to-noise ratio of :class:`Blinks` holds here too.
    """

    amplitude: float = 1e-4
    rate: float = 1 / 60
    highpass: float = 0.1
    spread: float = 0.5
    present: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _positive("pops", amplitude=self.amplitude, rate=self.rate, highpass=self.highpass)
        _check_spread("pops", self.spread)
        if "eeg" not in channel_types(self.info):
            raise InputError("pops are of electrodes, but there is no EEG channel: leave them out")

    def sample(self, n: int, n_times: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """Draw pops, shape (n, channel, n_times), in V."""
        step = 1 / self.sfreq
        constant = 1 / (2 * np.pi * self.highpass)
        electrodes = np.flatnonzero([kind == "eeg" for kind in channel_types(self.info)])
        # An onset after the last sample but one is seen at the last.
        window = (-step, (n_times - 1) * step)
        onsets = _events(n, self.rate, window, (_MEMORY * constant, 0.0), self.present, rng)
        heights = self.amplitude * rng.uniform(1 - self.spread, 1 + self.spread, onsets.shape)
        heights *= rng.choice([-1.0, 1.0], onsets.shape)
        places = rng.choice(electrodes, onsets.shape)
        times = np.arange(n_times) * step
        result = np.zeros((n, len(self.channels), n_times), dtype=np.float32)
        for onset, height, place in zip(onsets.T, heights.T, places.T, strict=True):
            age = times - onset[:, None]
            decay = np.where(age >= 0, np.exp(-np.clip(age, 0, None) / constant), 0.0)
            result[np.arange(n), place] += (height[:, None] * decay).astype(np.float32)
        return result


def _positive(what: str, **values: float) -> None:
    for name, value in values.items():
        if not (np.isfinite(value) and value > 0):
            raise InputError(f"{name} of {what} is {value:g}: it must be above 0")


def _check_spread(what: str, spread: float) -> None:
    if not 0 <= spread < 1:
        raise InputError(f"spread of {what} is {spread:g}: it must be at least 0 and below 1")


def _events(
    n: int,
    rate: float,
    window: tuple[float, float],
    margins: tuple[float, float],
    present: bool,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Draw times of a Poisson process in windows and their margins, shape (n, event).

    Absent events are NaN. Counts inside and outside are independent, so that the condition that
    one event lies inside (``present``) leaves those outside as they were.
    """
    (first, last), (before, after) = window, margins
    mean = rate * (last - first)
    if present:  # the Poisson distribution without 0, by its quantiles
        inside = poisson.ppf(rng.uniform(np.exp(-mean), 1.0, n), mean).astype(int).clip(1)
    else:
        inside = rng.poisson(mean, n)
    outside = rng.poisson(rate * (before + after), n)
    within = rng.uniform(first, last, (n, inside.max(initial=0)))
    beside = first - before + rng.uniform(0, before + after, (n, outside.max(initial=0)))
    beside[beside >= first] += last - first
    within[np.arange(within.shape[1]) >= inside[:, None]] = np.nan
    beside[np.arange(beside.shape[1]) >= outside[:, None]] = np.nan
    return np.concatenate([within, beside], axis=1)


def _polynomials(degree: int, n_times: int) -> NDArray[np.float64]:
    """Legendre polynomials without the constant, of equal mean square, 1 in sum."""
    if n_times <= degree:
        raise InputError(
            f"a drift of degree {degree} needs more than {degree} samples, the windows have "
            f"{n_times}"
        )
    grid = (2 * np.arange(n_times) + 1) / n_times - 1
    basis = np.array([eval_legendre(k, grid) for k in range(1, degree + 1)])
    return np.asarray(basis / np.sqrt(degree * (basis**2).mean(axis=1, keepdims=True)))


def _fit_sphere(info: mne.Info) -> tuple[NDArray[np.float64], float]:
    """Fit a sphere to the head, as centre and radius in m."""
    try:
        radius, centre, _ = mne.bem.fit_sphere_to_headshape(info, units="m", verbose="error")
    except (RuntimeError, ValueError) as error:
        raise InputError(
            "blinks need the shape of the head, from digitised points or a montage "
            f"(info['dig']): {error}"
        ) from error
    return np.asarray(centre), float(radius)


def _front_electrode(centre: NDArray[np.float64], radius: float) -> mne.Info:
    """Return one electrode at the front of the sphere."""
    info = mne.create_info(["Fpz"], 1.0, "eeg", verbose="error")
    info["chs"][0]["loc"][:] = 0.0
    info["chs"][0]["loc"][:3] = centre + np.array([0.0, radius, 0.0])
    return info


def _blink_gain(info: mne.Info, centre: NDArray[np.float64], radius: float) -> NDArray[np.float64]:
    """Field of unit dipoles in both eyes, shape (channel,), per Am."""
    side, up = np.deg2rad(EYES[:2])
    right = np.array([np.sin(side) * np.cos(up), np.cos(side) * np.cos(up), np.sin(up)])
    eyes = centre + EYES[2] * radius * np.array([right, right * [-1.0, 1.0, 1.0]])
    ahead = np.array([[0.0, 1.0, 0.0]] * 2)
    source = mne.setup_volume_source_space(pos={"rr": eyes, "nn": ahead}, verbose="error")
    sphere = mne.make_sphere_model(centre, radius, verbose="error")
    forward = mne.make_forward_solution(info, None, source, sphere, mindist=0.0, verbose="error")
    forward = mne.convert_forward_solution(forward, force_fixed=True, verbose="error")
    rows = [forward["sol"]["row_names"].index(name) for name in info.ch_names]
    return np.asarray(forward["sol"]["data"].sum(axis=1)[rows], dtype=float)
