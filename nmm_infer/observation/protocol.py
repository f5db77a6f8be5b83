"""The protocol: one chain of steps for recordings and for simulations."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from nmm_infer.inverse import MOMENTS

__all__ = ["EvokedProtocol", "Protocol", "SpontaneousProtocol"]

MAX_STEPS = 150
MAX_COMPONENTS = 16


class _Steps(BaseModel):
    """Steps that every protocol has."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    sensors: Literal["auto", "eeg", "meg"] = Field(
        "auto", description="channels that are used; `auto` takes EEG where there is any, else MEG"
    )
    bads: Literal["drop", "interpolate"] = Field(
        "drop", description="what becomes of channels that are marked bad, flat or not finite"
    )
    reference: Literal["average", "none"] | tuple[str, ...] = Field(
        "average",
        description="reference of EEG: `average`, `none` (as recorded) or names of channels; "
        "regions do not depend on it",
    )
    notch: float | None = Field(
        None, ge=10, description="line frequency that is filtered out with its harmonics, Hz"
    )
    l_freq: float = Field(0.5, ge=0, description="lower edge of the pass band, Hz; 0: none")
    h_freq: float = Field(30.0, gt=0, description="upper edge of the pass band, Hz")
    sfreq: float = Field(100.0, gt=0, description="sampling rate after resampling, Hz")
    reject: float | None = Field(
        150.0,
        gt=0,
        allow_inf_nan=True,
        description="an epoch with a larger peak-to-peak value of EEG is left out, uV",
    )
    reject_meg: float | None = Field(
        4000.0,
        gt=0,
        allow_inf_nan=True,
        description="the same for MEG, fT (magnetometers) and fT/cm (gradiometers)",
    )
    inverse: Literal["MNE", "dSPM", "sLORETA", "eLORETA"] = Field(
        "eLORETA", description="linear inverse that projects sensors to regions"
    )
    inverse_snr: float = Field(
        3.0, gt=0, description="assumed amplitude SNR; the inverse uses lambda^2 = 1 / SNR^2"
    )
    region: str | None = Field(
        None, description="region whose column is inferred; the strongest region when absent"
    )
    components: int | None = Field(
        None,
        ge=1,
        le=MAX_COMPONENTS,
        description="spatial components that the estimator sees: the first ones of the whitened "
        "lead field; the course of the region when absent",
    )

    @property
    def n_components(self) -> int:
        """Values at each step of the sequence that an estimator sees."""
        return 1 if self.components is None else self.components

    @property
    def thresholds(self) -> dict[str, float]:
        """Peak-to-peak values that reject, by channel type, in V, T and T/m."""
        limits = {"eeg": (self.reject, 1e-6), "mag": (self.reject_meg, 1e-15)}
        limits["grad"] = (self.reject_meg, 1e-13)
        return {kind: value * unit for kind, (value, unit) in limits.items() if value is not None}

    @field_validator("reference", mode="before")
    @classmethod
    def _check_reference(cls, value: Any) -> Any:
        if isinstance(value, str) and value not in ("average", "none"):
            raise ValueError(f'give "average", "none", or names of channels in a list: ["{value}"]')
        return value

    @model_validator(mode="after")
    def _check_band(self) -> _Steps:
        if not self.l_freq < self.h_freq:
            raise ValueError(f"l_freq ({self.l_freq}) must be below h_freq ({self.h_freq})")
        if self.sfreq < 2.5 * self.h_freq:
            raise ValueError(
                f"sfreq ({self.sfreq} Hz) must be at least 2.5 times h_freq ({self.h_freq} Hz)"
            )
        return self


class EvokedProtocol(_Steps):
    """Average of epochs around an event, referenced to the average of all channels.

    Order of the steps: pick, bad channels, reference, notch and band filter (zero-phase FIR, MNE's
    default design), epoch, reject, average, resample, baseline, project to regions, choose the
    region.
    """

    kind: Literal["evoked"] = "evoked"
    tmin: float = Field(-0.1, lt=0, description="start of the window, s from the event")
    tmax: float = Field(
        0.3, gt=0, description="end of the window, s; early enough to keep motor responses out"
    )
    baseline: tuple[float, float] | None = Field(
        None, description="start and end of the baseline, s; from tmin to the event when absent"
    )
    demean: bool = Field(
        False, description="whether the mean of the window is removed, after the baseline"
    )
    noise_window: float = Field(
        0.5, gt=0, description="time before the event from which noise is estimated, s"
    )

    @model_validator(mode="after")
    def _check_length(self) -> EvokedProtocol:
        if self.n_steps > MAX_STEPS:
            raise ValueError(
                f"the window has {self.n_steps} samples at {self.sfreq} Hz; at most {MAX_STEPS} "
                "are allowed: shorten it or lower sfreq"
            )
        if self.baseline is not None and not self.in_baseline.any():
            raise ValueError(
                f"baseline: no sample lies between {self.baseline[0]} and {self.baseline[1]} s"
            )
        if self.baseline is not None:
            step, (start, stop) = 1 / self.sfreq, self.baseline
            if start <= self.tmin - step or stop >= self.tmax + step:
                raise ValueError(
                    f"baseline: {start} to {stop} s is not within the window, {self.tmin} to "
                    f"{self.tmax} s: move tmin or the baseline"
                )
        return self

    @property
    def in_baseline(self) -> NDArray[np.bool_]:
        """Which of `times` belong to the baseline."""
        start, stop = (-np.inf, 0.0) if self.baseline is None else self.baseline
        return np.asarray((self.times >= start - 1e-9) & (self.times <= stop + 1e-9))

    @property
    def times(self) -> NDArray[np.float64]:
        """Sample times in s, the event at zero."""
        first, last = round(self.tmin * self.sfreq), round(self.tmax * self.sfreq)
        return np.arange(first, last + 1) / self.sfreq

    @property
    def n_windows(self) -> int:
        """Windows in one observation."""
        return 1

    @property
    def n_steps(self) -> int:
        """Length of the sequence that an estimator sees."""
        return len(self.times)

    @property
    def axis(self) -> tuple[str, NDArray[np.float64], str]:
        """Name, values and unit of the axis of that sequence."""
        return "time", self.times, "s"

    @property
    def quantity(self) -> tuple[str, str]:
        """Name and unit of the values of that sequence."""
        return "moment", "nA*m" if self.inverse in MOMENTS else "1"


class SpontaneousProtocol(_Steps):
    """Power spectrum of ongoing activity, averaged over windows.

    Order of the steps: pick, bad channels, reference, filter, cut into windows, resample, project
    to regions, taper (Hann) and average the power of the windows, choose the region.
    """

    kind: Literal["spontaneous"] = "spontaneous"
    l_freq: float = Field(0.5, gt=0, description="lower edge of the pass band, Hz")
    h_freq: float = Field(40.0, gt=0, description="upper edge of the pass band, Hz")
    window: float = Field(2.0, gt=0, description="length of a window, s")
    duration: float = Field(
        8.0, gt=0, description="length of the stretch that one observation covers, s"
    )
    reject: float | None = Field(
        200.0,
        gt=0,
        allow_inf_nan=True,
        description="a window with a larger peak-to-peak value of EEG is left out, uV",
    )

    @model_validator(mode="after")
    def _check_length(self) -> SpontaneousProtocol:
        if self.duration < self.window:
            raise ValueError("duration must be at least one window")
        if self.n_steps > MAX_STEPS:
            raise ValueError(
                f"the spectrum has {self.n_steps} frequencies; at most {MAX_STEPS} are allowed: "
                "shorten the window or the band"
            )
        return self

    @property
    def times(self) -> NDArray[np.float64]:
        """Sample times of one observation, all its windows after each other, in s."""
        return np.arange(self.n_windows * round(self.window * self.sfreq)) / self.sfreq

    @property
    def n_windows(self) -> int:
        """Windows in one observation."""
        return int(self.duration / self.window + 1e-9)

    @property
    def frequencies(self) -> NDArray[np.float64]:
        """Frequencies of the spectrum, in Hz."""
        grid = np.fft.rfftfreq(round(self.window * self.sfreq), 1 / self.sfreq)
        return np.asarray(grid[(grid >= self.l_freq) & (grid <= self.h_freq)], dtype=float)

    @property
    def n_steps(self) -> int:
        """Length of the sequence that an estimator sees."""
        return len(self.frequencies)

    @property
    def axis(self) -> tuple[str, NDArray[np.float64], str]:
        """Name, values and unit of the axis of that sequence."""
        return "frequency", self.frequencies, "Hz"

    @property
    def quantity(self) -> tuple[str, str]:
        """Name and unit of the values of that sequence."""
        return "power", "(nA*m)**2/Hz" if self.inverse in MOMENTS else "1/Hz"


Protocol = Annotated[EvokedProtocol | SpontaneousProtocol, Field(discriminator="kind")]
