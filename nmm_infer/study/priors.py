"""What is believed before a recording is seen, and how a study changes it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from nmm_infer.errors import InputError
from nmm_infer.models import Constant
from nmm_infer.parameters import Parameter

__all__ = ["COLUMN", "CONDITIONS", "SENSORS", "PriorRange", "check_bounds"]

_JR = "Jansen and Rit 1995"
_RANGE = "about three quarters to five or seven fifths of the value of Jansen and Rit 1995"
_DIPOLES = (
    "Murakami and Okada 2015, NeuroImage 111:49-58: moment densities of .16 to .77 nAm/mm^2, over "
    "a Desikan-Killiany region of about 1,800 mm^2 and a potential of about 10 mV at its largest"
)

#: What is believed of a column: the parameters that most studies ask about.
COLUMN = (
    Parameter("A", "mV", "uniform", 2.6, 4.5, "$A$", _RANGE),
    Parameter("B", "mV", "uniform", 17.6, 30.0, "$B$", _RANGE),
    Parameter("a", "1/s", "uniform", 75.0, 125.0, "$a$", _RANGE),
    Parameter("b", "1/s", "uniform", 37.0, 63.0, "$b$", _RANGE),
    Parameter("C", "1", "uniform", 100.0, 170.0, "$C$", _RANGE),
)
_SPEED = Parameter(
    "conduction_speed", "m/s", "fixed", 4.0, symbol="$v$",
    source="between the default of The Virtual Brain (3 m/s) and the sweep of 1 to 10 m/s that is "
    "usual; Lemarechal et al. 2022, Brain, doi 10.1093/brain/awab362: a median delay of 10 ms",
)  # fmt: skip
CONDITIONS: dict[str, tuple[Parameter, ...]] = {
    "evoked": (
        Parameter("drive", "1/s", "uniform", 0.0, 30.0, "$p$", "columns rest without input"),
        Parameter(
            "noise", "1/s**0.5", "fixed", 6.0, symbol=r"$\sigma_p$",
            source="gives resting columns fluctuations of about 1 mV in a single trial",
        ),
        Parameter(
            "coupling", "1", "uniform", 0.0, 30.0, "$G$", "rows of the connectome sum to one"
        ),
        _SPEED,
        Parameter(
            "stimulus_amplitude", "1/s", "loguniform", 60.0, 300.0, "$q$",
            f"{_JR}, section 4: a peak of the order of the background",
        ),
        Parameter(
            "stimulus_onset", "s", "uniform", 0.03, 0.1, "$t_0$",
            "conduction from the sense organ to the cortex",
        ),
    ),
    "spontaneous": (
        Parameter("drive", "1/s", "uniform", 180.0, 240.0, "$p$", f"{_JR}: 120 to 320 /s"),
        Parameter("noise", "1/s**0.5", "uniform", 4.0, 8.0, r"$\sigma_p$", f"{_JR}, in order"),
        Parameter(
            "coupling", "1", "uniform", 0.0, 60.0, "$G$", "rows of the connectome sum to one"
        ),
        _SPEED,
    ),
    # One column by itself: what is not asked about is known.
    "column": (
        Parameter("drive", "1/s", "fixed", 0.0, symbol="$p$", source="none unless the study says"),
        Parameter("noise", "1/s**0.5", "fixed", 0.0, symbol=r"$\sigma_p$", source="as for drive"),
        Parameter(
            "stimulus_amplitude", "1/s", "fixed", 60.0, symbol="$q$",
            source="Tilwani and O'Reilly 2024-25, released code",
        ),
        Parameter(
            "source_scale", "nA*m/mV", "fixed", 20.0, symbol="$s$",
            source="Tilwani and O'Reilly 2024-25, released code: 1 nAm/mV a vertex, of which a "
            "patch of 10 mm holds about 20 (16 mm^2 each)",
        ),
    ),
}  # fmt: skip
SENSORS = (
    Parameter("source_scale", "nA*m/mV", "signed_lognormal", 50.0, 2.0, "$s$", _DIPOLES),
    Parameter(
        "background", "1", "loguniform", 0.1, 1.0, r"$\beta$",
        "source scale of all other regions over that of the focus",
    ),
)  # fmt: skip


class PriorRange(BaseModel):
    """A change to the prior of one parameter."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    distribution: Literal[
        "uniform", "loguniform", "normal", "lognormal", "signed_lognormal", "fixed"
    ] = Field(description="family of the prior")
    low: float = Field(description="lower bound, mean, median magnitude, or fixed value")
    high: float = Field(
        float("nan"), description="upper bound, standard deviation, or geometric one"
    )
    source: str = Field("the study", description="where the range comes from")

    @field_validator("high", mode="before")
    @classmethod
    def _absent(cls, value: Any) -> Any:
        return float("nan") if value is None else value  # JSON knows no NaN


def check_bounds(parameter: Parameter, constant: Constant) -> None:
    """Refuse a prior whose bounds leave those of the model."""
    if parameter.distribution not in ("uniform", "loguniform", "fixed"):
        return
    values = (
        [parameter.low] if parameter.distribution == "fixed" else [parameter.low, parameter.high]
    )
    for value in values:
        if not constant.low <= value <= constant.high:
            raise InputError(
                f"prior.{parameter.name}: {value:g} {constant.unit} is outside the bounds of the "
                f"model, {constant.low:g} to {constant.high:g}"
            )
