"""One column by itself, stimulated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nmm_infer import _random
from nmm_infer.campaign import DIVERGED, OK, REJECTED, Variable
from nmm_infer.errors import InputError
from nmm_infer.models import Model, get_model, load_models, stable_rest
from nmm_infer.parameters import Prior
from nmm_infer.scenarios._priors import check_prior
from nmm_infer.simulation import Clock, Pulse, integrate
from nmm_infer.simulation.precision import digest

__all__ = ["ColumnTask"]

CONDITIONS = ("drive", "noise", "stimulus_amplitude")
OBSERVED = ("source_scale", "background")

_BLOCK = 256  # runs at a time: a record of many trials is long


@dataclass(frozen=True, eq=False)
class ColumnTask:
    """One column, coupled to nothing, and its average response to rectangular pulses.

    A column either rests or oscillates by itself, and the response of one that oscillates depends
    on the phase at which it is met. So whether it rests is part of what is believed: runs whose
    parameters lie outside the ``stratum``, or outside of the model's bounds, have the status
    ``REJECTED`` and are not simulated.

    Parameters
    ----------
    model : str
        Name of the neural mass model.
    prior : Prior
        Prior of all parameters: constants of the model, ``drive`` [1/s], ``noise`` [1/s**.5],
        ``stimulus_amplitude`` [1/s], and those of the sensors (``source_scale``).
    clock : Clock
        Times of one window; the pulse comes at 0.
    region : str
        Name of the region.
    stimulus : mapping of str to float
        Share of the amplitude that enters each target.
    duration : float
        Length of a pulse, s.
    trials : int
        Windows that the response averages over.
    interval : float, optional
        Time from one pulse to the next, s; without, each trial is by itself and starts at rest.
    rest : {"equilibrium", "zero"}
        Where a column starts. One of the strata ``oscillating`` and ``all`` starts at zero in any
        case: on an unstable equilibrium it would stay for a while, which no column does.
    scheme : {"heun", "euler"}
        See :func:`nmm_infer.simulation.integrate`.
    stratum : {"stable", "oscillating", "all"}
        Columns whose lowest equilibrium is stable, those where it is not, or all.
    jitter : float
        All pulses of a run are later by one random time below this, s, and its windows with them.
    seed, stream : int, str
        Seed of the study; training, test, ...: runs with the same number in different streams
        share nothing.
    model_file : str, optional
        The user's file that registers the model.

    Notes
    -----
    Trials by themselves differ in nothing where there is no noise: one is simulated then.
    """

    model: str
    prior: Prior
    clock: Clock
    region: str
    stimulus: Mapping[str, float] = field(default_factory=dict)
    duration: float = 0.05
    trials: int = 1
    interval: float | None = None
    rest: Literal["equilibrium", "zero"] = "equilibrium"
    scheme: Literal["heun", "euler"] = "heun"
    stratum: Literal["stable", "oscillating", "all"] = "stable"
    jitter: float = 0.0
    seed: int = 0
    stream: str = "simulation"
    model_file: str | None = None

    def __post_init__(self) -> None:
        known = {*self.declaration.defaults, *CONDITIONS, *OBSERVED}
        check_prior(self.prior, known, {"drive", "stimulus_amplitude"}, "a study of one column")
        for target in self.stimulus:
            self.declaration.get_target(target)
        kept = self.clock.step * self.clock.every
        if self.interval is not None and abs(self.interval / kept - round(self.interval / kept)) > (
            1e-6
        ):
            raise InputError(
                f"interval: {self.interval:g} s is no whole number of samples of {kept:g} s"
            )
        if self.noisy and self.interval is None and self.trials > 1:
            raise InputError(
                "column: trials with noise need an interval between pulses (they are not alike)"
            )

    def __getstate__(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @cached_property
    def declaration(self) -> Model:
        """The neural mass model."""
        if self.model_file is not None:
            load_models(self.model_file)
        return get_model(self.model)

    @property
    def noisy(self) -> bool:
        """Whether there is noise on the drive."""
        if "noise" not in self.prior.names:
            return False
        noise = self.prior["noise"]
        return not (noise.distribution == "fixed" and noise.low == 0.0)

    @property
    def targets(self) -> dict[str, float]:
        """Share of the amplitude by target."""
        return dict(self.stimulus) or {self.declaration.targets[0]: 1.0}

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Everything that the results depend on."""
        return {
            "task": "column",
            "declaration": digest(self.declaration),
            **{f.name: getattr(self, f.name) for f in fields(self)},
            "prior": self.prior.to_dict(),
            "clock": asdict(self.clock),
            "stimulus": self.targets,
        }

    @property
    def coords(self) -> dict[str, Any]:
        """Coordinates of region and times."""
        return {
            "region": [self.region],
            "time": ("time", self.clock.sample_times, self.clock.attrs),
        }

    @property
    def variables(self) -> dict[str, Variable]:
        """The potential of the column, and its place among the regions, which is the first."""
        return {
            "potential": Variable(("region", "time"), "float32", {"units": "mV"}),
            "focus": Variable((), "int16", {"units": "1", "meaning": "position of the region"}),
        }

    def within(self, values: Mapping[str, NDArray[np.float64]], n: int) -> NDArray[np.bool_]:
        """Return which parameter sets belong to the bounds of the model and to the stratum.

        Parameters
        ----------
        values : mapping of str to numpy.ndarray, shape (n,)
            Parameters by name, in their units.
        n : int
            Number of parameter sets.

        Returns
        -------
        numpy.ndarray of bool, shape (n,)
        """
        return self._within(values, n)[0]

    def _within(
        self, values: Mapping[str, NDArray[np.float64]], n: int
    ) -> tuple[NDArray[np.bool_], NDArray[np.float64] | None]:
        """Return which parameter sets belong to the study, and where they rest if that is known."""
        inside = np.ones(n, bool)
        for c in self.declaration.constants:
            if c.name in values:
                inside &= (values[c.name] >= c.low) & (values[c.name] <= c.high)
        fastest = np.max([np.broadcast_to(values.get(r, 0.0), (n,)) for r in
                          self.declaration.rates], axis=0)  # fmt: skip
        inside &= fastest * self.clock.step <= 1.0
        if self.stratum == "all" or not inside.any():
            return inside, None
        rows = np.flatnonzero(inside)
        constants = {k: v[rows] for k, v in values.items() if k in self.declaration.defaults}
        drive = {self.declaration.targets[0]: values["drive"][rows]}
        found, stable = stable_rest(self.declaration, drive, constants, len(rows))
        rest = np.full((len(found), n), np.nan)
        rest[:, rows] = found
        inside[rows] = stable if self.stratum == "stable" else ~stable
        return inside, rest

    def simulate(self, theta: xr.DataArray, index: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """Run columns; see :class:`nmm_infer.campaign.Task`."""
        values = dict(zip(self.prior.names, self.prior.values(theta).T, strict=True))
        potential, status = self.respond(values, index)
        return {
            "potential": potential[:, None],
            "focus": np.zeros(len(index), np.int16),
            "status": status,
        }

    def respond(
        self,
        values: Mapping[str, NDArray[np.float64]],
        index: NDArray[np.int64],
        dtype: Literal["float32", "float64"] = "float32",
    ) -> tuple[NDArray[np.floating], NDArray[np.int8]]:
        """Return responses, shape (n, time) in mV (NaN where rejected), and the status of each.

        Parameters
        ----------
        values : mapping of str to numpy.ndarray, shape (n,)
            Parameters by name, in their units.
        index : numpy.ndarray of int, shape (n,)
            Absolute numbers of the runs.
        dtype : {"float32", "float64"}
            Precision of the integration; derivatives by differences want the second.
        """
        n = len(index)
        potential = np.full((n, self.clock.n_samples), np.nan, dtype)
        status = np.full(n, REJECTED, np.int8)
        chosen, rest = self._within(values, n)
        inside = np.flatnonzero(chosen)
        block = _BLOCK if self._clock.n_samples > 2 * self.clock.n_samples else max(n, 1)
        for start in range(0, len(inside), block):
            rows = inside[start : start + block]
            part = {name: value[rows] for name, value in values.items()}
            own = None if rest is None else rest[:, rows]
            potential[rows], diverged = self._respond(part, index[rows], own, dtype)
            status[rows] = np.where(diverged, DIVERGED, OK)
        return potential, status

    @cached_property
    def _pulses(self) -> int:
        """Pulses of a run: those of its windows, and the next one where a window reaches it."""
        return 1 if self.interval is None else self.trials + 1

    @cached_property
    def _clock(self) -> Clock:
        """Times of a whole run, of all its windows."""
        last = 0.0 if self.interval is None else self.interval * (self.trials - 1)
        own = asdict(self.clock)
        return Clock(**{**own, "stop": own["stop"] + last + self.jitter})

    def _respond(
        self,
        values: Mapping[str, NDArray[np.float64]],
        index: NDArray[np.int64],
        rest: NDArray[np.float64] | None,
        dtype: Literal["float32", "float64"],
    ) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
        n, kept = len(index), self.clock.step * self.clock.every
        late = np.zeros(n, np.int64)
        if self.jitter:
            u = _random.uniforms(self.seed, f"onset/{self.stream}", index, 1)[:, 0]
            late = (u * (self.jitter / kept)).astype(np.int64)
        onset = late[:, None] * kept + np.arange(self._pulses) * (self.interval or 0.0)
        amplitude = values["stimulus_amplitude"][:, None]
        stimuli = [
            Pulse(0, target, onset, np.broadcast_to(share * amplitude, onset.shape), self.duration)
            for target, share in self.targets.items()
        ]
        noise: Any = values["noise"][:, None] if self.noisy else 0.0
        runs = integrate(
            self.declaration,
            self._clock,
            constants={k: v[:, None] for k, v in values.items() if k in self.declaration.defaults},
            drive=values["drive"][:, None],
            noise=noise,
            stimuli=stimuli,
            initial=(
                rest[..., None]
                if rest is not None and self.rest == "equilibrium" and self.stratum == "stable"
                else np.zeros((len(self.declaration.states), 1, 1))
            ),
            scheme=self.scheme,
            seed=self.seed,
            stream=f"noise/{self.stream}",
            index=index,
            dtype=dtype,
        )
        record = next(iter(runs.outputs.values()))[:, 0]
        if record.shape[1] == self.clock.n_samples:
            return record, runs.diverged
        total = np.zeros((n, self.clock.n_samples))
        window = np.arange(self.clock.n_samples)
        trials = 1 if self.interval is None else self.trials
        for trial in range(trials):
            first = late + round(trial * (self.interval or 0.0) / kept)
            total += np.take_along_axis(record, first[:, None] + window, axis=1)
        return (total / trials).astype(dtype), runs.diverged
