"""A study: one file that names model, prior, protocol, budget, networks and seed."""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, get_args

import mne
import xarray as xr
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nmm_infer.anatomy import (
    HeadSettings,
    desikan_killiany_connectome,
    read_connectome,
    row_normalised,
    single_column,
)
from nmm_infer.errors import InputError
from nmm_infer.models import Model, get_model, load_models
from nmm_infer.observation import (
    EvokedProtocol,
    Names,
    Observation,
    Protocol,
    Recording,
    SpontaneousProtocol,
)
from nmm_infer.parameters import Parameter, Prior
from nmm_infer.settings import DensitySettings, EncoderSettings, TrainingSettings
from nmm_infer.study.column import ColumnSettings
from nmm_infer.study.presets import PRESETS
from nmm_infer.study.priors import COLUMN, CONDITIONS, SENSORS, PriorRange, check_bounds

__all__ = ["Budget", "ConnectomeSettings", "Study"]

#: Keys of a protocol that concern what an observation is reduced to, not how it was made.
_LATER = {"region", "components", "inverse", "inverse_snr"}


class ConnectomeSettings(BaseModel):
    """Which regions there are, and how they are connected."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field(
        "desikan-killiany",
        description="`desikan-killiany` (68 regions), `column` (one region, coupled to nothing), "
        "or a file: an archive of The Virtual Brain (`.zip`), or netCDF with `weights` and "
        "`tract_lengths` (`.nc`)",
    )
    normalise: bool = Field(True, description="whether what a region receives is scaled to sum 1")


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
    budget, encoder, density, pretraining, training, finishing
        Sizes and schedules.
    model, model_file : str
        Neural mass model of all regions, and the user's file that registers it: Python code, which
        is run. A study that is read from a file must be told to trust it, see :meth:`read`.
    connectome : ConnectomeSettings
        Regions and connections.
    column : ColumnSettings, optional
        One column by itself, stimulated: the network of all regions without.
    head : HeadSettings
        Conductivities, size and electrodes of the template head; not used with a head of your own.
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
        default_factory=lambda: TrainingSettings(epochs=25, learning_rate=4e-3)
    )
    finishing: TrainingSettings = Field(
        default_factory=lambda: TrainingSettings(batch_size=512, learning_rate=4e-3)
    )
    model: str = Field("jansen_rit", description="model of all regions")
    model_file: str | None = Field(
        None,
        description="Python file that registers the model (`register_model`); it is run, which "
        "`--trust-model-file` must allow",
    )
    connectome: ConnectomeSettings = Field(default_factory=ConnectomeSettings)
    column: ColumnSettings | None = None
    head: HeadSettings = Field(default_factory=HeadSettings)
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
    def for_recording(
        cls,
        recording: Recording | Observation,
        study: Study | None = None,
        *,
        events: Names | None = None,
        region: str | None = None,
        seed: int | None = None,
    ) -> Study:
        """Return the study of a recording: the one that is given, or the default of its kind.

        Parameters
        ----------
        recording : mne.io.Raw, mne.Epochs, mne.Evoked or Observation
            What is to be explained. The protocol of an observation is that of its study.
        study : Study, optional
            Default: the evoked study if there are events or the recording is cut around some
            already, else the spontaneous one.
        events : str or sequence of str, optional
            Events that are averaged over.
        region : str, optional
            Region whose column is inferred.
        seed : int, optional
            Seed of everything random.

        Raises
        ------
        InputError
            If this is not a study of recordings, the region is unknown, or an observation went
            through the steps of another protocol.
        """
        if study is not None and not isinstance(study, Study):
            raise InputError(f"study is {study!r}: give a Study, from a file by Study.read")
        if study is not None and study.column is not None:
            raise InputError(
                "a study of one column is not that of a recording: leave its [column] table out, "
                "or take nmm_infer.runs.simulate_column"
            )
        protocol = recording.protocol if isinstance(recording, Observation) else None
        if study is None:
            raw = isinstance(recording, mne.io.BaseRaw)
            evoked = bool(events) or not raw if protocol is None else protocol.kind == "evoked"
            study = cls.evoked() if evoked else cls.spontaneous()
            if protocol is not None:
                study = study.replace(protocol=protocol.model_dump())
        elif protocol is not None:
            ours, theirs = (p.model_dump(exclude=_LATER) for p in (study.protocol, protocol))
            if ours != theirs:
                key = next((k for k in ours if ours[k] != theirs.get(k)), "kind")
                raise InputError(
                    f"the observation went through another protocol than the study's (its {key} is "
                    f"{theirs.get(key)!r}, not {ours[key]!r}): observe(recording, study.protocol)"
                )
        if region is not None:
            study = study.replace(protocol={"region": region})
        if seed is not None:
            study = study.replace(seed=seed)
        study.check_region()
        return study

    @classmethod
    def preset(cls, name: str) -> Self:
        """Return a study of the literature by its name.

        Parameters
        ----------
        name : str
            One of :data:`nmm_infer.study.PRESETS`.
        """
        if not isinstance(name, str) or name not in PRESETS:
            raise InputError(f"no preset {name!r}; there are {', '.join(PRESETS)}")
        return cls.model_validate(PRESETS[name])

    @classmethod
    def read(cls, path: str | Path, *, trust_model_file: bool = False) -> Self:
        """Read a study from a TOML file.

        Parameters
        ----------
        path : path
            The file.
        trust_model_file : bool
            Whether Python code may be run that the file names as ``model_file``. To read such a
            study means to run that code, with all that it does; so look at it first.

        Raises
        ------
        InputError
            If the file is missing, is not TOML, or has an unknown or impossible entry; the
            message names the entry. If it names a model file that is not trusted.
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
        preset = table.pop("preset", None)
        if preset is not None:
            try:
                defaults = cls.preset(preset).model_dump()
            except InputError as error:
                raise InputError(f"{path}: preset: {error}") from error
        for name, entry in defaults.items():
            if isinstance(entry, dict) and isinstance(table.get(name), dict):
                table[name] = {**entry, **table[name]}
        # Files that a study names lie beside it.
        for place, key in ((table, "model_file"), (table.get("connectome"), "source")):
            if isinstance(place, dict) and isinstance(place.get(key), str):
                beside = path.parent / place[key]
                if beside.is_file():
                    place[key] = str(beside.resolve())
        try:
            study = cls.model_validate({**defaults, **table})
            if study.model_file is not None and not trust_model_file:
                raise InputError(
                    f"model_file names {study.model_file}, Python code that would be run: look at "
                    "it, then give --trust-model-file (in Python trust_model_file=True)"
                )
            study.build_prior()
            study._check_stimulus()
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

    @property
    def declaration(self) -> Model:
        """The neural mass model."""
        if self.model_file is not None:
            load_models(self.model_file)
        return get_model(self.model)

    def _check_stimulus(self) -> None:
        if self.column is not None:
            try:
                for target in self.column.stimulus:
                    self.declaration.get_target(target)
            except InputError as error:
                raise InputError(f"column.stimulus: {error}") from error

    @property
    def synaptic(self) -> tuple[str, ...]:
        """Parameters that the study is about: constants of the model.

        The others are nuisances, inferred and marginalised.
        """
        constants = self.declaration.defaults
        return tuple(p.name for p in self.build_prior().parameters if p.name in constants)

    def build_connectome(self) -> xr.Dataset:
        """Return ``weights`` and ``tract_lengths`` (target, source) of the study's regions."""
        source = self.connectome.source
        if self.column is not None or source == "column":
            connectome = single_column()
            if self.protocol.region is None:
                return connectome
            # The only region there is has the name that the protocol gives it.
            return connectome.assign_coords({d: [self.protocol.region] for d in connectome.coords})
        if source == "desikan-killiany":
            connectome = desikan_killiany_connectome()
        else:
            connectome = read_connectome(source)
        if self.connectome.normalise:
            connectome["weights"] = row_normalised(connectome["weights"])
        return connectome

    def check_region(self) -> None:
        """Raise an InputError if the protocol names a region that the connectome does not have."""
        if self.protocol.region is None:
            return
        known = self.build_connectome().coords["target"].values.tolist()
        if self.protocol.region not in known:
            more = ", ..." if len(known) > 4 else ""
            raise InputError(
                f"no region {self.protocol.region!r}; there are {', '.join(known[:4])}{more} (see "
                "`nmm-infer regions`)"
            )

    def build_prior(self) -> Prior:
        """Return the prior of all parameters, nuisances included.

        Constants of the model that neither have a default prior nor are in the study have their
        published values.
        """
        constants = {c.name: c for c in self.declaration.constants}
        column = [p for p in COLUMN if p.name in constants]
        conditions = [*CONDITIONS[self.protocol.kind], *SENSORS]
        if self.column is not None:
            conditions = list(CONDITIONS["column"])
        elif self.connectome.source == "column":
            conditions = [p for p in conditions if p.name not in ("coupling", "conduction_speed")]
        defaults = {p.name: p for p in (*column, *conditions)}
        unknown = sorted(set(self.prior) - set(defaults) - set(constants))
        if unknown:
            names = ", ".join(dict.fromkeys([*defaults, *constants]))
            raise InputError(f"prior: no parameter {unknown[0]!r}; there are {names}")
        own = {
            name: Parameter(name, c.unit, "fixed", c.default, source=c.source)
            for name, c in constants.items()
            if name in self.prior and name not in defaults
        }
        parameters = []
        order = {**own, **defaults}
        if self.column is not None:
            order = {**defaults, **own}
        for name, default in order.items():
            change = self.prior.get(name)
            if change is not None:
                default = replace(default, **change.model_dump())
            if name in constants:
                check_bounds(default, constants[name])
            parameters.append(default)
        return Prior(parameters)


def _first(error: ValidationError) -> str:
    """Say the first problem of a study in one line."""
    problem = error.errors()[0]
    parts = [str(p) for p in problem["loc"] if p not in ("evoked", "spontaneous")]
    where = ".".join(parts) or "study"
    if problem["type"] == "extra_forbidden":
        known = _keys(problem["loc"][:-1])
        close = difflib.get_close_matches(parts[-1], known, n=1)
        if close:
            return f"unknown key {where!r}: did you mean {'.'.join([*parts[:-1], *close])!r}?"
        return f"unknown key {where!r}" + (f"; there are {', '.join(known)}" if known else "")
    return f"{where}: {problem['msg'].removeprefix('Value error, ')}"


def _keys(table: tuple[int | str, ...]) -> list[str]:
    """Return the keys of a table of a study; none where they are not those of settings.

    Pydantic's path to a table has the ``kind`` of a protocol in it, which tells one from the other.
    """
    models: list[type[BaseModel]] = [Study]
    for name in table:
        kind = [m for m in models if "kind" in (f := m.model_fields) and f["kind"].default == name]
        if kind:
            models = kind
            continue
        fields = [model.model_fields[name] for model in models if name in model.model_fields]
        kinds = [kind for f in fields for kind in (get_args(f.annotation) or (f.annotation,))]
        models = [k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)]
    return list(dict.fromkeys(key for model in models for key in model.model_fields))
