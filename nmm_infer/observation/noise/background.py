"""The brain's background: activity of a simulated network at the sensors."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import mne
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nmm_infer.errors import InputError

__all__ = ["BrainBackground"]


@dataclass(frozen=True, eq=False)
class BrainBackground:
    """Random segments of random runs of a neural mass network, through a lead field.

    Parameters
    ----------
    info : mne.Info
        Channels, and the sampling rate at which windows are drawn.
    leadfield : xarray.DataArray, dims (channel, region)
        Signal of a region's moment, in V/nAm (MEG: T/nAm, T/m/nAm), e.g. ``Head.leadfield``.
    signals : xarray.DataArray, dims (run, region, time)
        Activity of the regions: potentials in mV, or moments in nAm. The first dimension may have
        any name (a campaign's is ``simulation``).
    sfreq : float
        Sampling rate of the signals in Hz; that of ``info``.
    source_scale : float, optional
        Moment of a region in nAm per mV, for signals in mV; without, the signals are moments.

    Raises
    ------
    InputError
        If sampling rates, regions, channels or units do not match, or a number is not finite.

    Notes
    -----
    ``sensors = leadfield @ moments``: regions keep their own signals. Each run's mean over time is
    taken from each region, as an amplifier does not record constant potentials. Lead field and
    signals are combined as they are: the reference is the lead field's, and the filter the
    signals'. Segments start anywhere in a run and may overlap, so a draw of more windows than the
    bank holds repeats itself.
    """

    info: mne.Info
    leadfield: xr.DataArray
    signals: xr.DataArray
    sfreq: float
    source_scale: float | None = None

    def __post_init__(self) -> None:
        if set(self.leadfield.dims) != {"channel", "region"}:
            raise InputError(
                f"the lead field has dims {self.leadfield.dims}, not ('channel', 'region')"
            )
        if self.signals.ndim != 3 or not {"region", "time"} <= set(self.signals.dims):
            raise InputError(
                f"the signals have dims {self.signals.dims}, not ('run', 'region', 'time')"
            )
        for name, array, dims in (
            ("lead field", self.leadfield, ("channel", "region")),
            ("signals", self.signals, ("region",)),
        ):
            if any(dim not in array.coords for dim in dims):
                raise InputError(f"the {name} must name its {' and '.join(dims)} as coordinates")
        self._check_rate()
        self._check_units()
        lacking = sorted(set(self.channels) - set(self.leadfield["channel"].values))
        if lacking:
            raise InputError(f"the lead field lacks channel(s) {', '.join(lacking)}")
        if not np.isfinite(self.leadfield.values).all():
            raise InputError("the lead field holds NaN or infinite values: compute it again")
        ours, theirs = (set(a["region"].values) for a in (self.leadfield, self.signals))
        if ours != theirs:
            odd = sorted(str(region) for region in ours ^ theirs)
            raise InputError(
                f"lead field and signals have different regions: {', '.join(odd[:6])} "
                f"({len(odd)} in all) are in one of them only"
            )
        bad = np.flatnonzero(~np.isfinite(self._bank).all(axis=(1, 2)))
        if len(bad):
            raise InputError(
                f"{len(bad)} of {len(self._bank)} runs hold NaN or infinite values (the first is "
                f"number {bad[0]}): leave them out"
            )

    def _check_rate(self) -> None:
        wanted, sfreq = float(self.info["sfreq"]), float(self.sfreq)
        if "time" in self.signals.coords and self.signals.sizes["time"] > 1:
            span = self.signals.coords["time"].values.astype(float)
            real = (len(span) - 1) / (span[-1] - span[0])
            if not np.isclose(real, sfreq, rtol=1e-3):
                raise InputError(
                    f"the signals are said to be sampled at {sfreq:g} Hz, but their times in s "
                    f"are those of {real:g} Hz"
                )
        if not np.isclose(wanted, sfreq, rtol=1e-6):
            raise InputError(
                f"the signals are sampled at {sfreq:g} Hz, the sensors at {wanted:g} Hz: resample "
                "the signals first"
            )

    def _check_units(self) -> None:
        expected = "nAm" if self.source_scale is None else "mV"
        units = self.signals.attrs.get("units", expected)
        if units != expected:
            raise InputError(
                f"the signals are in {units}: give source_scale (nAm/mV) for signals in mV, and "
                "none for moments in nAm"
            )
        if self.source_scale is not None and not np.isfinite(self.source_scale):
            raise InputError(f"source_scale is {self.source_scale:g}: it must be finite")

    @property
    def channels(self) -> tuple[str, ...]:
        """Channel names."""
        return tuple(self.info.ch_names)

    def sample(self, n: int, n_times: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """Draw background, shape (n, channel, n_times), in V (MEG: T, T/m).

        Raises
        ------
        InputError
            If the windows are longer than the runs.
        """
        length = self._bank.shape[-1]
        if n_times > length:
            raise InputError(
                f"the runs of the background have {length} samples, {n_times} were asked for"
            )
        runs = rng.integers(len(self._bank), size=n)
        starts = rng.integers(length - n_times + 1, size=n)
        result = np.empty((n, len(self.channels), n_times), dtype=np.float32)
        for window, run, start in zip(result, runs, starts, strict=True):
            np.matmul(self._gain, self._bank[run, :, start : start + n_times], out=window)
        return result

    @cached_property
    def _gain(self) -> NDArray[np.float32]:
        """Lead field of the channels in order, shape (channel, region), per unit of the signals."""
        gain = self.leadfield.sel(channel=list(self.channels)).transpose("channel", "region")
        scale = 1.0 if self.source_scale is None else self.source_scale
        return np.ascontiguousarray(scale * gain.values, dtype=np.float32)

    @cached_property
    def _bank(self) -> NDArray[np.float32]:
        """Signals without their means, regions in the lead field's order, (run, region, time)."""
        ordered = self.signals.sel(region=self.leadfield["region"]).transpose(..., "region", "time")
        values = ordered.values
        means = values.mean(axis=-1, keepdims=True, dtype=np.float64)
        return np.asarray(values - means, dtype=np.float32)
