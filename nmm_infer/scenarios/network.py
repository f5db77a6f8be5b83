"""A network of columns, one of which is asked about."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nmm_infer import _random
from nmm_infer.campaign import DIVERGED, OK, Variable
from nmm_infer.errors import InputError
from nmm_infer.models import Model, get_model, load_models
from nmm_infer.parameters import Prior
from nmm_infer.scenarios._priors import check_prior
from nmm_infer.simulation import Clock, Connection, Network, Volley, integrate
from nmm_infer.simulation.precision import digest

__all__ = ["NetworkTask"]

#: Parameters of a run that are not constants of the focus column.
CONDITIONS = (
    "drive",
    "noise",
    "coupling",
    "conduction_speed",
    "stimulus_amplitude",
    "stimulus_onset",
)
#: Parameters that the observer uses, not the simulation.
OBSERVED = ("source_scale", "background")


@dataclass(frozen=True, eq=False)
class NetworkTask:
    """A coupled network of all regions, with one focus.

    The focus is the column whose parameters are inferred: the region that the stimulus reaches
    (evoked), or the dominant generator (spontaneous). All other regions are active too: each has a
    drive of its own from the same prior and the same kind of noise, and answers to the focus and to
    the others through the connectome. In an evoked study their columns have the published
    constants, which rest without a stimulus: a column that oscillates by itself would not survive
    the average over trials, but has one phase only in a run. In a spontaneous study their
    constants are drawn from the same prior.

    Parameters
    ----------
    kind : {"evoked", "spontaneous"}
        Whether a stimulus arrives.
    model : str
        Name of the neural mass model, the same in all regions.
    prior : Prior
        Prior of all parameters.
    connectome : xarray.Dataset
        ``weights`` (target, source) and ``tract_lengths`` (target, source) in mm, with region
        names. Regions are coupled by the sum of their delayed firing rates.
    clock : Clock
        Times.
    candidates : tuple of str
        Regions that may be the focus, each entry with equal probability.
    n_averages : int
        Trials in the average that a run stands for. Noise of intensity sigma enters as
        sigma / sqrt(n_averages): exact for the linearised columns, since the mean of the
        responses of a linear system is its response to the mean of the drives.
    seed : int
        Seed of the study.
    stream : str
        Training, test, ...: runs with the same number in different streams share nothing.
    repeat : int, optional
        If given, all runs have the focus and the other columns of this run: they are trials of
        one recording and differ in their noise only.
    model_file : str, optional
        The user's file that registers the model.
    """

    kind: Literal["evoked", "spontaneous"]
    model: str
    prior: Prior
    connectome: xr.Dataset
    clock: Clock
    candidates: tuple[str, ...]
    n_averages: int
    seed: int
    stream: str
    repeat: int | None = None
    model_file: str | None = None

    def __post_init__(self) -> None:
        needed = {"drive", "noise", *OBSERVED}
        if len(self.regions) > 1:
            needed |= {"coupling", "conduction_speed"}
        if self.kind == "evoked":
            needed |= {"stimulus_amplitude", "stimulus_onset"}
        known = {*self.declaration.defaults, *CONDITIONS, *OBSERVED}
        check_prior(self.prior, known, needed, f"a study of {self.kind} activity")
        absent = [name for name in self.candidates if name not in self.regions]
        if absent or not self.candidates:
            raise InputError(f"no region {absent[:1]}; there are {', '.join(self.regions)}")

    def __getstate__(self) -> dict[str, Any]:
        # What is cached is found again on a worker; a user's model would not travel.
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @cached_property
    def declaration(self) -> Model:
        """The neural mass model."""
        if self.model_file is not None:
            load_models(self.model_file)
        return get_model(self.model)

    @cached_property
    def columns(self) -> Network:
        """The regions and their connections."""
        connection = Connection(self.connectome["weights"], self.connectome["tract_lengths"])
        return Network([connection] if len(self.regions) > 1 else [], self.regions)

    @property
    def regions(self) -> list[str]:
        """Names of the regions, in order."""
        return [str(name) for name in self.connectome.coords["target"].values]

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Everything that the results depend on."""
        return {
            "task": "network",
            "kind": self.kind,
            "model": self.model,
            "declaration": digest(self.declaration),
            "prior": self.prior.to_dict(),
            "connectome": {
                name: np.asarray(matrix.values, dtype=float).round(12).tolist()
                for name, matrix in self.connectome.data_vars.items()
            },
            "regions": self.regions,
            "clock": asdict(self.clock),
            "candidates": list(self.candidates),
            "repeat": self.repeat,
            "n_averages": self.n_averages,
            "seed": self.seed,
            "stream": self.stream,
        }

    @property
    def coords(self) -> dict[str, Any]:
        """Coordinates of regions and times."""
        return {
            "region": self.regions,
            "time": ("time", self.clock.sample_times, self.clock.attrs),
        }

    @property
    def variables(self) -> dict[str, Variable]:
        """The potentials of all regions and the focus."""
        return {
            "potential": Variable(("region", "time"), "float32", {"units": "mV"}),
            "focus": Variable((), "int16", {"units": "1", "meaning": "position of the region"}),
        }

    @cached_property
    def _columns(self) -> Prior:
        names = [n for n in self.prior.names if n in self.declaration.defaults]
        if self.kind == "evoked":
            names = []
        return self.prior.select([*names, "drive"])

    def simulate(self, theta: xr.DataArray, index: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """Run the network; see :class:`nmm_infer.campaign.Task`."""
        n, nodes = len(index), len(self.regions)
        values = dict(zip(self.prior.names, self.prior.values(theta).T, strict=True))
        columns = self._columns
        candidates = np.array([self.regions.index(name) for name in self.candidates])
        draws = _random.uniforms(
            self.seed,
            f"network/{self.stream}",
            index if self.repeat is None else np.full(n, self.repeat),
            1 + nodes * len(columns),
        )
        focus = candidates[(draws[:, 0] * len(candidates)).astype(np.int64)]
        u = draws[:, 1:].reshape(n, nodes, len(columns))
        constants: dict[str, NDArray[np.float64]] = {}
        for k, parameter in enumerate(columns.parameters):
            constants[parameter.name] = parameter.quantile(u[..., k])
        for name, default in self.declaration.defaults.items():
            if name in values:
                constants.setdefault(name, np.full((n, nodes), default))
        for name, column in constants.items():
            column[np.arange(n), focus] = values[name]
        drive = constants.pop("drive")
        stimuli = []
        if self.kind == "evoked":
            stimuli.append(
                Volley(focus, None, values["stimulus_onset"], values["stimulus_amplitude"])
            )
        runs = integrate(
            self.declaration,
            self.clock,
            network=self.columns,
            constants=constants,
            drive=drive,
            noise=self._noise(values),
            stimuli=stimuli,
            strength=values.get("coupling", np.ones(n)),
            speed=self._speed(values),
            seed=self.seed,
            stream=f"noise/{self.stream}",
            index=index,
        )
        (potential,) = runs.outputs.values()
        return {
            "potential": potential,
            "focus": focus.astype(np.int16),
            "status": np.where(runs.diverged, DIVERGED, OK).astype(np.int8),
        }

    def _noise(self, values: dict[str, NDArray[np.float64]]) -> Any:
        """Return the noise of averages, shape (n, 1); none at all where it is fixed at zero."""
        parameter = self.prior["noise"]
        if parameter.distribution == "fixed" and parameter.low == 0.0:
            return 0.0
        return values["noise"][:, None] / np.sqrt(self.n_averages)

    def _speed(self, values: dict[str, NDArray[np.float64]]) -> Any:
        """Return one conduction speed for all runs where it is fixed: delays are shared then."""
        if "conduction_speed" not in values:
            return 1.0
        parameter = self.prior["conduction_speed"]
        if parameter.distribution == "fixed":
            return parameter.low
        return values["conduction_speed"]
