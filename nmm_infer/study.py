"""A study: one file that names model, prior, protocol, budget, networks and seed."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nmm_infer.errors import InputError
from nmm_infer.inference import DensitySettings
from nmm_infer.networks import EncoderSettings
from nmm_infer.observation import EvokedProtocol, Protocol, SpontaneousProtocol
from nmm_infer.parameters import Parameter, Prior
from nmm_infer.training import TrainingSettings

__all__ = ["Budget", "Study"]

_JR = "Jansen and Rit 1995"
_RANGE = "about three quarters to five or seven fifths of the value of Jansen and Rit 1995"
_DIPOLES = (
    "Murakami and Okada 2015, NeuroImage 111:49-58: moment densities of .16 to .77 nAm/mm^2, over "
    "a Desikan-Killiany region of about 1,800 mm^2 and a potential of about 10 mV at its largest"
)

#: What is believed of a column: the parameters that most studies ask about.
_COLUMN = (
    Parameter("A", "mV", "uniform", 2.6, 4.5, "$A$", _RANGE),
    Parameter("B", "mV", "uniform", 17.6, 30.0, "$B$", _RANGE),
    Parameter("a", "1/s", "uniform", 75.0, 125.0, "$a$", _RANGE),
    Parameter("b", "1/s", "uniform", 37.0, 63.0, "$b$", _RANGE),
    Parameter("C", "1", "uniform", 100.0, 170.0, "$C$", _RANGE),
)
_CONDITIONS: dict[str, tuple[Parameter, ...]] = {
    "evoked": (
        Parameter("drive", "1/s", "uniform", 0.0, 30.0, "$p$", "columns rest without input"),
        Parameter(
            "noise", "1/s**0.5", "fixed", 6.0, symbol=r"$\sigma_p$",
            source="gives resting columns fluctuations of about 1 mV in a single trial",
        ),
        Parameter(
            "coupling", "1", "uniform", 0.0, 30.0, "$G$", "rows of the connectome sum to one"
        ),
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
    ),
}  # fmt: skip
_SENSORS = (
    Parameter("source_scale", "nA*m/mV", "signed_lognormal", 50.0, 2.0, "$s$", _DIPOLES),
    Parameter(
        "background", "1", "loguniform", 0.1, 1.0, r"$\beta$",
        "source scale of all other regions over that of the focus",
    ),
)  # fmt: skip

#: Parameters that a study is about; the others are nuisances, inferred and marginalised.
SYNAPTIC = tuple(p.name for p in _COLUMN)


class PriorRange(BaseModel):
    """A change to the prior of one parameter."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    distribution: Literal["uniform", "loguniform", "lognormal", "signed_lognormal", "fixed"] = (
        Field(description="family of the prior")
    )
    low: float = Field(description="lower bound, median magnitude, or fixed value")
    high: float = Field(float("nan"), description="upper bound, or geometric standard deviation")
    source: str = Field("the study", description="where the range comes from")


class Budget(BaseModel):
    """How many simulations and draws a study may use."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    training: int = Field(10_000, ge=100, description="training simulations")
    calibration: int = Field(10_000, ge=100, description="fresh simulations that test the fit")
    predictive: int = Field(200, ge=10, description="posterior-predictive simulations")
    draws: int = Field(4_000, ge=100, description="posterior draws for the recording")


class Study(BaseModel):
    """Everything that an analysis depends on, beside the recording.

    Parameters
    ----------
    protocol : EvokedProtocol or SpontaneousProtocol
        Processing steps; ``kind`` chooses between them.
    prior : dict of str to PriorRange
        Changes to the default prior, by parameter name.
    budget, encoder, density, pretraining, training
        Sizes and schedules.
    model : str
        Neural mass model of all regions.
    seed : int
        Seed of everything random.

    Examples
    --------
    >>> study = Study(protocol={"kind": "evoked", "region": "lateraloccipital-rh"}, seed=1)
    >>> study.build_prior().names[:5]
    ['A', 'B', 'a', 'b', 'C']
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    protocol: Protocol = Field(default_factory=EvokedProtocol)
    prior: dict[str, PriorRange] = Field(default_factory=dict)
    budget: Budget = Field(default_factory=Budget)
    encoder: EncoderSettings = Field(default_factory=EncoderSettings)
    density: DensitySettings = Field(default_factory=DensitySettings)
    pretraining: TrainingSettings = Field(
        default_factory=lambda: TrainingSettings(epochs=12, learning_rate=2e-3)
    )
    training: TrainingSettings = Field(
        default_factory=lambda: TrainingSettings(epochs=22, learning_rate=2e-3)
    )
    model: Literal["jansen_rit"] = Field("jansen_rit", description="model of all regions")
    seed: int = Field(0, ge=0, description="seed of everything random")

    @classmethod
    def evoked(cls) -> Self:
        """Return the default study of an evoked response."""
        return cls()

    @classmethod
    def spontaneous(cls) -> Self:
        """Return the default study of ongoing activity."""
        # A run lasts ten times as long as an evoked one.
        budget = Budget(training=3_000, calibration=2_000, predictive=100)
        return cls(protocol=SpontaneousProtocol(), budget=budget)

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read a study from a TOML file.

        Raises
        ------
        InputError
            If the file is missing, is not TOML, or has an unknown or impossible entry; the
            message names the entry.
        """
        path = Path(path)
        try:
            table = tomllib.loads(path.read_text())
        except FileNotFoundError:
            raise InputError(f"{path}: no such study file") from None
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise InputError(f"{path}: not a TOML file ({error})") from error
        protocol = table.get("protocol")
        spontaneous = isinstance(protocol, dict) and protocol.get("kind") == "spontaneous"
        # What the file leaves out, of a table too, is that of the default study of its kind.
        defaults = (cls.spontaneous() if spontaneous else cls.evoked()).model_dump()
        for name, entry in defaults.items():
            if isinstance(entry, dict) and isinstance(table.get(name), dict):
                table[name] = {**entry, **table[name]}
        try:
            study = cls.model_validate({**defaults, **table})
            study.build_prior()
        except ValidationError as error:
            raise InputError(f"{path}: {_first(error)}") from error
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        return study

    def replace(self, **changes: Any) -> Study:
        """Return a study with some entries changed; protocol entries as ``protocol={...}``."""
        table = self.model_dump()
        for name, value in changes.items():
            if isinstance(value, dict) and isinstance(table.get(name), dict):
                table[name].update(value)
            else:
                table[name] = value
        try:
            return type(self).model_validate(table)
        except ValidationError as error:
            raise InputError(_first(error)) from error

    def build_prior(self) -> Prior:
        """Return the prior of all parameters, nuisances included."""
        defaults = {p.name: p for p in (*_COLUMN, *_CONDITIONS[self.protocol.kind], *_SENSORS)}
        unknown = sorted(set(self.prior) - set(defaults))
        if unknown:
            raise InputError(f"prior: no parameter {unknown[0]!r}; there are {', '.join(defaults)}")
        parameters = []
        for name, default in defaults.items():
            change = self.prior.get(name)
            if change is not None:
                values = {**vars(default), **change.model_dump()}
                default = Parameter(**values)
            parameters.append(default)
        return Prior(parameters)


def _first(error: ValidationError) -> str:
    """Say the first problem of a study in one line."""
    problem = error.errors()[0]
    parts = [str(p) for p in problem["loc"] if p not in ("evoked", "spontaneous")]
    where = ".".join(parts) or "study"
    if problem["type"] == "extra_forbidden":
        return f"unknown key {where!r}"
    return f"{where}: {problem['msg'].removeprefix('Value error, ')}"
