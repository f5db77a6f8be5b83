"""From stored source activity to observations: lazily, and the same way every time."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import mne
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nmm_infer import _random
from nmm_infer.anatomy import Head, SensorOperator
from nmm_infer.anatomy.sensors import identity, reference
from nmm_infer.campaign import Campaign
from nmm_infer.errors import InputError
from nmm_infer.inverse import MOMENTS, RegionOperators, region_operators
from nmm_infer.observation.components import ComponentNoise
from nmm_infer.observation.conditioning import time_operator
from nmm_infer.observation.noise import Noise, NoiseKind, NoiseLevels
from nmm_infer.observation.observation import Observation
from nmm_infer.observation.protocol import EvokedProtocol, Protocol

__all__ = ["Observer", "Sequences", "View"]

_BLOCK = 512


@dataclass(frozen=True, eq=False)
class Sequences:
    """What an estimator sees of some observations.

    Parameters
    ----------
    values : numpy.ndarray, shape (n, step) or (n, step, component)
        Time course in nAm (evoked) or power spectrum in nAm^2/Hz (spontaneous) of the chosen
        region: the mean over its vertices, with sign flips, of the moment that the inverse finds
        at a vertex (not the moment of the whole region, which ``source_scale`` describes). With
        ``protocol.components``: whitened spatial components, in standard deviations of the
        observer's noise.
    region : numpy.ndarray of int, shape (n,)
        Position of the chosen region.
    context : numpy.ndarray, shape (n, context), optional
        What is known of each observation beside its values, numbers of order one (the level and
        the kind of its noise, where these vary); none without.
    simulation : numpy.ndarray of int, shape (n,), optional
        Numbers of the runs, where these are simulations: results are labelled with them.
    """

    values: NDArray[np.float32]
    region: NDArray[np.int64]
    context: NDArray[np.float32] | None = None
    simulation: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def numbers(self) -> NDArray[np.int64]:
        """Number of each run, or from 0 on where none are told, shape (n,)."""
        return np.arange(len(self)) if self.simulation is None else self.simulation

    @property
    def flat(self) -> NDArray[np.float32]:
        """Values and context, shape (n, step * component + context): what networks read."""
        values = self.values.reshape(len(self.values), int(np.prod(self.values.shape[1:])))
        if self.context is None:
            return values
        return np.concatenate([values, self.context], axis=1).astype(np.float32)


class Observer:
    """Head, noise and protocol, as one function from source activity to sequences.

    Parameters
    ----------
    head : Head
        Forward model.
    noise : Noise or NoiseLevels
        Sensor noise, absolute, of the head's channels, which are found by name. With
        ``protocol.components`` its kind and level may differ from run to run.
    protocol : EvokedProtocol or SpontaneousProtocol
        The steps; see :func:`nmm_infer.observation.observe` for the same steps on a recording.
    info : mne.Info
        Channels.
    band : tuple of float, optional
        Pass band of the recording in Hz, where it differs from the protocol's.
    operator : SensorOperator, optional
        Projectors, interpolation and reference that the recording went through; default: the
        protocol's reference.
    components : SensorOperator, optional
        With ``protocol.components`` and one noise, the map from the sensors: that of the data which
        an estimator was trained on. The whitened components of this head and noise without.
    seed : int
        Seed of the sensor noise.
    """

    def __init__(
        self,
        head: Head,
        noise: Noise | NoiseLevels,
        protocol: Protocol,
        info: mne.Info,
        *,
        band: tuple[float, float] | None = None,
        operator: SensorOperator | None = None,
        components: SensorOperator | None = None,
        seed: int = 0,
    ) -> None:
        if not isinstance(noise, Noise | NoiseLevels):
            raise InputError(
                f"noise: give a Noise or NoiseLevels, not a {type(noise).__name__} (see "
                "nmm_infer.observation.noise_from_covariance)"
            )
        noise = noise.of_channels(head.channels)
        if noise.sfreq is not None and not np.isclose(noise.sfreq, protocol.sfreq):
            raise InputError(
                f"the noise is sampled at {noise.sfreq:g} Hz, the protocol at {protocol.sfreq:g} "
                "Hz: make the noise at the protocol's rate"
            )
        self.head = head
        self.noise = noise
        self.protocol = protocol
        self.info = info
        self.band = band or (protocol.l_freq, protocol.h_freq)
        self.seed = seed
        if protocol.region is not None and protocol.region not in head.regions:
            raise InputError(
                f"no region {protocol.region!r}; there are {', '.join(head.regions[:4])}, ... "
                "(see `nmm-infer regions`)"
            )
        if isinstance(noise, NoiseLevels) and protocol.components is None:
            raise InputError(
                "noise that differs from run to run goes with spatial components: set "
                "protocol.components"
            )
        if isinstance(noise, NoiseLevels) and components is not None:
            raise InputError("components are given with one noise, not with kinds and levels of it")
        # nAm per V where the inverse gives moments, so that sequences have readable units.
        self.scale = 1e9 if protocol.inverse in MOMENTS else 1.0
        to = protocol.reference
        self.operator = operator or reference(info, to if isinstance(to, str) else list(to))
        self._components = components
        self._leadfield = self.operator(head.leadfield).values.astype(np.float32)
        self._free = [head.regions.index(name) for name in head.free_regions]
        self._vectors = self.operator(head.vector_leadfield).values.astype(np.float32)

    @cached_property
    def seen_head(self) -> Head:
        """The head as inverses need it: interpolated channels see what the others do."""
        if self.operator.inputs == tuple(self.head.channels):
            return self.head
        return self.head.through(self.operator, self.info)

    @cached_property
    def _operators(self) -> RegionOperators:
        if isinstance(self.noise, NoiseLevels):
            raise InputError("regions are imaged with one noise, not with kinds and levels of it")
        return region_operators(
            self.seen_head,
            self.info,
            self.noise.covariance(),
            self.protocol.inverse,
            self.protocol.inverse_snr,
        )

    @cached_property
    def _course(self) -> NDArray[np.float32]:
        return (self._operators.course.values * self.scale).astype(np.float32)

    @cached_property
    def _power(self) -> NDArray[np.float32]:
        return (self._operators.power.values * self.scale**2).astype(np.float32)

    @cached_property
    def channels_to_components(self) -> tuple[ComponentNoise, ...]:
        """What the sensors become with ``protocol.components``, for each kind of noise."""
        assert self.protocol.components is not None
        if self._components is not None:
            assert not isinstance(self.noise, NoiseLevels)
            return (ComponentNoise.through(NoiseKind(self.noise), self._components),)
        kinds: Mapping[str, NoiseKind] = (
            self.noise.kinds if isinstance(self.noise, NoiseLevels) else {"": NoiseKind(self.noise)}
        )
        columns = np.concatenate(
            [self._leadfield, *np.moveaxis(self._vectors, 1, 0)], axis=1, dtype=np.float64
        )
        return tuple(
            ComponentNoise.of(kind, columns, self.protocol.components, len(self.protocol.times))
            for kind in kinds.values()
        )

    @property
    def context_names(self) -> tuple[str, ...]:
        """What an estimator is told of each observation beside its values."""
        return self.noise.context_names if isinstance(self.noise, NoiseLevels) else ()

    @property
    def components(self) -> SensorOperator | None:
        """The map from the sensors to components, where there is one for all noise."""
        if self.protocol.components is None or isinstance(self.noise, NoiseLevels):
            return None
        matrix = self.channels_to_components[0].matrix.astype(np.float64)
        names = tuple(f"component {k + 1}" for k in range(len(matrix)))
        return SensorOperator(matrix, names, tuple(self.head.channels), units="1")

    @classmethod
    def like(
        cls,
        observation: Observation,
        protocol: Protocol,
        *,
        components: SensorOperator | None = None,
        seed: int = 0,
    ) -> Observer:
        """Return the observer that makes simulations comparable with an observation."""
        return cls(
            observation.head,
            observation.noise,
            protocol,
            observation.info,
            band=observation.band,
            operator=observation.operator,
            components=components,
            seed=seed,
        )

    def sequences(
        self, observation: Observation, *, kind: str | None = None, snr: float | None = None
    ) -> Sequences:
        """Return the sequence of one observation, shape (1, step) or (1, step, component).

        Parameters
        ----------
        observation : Observation
            Data of this observer's channels.
        kind, snr : str and float, optional
            Which of the kinds and levels its noise is taken for, where the observer has several.

        Returns
        -------
        Sequences
            With its context, where there are kinds and levels.

        Raises
        ------
        InputError
            If channels are missing, if kind and level are not told, or if there are none such.

        Warns
        -----
        UserWarning
            If the components' noise differs from what the observer takes it for by more than a
            factor of two in variance.
        """
        if not isinstance(observation, Observation):
            raise InputError(
                f"sequences: give an observation, observe(recording, protocol), not a "
                f"{type(observation).__name__}"
            )
        sensors = identity(self.head.channels)(observation.data).values
        if not isinstance(self.noise, NoiseLevels) and (kind is not None or snr is not None):
            raise InputError("kind and snr choose among noise levels; this observer has one noise")
        if self.protocol.components is None:
            return self.reduce(sensors[None])
        if not isinstance(self.noise, NoiseLevels):
            part, factor, context = self.channels_to_components[0], 1.0, None
        else:
            if kind is None or snr is None:
                raise InputError(
                    "which noise a recording has must be told: give kind= "
                    f"({', '.join(self.noise.kinds)}) and snr= "
                    f"({', '.join(f'{level:g}' for level in self.noise.snrs)})"
                )
            self.noise.only(kind, snr)
            place = list(self.noise.kinds).index(kind)
            level = int(np.flatnonzero(self.noise.snrs == snr)[0])
            part, factor = self.channels_to_components[place], self.noise.levels[snr][kind]
            context = self.noise.context(np.array([place]), np.array([level]))
        part.compare(observation.noise, factor)
        found = self._reduce(sensors[None] / factor, part.matrix)
        return dataclasses.replace(found, context=context)

    def region_courses(self, observation: Observation) -> xr.DataArray:
        """Return the time courses of all regions, dims (region, time), in nAm for MNE and eLORETA.

        Mean moments of a vertex, as in :class:`Sequences`.
        Windows of ongoing activity follow each other in time.
        """
        courses = np.einsum("rc,wct->rwt", self._course, observation.data.values)
        return xr.DataArray(
            courses.reshape(len(courses), -1),
            dims=("region", "time"),
            coords={
                "region": self.head.regions,
                "time": ("time", self.protocol.times, {"units": "s"}),
            },
            attrs={
                "units": self.source_unit,
                "method": self.protocol.inverse,
            },
            name="region_courses",
        )

    def strength(self, observation: Observation) -> xr.DataArray:
        """Return the root mean square source amplitude of each region, dims (region).

        Mean over the vertices of a region and over time (after the event, if there is one), in
        nAm for MNE and eLORETA: what the strongest region is chosen by.
        """
        return xr.DataArray(
            self._strength(observation.data.values[None])[0],
            dims="region",
            coords={"region": self.head.regions},
            attrs={"units": self.source_unit},
            name="strength",
        )

    @property
    def source_unit(self) -> str:
        """Unit of source estimates."""
        return "nA*m" if self.protocol.inverse in MOMENTS else "1"

    def view(self, campaign: Campaign, stream: str = "training") -> View:
        """Look at the valid runs of a campaign through this observer.

        Parameters
        ----------
        campaign : Campaign
            Runs; those that failed, or lie outside of what the study asks about, are left out.
        stream : str
            Name of the noise stream; see :class:`View`.

        Returns
        -------
        View
            The runs that are left, with their numbers (``view.theta``).

        Raises
        ------
        InputError
            If none is left.
        """
        valid = campaign.valid
        if not len(valid):
            raise InputError(f"there is no valid run to look at in {campaign!r}")
        if len(valid) < len(campaign):
            campaign = campaign.select(valid)
        if self.protocol.components is not None:
            from nmm_infer.observation.component_view import ComponentView

            return ComponentView(self, campaign, stream)
        return View(self, campaign, stream)

    def _strength(self, sensors: NDArray[Any]) -> NDArray[Any]:
        """Strength of each region, shape (n, region)."""
        if isinstance(self.protocol, EvokedProtocol):
            sensors = sensors[..., self.protocol.times > 0]
        n, windows, channels, times = sensors.shape
        covariance = (sensors @ np.swapaxes(sensors, -1, -2)).sum(axis=1) / (windows * times)
        power = covariance.reshape(n, -1) @ self._power.reshape(-1, channels**2).T
        return np.asarray(np.sqrt(np.maximum(power, 0.0)))

    def reduce(self, sensors: NDArray[Any]) -> Sequences:
        """Carry sensor signals through the protocol: baseline, regions, choice, spectrum.

        Parameters
        ----------
        sensors : numpy.ndarray, shape (n, window, channel, time)
            In V.

        Returns
        -------
        Sequences
            What an estimator reads, but for any context.

        Raises
        ------
        InputError
            If components are asked for and the noise differs from run to run.
        """
        if self.protocol.components is None:
            return self._reduce(sensors)
        if isinstance(self.noise, NoiseLevels):
            raise InputError(
                "noise that differs from run to run is not known from the sensors alone: ask "
                "sequences() of an observation, with kind= and snr="
            )
        return self._reduce(sensors, self.channels_to_components[0].matrix)

    def _reduce(
        self, sensors: NDArray[Any], components: NDArray[np.float32] | None = None
    ) -> Sequences:
        protocol = self.protocol
        sensors = self.level(sensors)
        if protocol.region is None and isinstance(self.noise, NoiseLevels):
            region = np.zeros(len(sensors), np.int64)  # as a view of components has it
        elif protocol.region is None:
            region = self._strength(sensors).argmax(axis=1)
        else:
            region = np.full(len(sensors), self.head.regions.index(protocol.region))
        if components is not None:
            return Sequences(self._compress(components @ sensors), region)
        chosen = (self._course[region][:, None, None] @ sensors)[:, :, 0]
        evoked = isinstance(protocol, EvokedProtocol)
        values = chosen[:, 0] if evoked else self._spectrum(chosen)
        return Sequences(values.astype(np.float32), region)

    def level(self, signals: NDArray[Any]) -> NDArray[Any]:
        """Take away the baseline, and the mean where the protocol says so, along the last axis."""
        protocol = self.protocol
        if isinstance(protocol, EvokedProtocol):
            baseline = signals[..., protocol.in_baseline]
            signals = signals - baseline.mean(axis=-1, keepdims=True)
            if protocol.demean:
                signals = signals - signals.mean(axis=-1, keepdims=True)
        return signals

    def _compress(self, components: NDArray[Any]) -> NDArray[np.float32]:
        """Return (n, step, component) from components (n, window, component, time)."""
        if isinstance(self.protocol, EvokedProtocol):
            values = components[:, 0]
        else:
            values = self._spectrum(np.moveaxis(components, 2, 0)).transpose(1, 0, 2)
        return np.ascontiguousarray(np.swapaxes(values, 1, 2), dtype=np.float32)

    def _spectrum(self, courses: NDArray[Any]) -> NDArray[Any]:
        """Mean Hann periodogram over windows; courses (..., window, time) in nAm."""
        n = courses.shape[-1]
        taper = np.hanning(n + 2)[1:-1]
        spectrum = (
            np.abs(np.fft.rfft((courses - courses.mean(-1, keepdims=True)) * taper, axis=-1)) ** 2
        )
        spectrum *= 2 / (self.protocol.sfreq * (taper**2).sum())
        grid = np.fft.rfftfreq(n, 1 / self.protocol.sfreq)
        keep = (grid >= self.protocol.l_freq) & (grid <= self.protocol.h_freq)
        return np.asarray(spectrum.mean(axis=-2)[..., keep])


class View:
    """A campaign as an observer sees it.

    Noise-free sensor signals are computed once; sensor noise is drawn afresh for every epoch of
    training, from a stream that depends on the seed, the stream's name, the epoch and the runs in
    the view.

    Parameters
    ----------
    observer : Observer
        The observer.
    campaign : Campaign
        Source activity: variables ``potential`` (simulation, region, time) in mV and ``focus``
        (simulation), with parameters ``source_scale`` [nAm/mV] and ``background``.
    stream : str
        Name of the noise stream: training, validation and test use different ones.
    """

    def __init__(self, observer: Observer, campaign: Campaign, stream: str) -> None:
        self.observer = observer
        self.campaign = campaign
        self.stream = stream
        self._clean: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.campaign)

    @property
    def theta(self) -> xr.DataArray:
        """Parameter sets, dims (simulation, parameter)."""
        return self.campaign.theta

    @property
    def numbers(self) -> NDArray[np.int64]:
        """Numbers of the runs, shape (n,)."""
        return np.asarray(self.campaign.dataset.coords["simulation"].values)

    @property
    def accepted(self) -> float:
        """Share of the prior that the runs stand for (see :attr:`Campaign.accepted`)."""
        return self.campaign.accepted

    def select(self, positions: NDArray[np.int64]) -> View:
        """Return a view of some of the runs; its noise is its own."""
        part = type(self)(self.observer, self.campaign.select(positions), self.stream)
        if self._clean is not None:
            part._clean = self._clean[positions]
        return part

    def clean(self) -> NDArray[np.float32]:
        """Return noise-free sensors, shape (n, window, channel, time), in V."""
        if self._clean is None:
            self._clean = self._compute()
        return self._clean

    def _compute(self) -> NDArray[np.float32]:
        n_channels, protocol = len(self.observer.head.channels), self.observer.protocol
        times = len(protocol.times)
        clean = np.empty((len(self), n_channels, times), np.float32)
        for rows, moment, operator in _moments(self.observer, self.campaign):
            clean[rows] = self._project(moment, rows) @ operator
        return _windows(clean, protocol.n_windows)

    def _project(self, moment: NDArray[np.float32], rows: slice) -> NDArray[np.float32]:
        """Carry moments (n, region, time) in nAm to the sensors.

        Regions of volumes point in a direction that is drawn for each run, uniformly over the
        sphere: nothing is known of it.
        """
        observer, free = self.observer, self.observer._free
        if not free:
            return np.asarray(observer._leadfield @ moment)
        fixed = np.setdiff1d(np.arange(moment.shape[1]), free)
        numbers = self.numbers[rows]
        u = _random.uniforms(observer.seed, f"directions/{self.stream}", numbers, 2 * len(free))
        up, turn = 2 * u[:, : len(free)] - 1, 2 * np.pi * u[:, len(free) :]
        flat = np.sqrt(1 - up**2)
        directions = np.stack([flat * np.cos(turn), flat * np.sin(turn), up], axis=-1)
        own = np.einsum("cfk,nfk->ncf", observer._vectors, directions.astype(np.float32))
        return np.asarray(observer._leadfield[:, fixed] @ moment[:, fixed] + own @ moment[:, free])

    def sensors(self, epoch: int = 0) -> NDArray[np.float32]:
        """Return noisy sensors, shape (n, window, channel, time), in V."""
        noise_source = self.observer.noise
        if isinstance(noise_source, NoiseLevels):
            raise InputError(
                "sensors have one noise; kinds and levels of it are those of components"
            )
        clean = self.clean()
        n, windows, channels, times = clean.shape
        noisy = np.empty_like(clean)
        numbers = self.numbers
        for start in range(0, n, _BLOCK):
            rows = slice(start, min(start + _BLOCK, n))
            rng = _random.generator(
                self.observer.seed, f"sensors/{self.stream}", epoch, int(numbers[start])
            )
            count = rows.stop - rows.start
            noise = noise_source.sample(count * windows, times, rng)
            noisy[rows] = clean[rows] + noise.reshape(count, windows, channels, times)
        return noisy

    def sequences(self, epoch: int = 0) -> Sequences:
        """Return what an estimator sees, with the noise of one epoch."""
        noisy = self.sensors(epoch)
        parts = [
            self.observer.reduce(noisy[start : start + _BLOCK])
            for start in range(0, len(noisy), _BLOCK)
        ]
        return Sequences(
            np.concatenate([p.values for p in parts]), np.concatenate([p.region for p in parts]),
            simulation=self.numbers,
        )  # fmt: skip


def _moments(
    observer: Observer, campaign: Campaign
) -> Iterator[tuple[slice, NDArray[np.float32], NDArray[np.float32]]]:
    """Read a campaign in blocks: rows, moments (n, region, time) in nAm, and the time operator."""
    data, protocol = campaign.dataset, observer.protocol
    if data.coords["region"].values.tolist() != observer.head.regions:
        raise InputError("the campaign's regions are not those of the head model")
    times = data.coords["time"].values
    sfreq = 1.0 / float(np.diff(times).mean())
    operator = time_operator(
        len(times), sfreq, float(times[0]), protocol.times, *_filters(observer.band),
        protocol.notch,
    ).astype(np.float32)  # fmt: skip
    theta = campaign.theta
    scale = theta.sel(parameter="source_scale").values
    told = "background" in theta.coords["parameter"].values
    ratio = theta.sel(parameter="background").values if told else np.ones(len(theta))
    focus = data["focus"].values
    for start in range(0, len(campaign), _BLOCK):
        rows = slice(start, min(start + _BLOCK, len(campaign)))
        potential = data["potential"].isel(simulation=rows).values
        lost = ~np.isfinite(potential).all(axis=(1, 2)) | ~np.isfinite(scale[rows] + ratio[rows])
        if lost.any():
            numbers = data.coords["simulation"].values[rows][lost]
            raise InputError(
                f"{lost.sum()} runs that are said to have ended well are not finite (the first is "
                f"run {numbers[0]}): leave them out"
            )
        potential = potential - potential[..., :1]  # the resting value is no signal
        weight = np.repeat(ratio[rows, None], potential.shape[1], axis=1)
        weight[np.arange(len(weight)), focus[rows]] = 1.0
        moment = potential * (weight * scale[rows, None]).astype(np.float32)[..., None]
        yield rows, moment, operator


def _windows(signals: NDArray[np.float32], n_windows: int) -> NDArray[np.float32]:
    """Return (n, window, source, time) from (n, source, all times)."""
    n, sources, times = signals.shape
    parted = signals.reshape(n, sources, n_windows, times // n_windows)
    return np.ascontiguousarray(np.moveaxis(parted, 2, 1))


def moments_at(observer: Observer, campaign: Campaign) -> NDArray[np.float32]:
    """Return the moments of all regions, filtered and resampled, (n, window, region, time), nAm."""
    protocol = observer.protocol
    result = np.empty((len(campaign), len(observer.head.regions), len(protocol.times)), np.float32)
    for rows, moment, operator in _moments(observer, campaign):
        result[rows] = moment @ operator
    return _windows(result, protocol.n_windows)


def _filters(band: tuple[float, float]) -> tuple[float | None, float | None]:
    return (band[0] if band[0] > 0 else None), band[1]
