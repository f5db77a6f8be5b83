"""From stored source activity to observations: lazily, and the same way every time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mne
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nmm_infer import _random
from nmm_infer.anatomy import Head, SensorOperator
from nmm_infer.anatomy.sensors import reference
from nmm_infer.campaign import Campaign
from nmm_infer.errors import InputError
from nmm_infer.inverse import MOMENTS, region_operators
from nmm_infer.observation.conditioning import time_operator
from nmm_infer.observation.noise import Noise
from nmm_infer.observation.observation import Observation
from nmm_infer.observation.protocol import EvokedProtocol, Protocol

__all__ = ["Observer", "Sequences", "View"]

_BLOCK = 512


@dataclass(frozen=True, eq=False)
class Sequences:
    """What an estimator sees of some observations.

    Parameters
    ----------
    values : numpy.ndarray, shape (n, step)
        Time course in nAm (evoked) or power spectrum in nAm^2/Hz (spontaneous) of the chosen
        region: the mean over its vertices, with sign flips, of the moment that the inverse finds
        at a vertex (not the moment of the whole region, which ``source_scale`` describes).
    region : numpy.ndarray of int, shape (n,)
        Position of the chosen region.
    """

    values: NDArray[np.float32]
    region: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.values)


class Observer:
    """Head, noise and protocol, as one function from source activity to sequences.

    Parameters
    ----------
    head : Head
        Forward model.
    noise : Noise
        Sensor noise, absolute.
    protocol : EvokedProtocol or SpontaneousProtocol
        The steps; see :func:`nmm_infer.observation.observe` for the same steps on a recording.
    info : mne.Info
        Channels.
    band : tuple of float, optional
        Pass band of the recording in Hz, where it differs from the protocol's.
    operator : SensorOperator, optional
        Interpolation and reference that the recording went through; the protocol's reference
        without.
    seed : int
        Seed of the sensor noise.
    """

    def __init__(
        self,
        head: Head,
        noise: Noise,
        protocol: Protocol,
        info: mne.Info,
        *,
        band: tuple[float, float] | None = None,
        operator: SensorOperator | None = None,
        seed: int = 0,
    ) -> None:
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
        operators = region_operators(
            head, info, noise.covariance(), protocol.inverse, protocol.inverse_snr
        )
        # nAm per V where the inverse gives moments, so that sequences have readable units.
        self.scale = 1e9 if protocol.inverse in MOMENTS else 1.0
        self._course = (operators.course.values * self.scale).astype(np.float32)
        self._power = (operators.power.values * self.scale**2).astype(np.float32)
        to = protocol.reference
        self.operator = operator or reference(info, to if isinstance(to, str) else list(to))
        self._leadfield = self.operator(head.leadfield).values.astype(np.float32)
        self._free = [head.regions.index(name) for name in head.free_regions]
        self._vectors = self.operator(head.vector_leadfield).values.astype(np.float32)

    @classmethod
    def like(cls, observation: Observation, protocol: Protocol, *, seed: int = 0) -> Observer:
        """Return the observer that makes simulations comparable with an observation."""
        return cls(
            observation.head,
            observation.noise,
            protocol,
            observation.info,
            band=observation.band,
            operator=observation.operator,
            seed=seed,
        )

    def sequences(self, observation: Observation) -> Sequences:
        """Return the sequence of one observation, shape (1, step)."""
        return self._reduce(observation.data.values[None])

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
        """Look at a campaign through this observer."""
        return View(self, campaign, stream)

    def _strength(self, sensors: NDArray[Any]) -> NDArray[Any]:
        """Strength of each region, shape (n, region)."""
        if isinstance(self.protocol, EvokedProtocol):
            sensors = sensors[..., self.protocol.times > 0]
        n, windows, channels, times = sensors.shape
        covariance = (sensors @ np.swapaxes(sensors, -1, -2)).sum(axis=1) / (windows * times)
        power = covariance.reshape(n, -1) @ self._power.reshape(-1, channels**2).T
        return np.asarray(np.sqrt(np.maximum(power, 0.0)))

    def _reduce(self, sensors: NDArray[Any]) -> Sequences:
        """Baseline, regions, choice, spectrum; sensors have dims (n, window, channel, time)."""
        protocol = self.protocol
        if isinstance(protocol, EvokedProtocol):
            baseline = sensors[..., protocol.in_baseline]
            sensors = sensors - baseline.mean(axis=-1, keepdims=True)
        if protocol.region is None:
            region = self._strength(sensors).argmax(axis=1)
        else:
            region = np.full(len(sensors), self.head.regions.index(protocol.region))
        chosen = (self._course[region][:, None, None] @ sensors)[:, :, 0]
        evoked = isinstance(protocol, EvokedProtocol)
        values = chosen[:, 0] if evoked else self._spectrum(chosen)
        return Sequences(values.astype(np.float32), region)

    def _spectrum(self, courses: NDArray[Any]) -> NDArray[Any]:
        """Mean Hann periodogram over windows; courses (n, window, time) in nAm."""
        n = courses.shape[-1]
        taper = np.hanning(n + 2)[1:-1]
        spectrum = (
            np.abs(np.fft.rfft((courses - courses.mean(-1, keepdims=True)) * taper, axis=-1)) ** 2
        )
        spectrum *= 2 / (self.protocol.sfreq * (taper**2).sum())
        grid = np.fft.rfftfreq(n, 1 / self.protocol.sfreq)
        keep = (grid >= self.protocol.l_freq) & (grid <= self.protocol.h_freq)
        return np.asarray(spectrum.mean(axis=1)[..., keep])


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

    def select(self, positions: NDArray[np.int64]) -> View:
        """Return a view of some of the runs; its noise is its own."""
        part = View(self.observer, self.campaign.select(positions), self.stream)
        if self._clean is not None:
            part._clean = self._clean[positions]
        return part

    def clean(self) -> NDArray[np.float32]:
        """Return noise-free sensors, shape (n, window, channel, time), in V."""
        if self._clean is None:
            self._clean = self._compute()
        return self._clean

    def _compute(self) -> NDArray[np.float32]:
        data = self.campaign.dataset
        observer, protocol = self.observer, self.observer.protocol
        if data.coords["region"].values.tolist() != observer.head.regions:
            raise InputError("the campaign's regions are not those of the head model")
        times = data.coords["time"].values
        sfreq = 1.0 / float(np.diff(times).mean())
        operator = time_operator(
            len(times), sfreq, float(times[0]), protocol.times, *_filters(observer.band),
            protocol.notch,
        ).astype(np.float32)  # fmt: skip
        n_channels = len(observer.head.channels)
        n_times = len(protocol.times) // protocol.n_windows
        clean = np.empty((len(self), n_channels, len(protocol.times)), np.float32)
        theta = self.theta.to_series().unstack("parameter")
        scale, ratio = theta["source_scale"].to_numpy(), theta["background"].to_numpy()
        focus = data["focus"].values
        for start in range(0, len(self), _BLOCK):
            rows = slice(start, min(start + _BLOCK, len(self)))
            potential = data["potential"].isel(simulation=rows).values
            potential = potential - potential[..., :1]  # the resting value is no signal
            weight = np.repeat(ratio[rows, None], potential.shape[1], axis=1)
            weight[np.arange(len(weight)), focus[rows]] = 1.0
            moment = potential * (weight * scale[rows, None]).astype(np.float32)[..., None]
            clean[rows] = self._project(moment, rows) @ operator
        shape = (len(self), n_channels, protocol.n_windows, n_times)
        return np.ascontiguousarray(np.moveaxis(clean.reshape(shape), 2, 1))

    def _project(self, moment: NDArray[np.float32], rows: slice) -> NDArray[np.float32]:
        """Carry moments (n, region, time) in nAm to the sensors.

        Regions of volumes point in a direction that is drawn for each run, uniformly over the
        sphere: nothing is known of it.
        """
        observer, free = self.observer, self.observer._free
        if not free:
            return np.asarray(observer._leadfield @ moment)
        fixed = np.setdiff1d(np.arange(moment.shape[1]), free)
        numbers = self.campaign.dataset.coords["simulation"].values[rows]
        u = _random.uniforms(observer.seed, f"directions/{self.stream}", numbers, 2 * len(free))
        up, turn = 2 * u[:, : len(free)] - 1, 2 * np.pi * u[:, len(free) :]
        flat = np.sqrt(1 - up**2)
        directions = np.stack([flat * np.cos(turn), flat * np.sin(turn), up], axis=-1)
        own = np.einsum("cfk,nfk->ncf", observer._vectors, directions.astype(np.float32))
        return np.asarray(observer._leadfield[:, fixed] @ moment[:, fixed] + own @ moment[:, free])

    def sensors(self, epoch: int = 0) -> NDArray[np.float32]:
        """Return noisy sensors, shape (n, window, channel, time), in V."""
        clean = self.clean()
        n, windows, channels, times = clean.shape
        noisy = np.empty_like(clean)
        numbers = self.campaign.dataset.coords["simulation"].values
        for start in range(0, n, _BLOCK):
            rows = slice(start, min(start + _BLOCK, n))
            rng = _random.generator(
                self.observer.seed, f"sensors/{self.stream}", epoch, int(numbers[start])
            )
            count = rows.stop - rows.start
            noise = self.observer.noise.sample(count * windows, times, rng)
            noisy[rows] = clean[rows] + noise.reshape(count, windows, channels, times)
        return noisy

    def sequences(self, epoch: int = 0) -> Sequences:
        """Return what an estimator sees, with the noise of one epoch."""
        noisy = self.sensors(epoch)
        parts = [
            self.observer._reduce(noisy[start : start + _BLOCK])
            for start in range(0, len(noisy), _BLOCK)
        ]
        return Sequences(
            np.concatenate([p.values for p in parts]), np.concatenate([p.region for p in parts])
        )


def _filters(band: tuple[float, float]) -> tuple[float | None, float | None]:
    return (band[0] if band[0] > 0 else None), band[1]
