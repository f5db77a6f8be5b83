"""One observation: data with everything that is needed to understand them."""

from __future__ import annotations

from dataclasses import dataclass, field

import mne
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nmm_infer.anatomy import Head, SensorOperator
from nmm_infer.anatomy.sensors import bipolar_channels, reference
from nmm_infer.observation.noise import Noise
from nmm_infer.observation.protocol import Protocol

__all__ = ["Observation"]


@dataclass(frozen=True, eq=False)
class Observation:
    """Sensor data after the protocol, with forward model, noise and measurement info.

    Parameters
    ----------
    data : xarray.DataArray, dims (window, channel, time)
        Referenced, filtered and resampled data in V (MEG: T, T/m). One window for an evoked
        response.
    head : Head
        Forward model of these channels.
    noise : Noise
        Noise of the data.
    info : mne.Info
        Channels, at the protocol's sampling rate.
    mask : numpy.ndarray of bool, shape (channel of the recording,)
        Which channels of the recording are used.
    n_averages : int
        Trials that the data average over.
    band : tuple of float
        Pass band of the data in Hz, the filters of the recorder included.
    notes : tuple of str
        What was left out or assumed, in sentences.
    source : str
        Name of the recording's file, or the comment of an average.
    operator : SensorOperator, optional
        What the data went through: projectors, interpolation and reference. Lead fields and noise
        go through it too. Default: the average reference.
    warnings : tuple of str
        What makes an answer less sure than usual, and is the first thing to know of it: few
        trials, a short baseline, many lost epochs.
    protocol : EvokedProtocol or SpontaneousProtocol, optional
        The steps that the recording went through.
    """

    data: xr.DataArray
    head: Head
    noise: Noise
    info: mne.Info
    mask: NDArray[np.bool_]
    n_averages: int
    band: tuple[float, float]
    notes: tuple[str, ...] = field(default=())
    source: str = ""
    operator: SensorOperator | None = None
    warnings: tuple[str, ...] = field(default=())
    protocol: Protocol | None = None

    @property
    def rank(self) -> int:
        """Number of independent signals that the channels hold after the operator."""
        operator = reference(self.info) if self.operator is None else self.operator
        return operator.rank

    def to_evoked(self) -> mne.Evoked:
        """Return the (first window of the) data as MNE knows them, with their projectors."""
        evoked = mne.EvokedArray(
            self.data.values[0],
            self.info,
            tmin=float(self.data.coords["time"].values[0]),
            nave=self.n_averages,
            verbose="error",
        )
        if "eeg" in evoked and not bipolar_channels(self.info):
            evoked.set_eeg_reference("average", projection=True, verbose="error")
        return evoked
