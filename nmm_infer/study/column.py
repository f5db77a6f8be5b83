"""One column by itself: how it is stimulated, and which columns are asked about."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

__all__ = ["ColumnSettings"]


class ColumnSettings(BaseModel):
    """One column, coupled to nothing, that rectangular pulses reach (evoked studies)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    stimulus: dict[str, float] = Field(
        default_factory=dict,
        description="share of `stimulus_amplitude` that enters each target of the model; all of it "
        "the first one when empty",
    )
    duration: float = Field(0.05, gt=0, description="length of a pulse, s")
    trials: int = Field(1, ge=1, description="trials that a response averages over")
    interval: float | None = Field(
        None,
        gt=0,
        description="time from one pulse to the next, s; each trial starts at rest when absent",
    )
    settle: float | None = Field(
        None,
        ge=0,
        description="time before the first window, s; 0 where columns rest when absent, 3 else",
    )
    rest: Literal["equilibrium", "zero"] = Field(
        "equilibrium", description="where a column starts: its lowest equilibrium, or all zero"
    )
    scheme: Literal["heun", "euler"] = Field("heun", description="integration scheme")
    step: float = Field(1e-3, gt=0, le=2e-3, description="integration step, s")
    stratum: Literal["stable", "oscillating", "all"] = Field(
        "stable",
        description="columns that are asked about: those whose lowest equilibrium is stable, those "
        "where it is not, or all; others are rejected, which the campaign says of each",
    )
    jitter: float | None = Field(
        None,
        ge=0,
        description="pulses come at a random time within so many seconds, one for each run: a "
        "column that oscillates is met at a random phase; 0 where columns rest when absent, 1 else",
    )
    patch: float | None = Field(
        10.0,
        gt=0,
        description="radius of the active patch, mm; the whole region when absent",
    )
    noise_level: float = Field(
        0.00823,
        gt=0,
        description="standard deviation of white noise of the averaged response at each electrode "
        "and sample, uV",
    )
    montage: str = Field("biosemi64", description="electrodes, by MNE's name of a montage")

    @field_validator("montage")
    @classmethod
    def _known(cls, name: str) -> str:
        from mne.channels import get_builtin_montages

        if name not in get_builtin_montages():
            raise ValueError(f"MNE has no montage {name!r}; see mne.channels.get_builtin_montages")
        return name
