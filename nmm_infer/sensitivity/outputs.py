"""What of a run is asked about: samples of the focus, sensors, named features, or any array."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nmm_infer.campaign import Campaign, Task, Variable
from nmm_infer.errors import InputError
from nmm_infer.features import describe, find
from nmm_infer.observation import EvokedProtocol, Observer, View

__all__ = ["Outputs", "choose_outputs"]

#: Runs that are carried to the sensors at a time.
_BLOCK = 512


class Outputs(Protocol):
    """A reduction of what a task returns to one array a run."""

    @property
    def coords(self) -> dict[str, Any]:
        """Coordinates of its dimensions."""
        ...

    @property
    def variable(self) -> Variable:
        """Dimensions after ``simulation``, type and ``units``."""
        ...

    def __call__(self, result: Mapping[str, Any], theta: xr.DataArray) -> NDArray[Any]:
        """Return the array of some runs, ``simulation`` first."""
        ...


@dataclass(frozen=True)
class _Any:
    """An array that the task itself returns."""

    name: str
    coords: dict[str, Any]
    variable: Variable

    def __call__(self, result: Mapping[str, Any], theta: xr.DataArray) -> NDArray[Any]:
        return np.asarray(result[self.name])


@dataclass(frozen=True)
class _Samples:
    """Samples of the focus inside the study's window, less the mean before the event."""

    times: NDArray[np.float64]
    unit: str
    kept: NDArray[np.int64]
    inside: slice

    @property
    def coords(self) -> dict[str, Any]:
        return {"time": ("time", self.times[self.kept], {"units": "s"})}

    @property
    def variable(self) -> Variable:
        meaning = "potential of the focus less its mean before the event"
        return Variable(("time",), "float32", {"units": self.unit, "meaning": meaning})

    def __call__(self, result: Mapping[str, Any], theta: xr.DataArray) -> NDArray[Any]:
        course = _of_focus(result)[:, self.inside]
        before = self.times < 0
        if before.any():
            course = course - course[:, before].mean(axis=1, keepdims=True, dtype=np.float64)
        return np.asarray(course[:, self.kept], dtype=np.float32)


@dataclass(frozen=True)
class _Features:
    """Named features of the focus, and of pairs of regions."""

    names: tuple[str, ...]
    times: NDArray[np.float64]
    regions: tuple[str, ...]
    unit: str
    inside: slice

    @property
    def coords(self) -> dict[str, Any]:
        units = [find(name).unit.format(unit=self.unit) for name in self.names]
        return {"feature": list(self.names), "feature_unit": ("feature", units)}

    @property
    def variable(self) -> Variable:
        return Variable(("feature",), "float64", {"units": "see feature_unit"})

    def __call__(self, result: Mapping[str, Any], theta: xr.DataArray) -> NDArray[Any]:
        potential = np.asarray(result["potential"])[..., self.inside]
        focus = np.asarray(result["focus"])
        finite = np.isfinite(potential).all(axis=(1, 2))
        values = np.full((len(potential), len(self.names)), np.nan)
        if finite.any():
            values[finite] = describe(
                potential[finite], self.times, self.names, focus=focus[finite],
                channels=self.regions, unit=self.unit,
            )  # fmt: skip
        return values


@dataclass(frozen=True, eq=False)
class _Sensors:
    """Sensors, or the sequence that estimators see, without sensor noise."""

    observer: Observer
    kind: str
    source: Mapping[str, Any]
    kept: NDArray[np.int64]

    @property
    def coords(self) -> dict[str, Any]:
        name, grid, unit = self._axis
        coords: dict[str, Any] = {name: (name, grid[self.kept], {"units": unit})}
        if self.kind == "channels":
            coords["channel"] = list(self.observer.info.ch_names)
        elif self.observer.protocol.n_components > 1:
            coords["component"] = np.arange(self.observer.protocol.n_components)
        return coords

    @property
    def _axis(self) -> tuple[str, NDArray[np.float64], str]:
        protocol = self.observer.protocol
        return ("time", protocol.times, "s") if self.kind == "channels" else protocol.axis

    @property
    def variable(self) -> Variable:
        name = self._axis[0]
        if self.kind == "channels":
            return Variable(("channel", name), "float32", {"units": "V or T"})
        dims = (name, "component") if self.observer.protocol.n_components > 1 else (name,)
        return Variable(dims, "float32", {"units": self.observer.protocol.quantity[1]})

    def __call__(self, result: Mapping[str, Any], theta: xr.DataArray) -> NDArray[Any]:
        parts = []
        for start in range(0, len(theta), _BLOCK):
            rows = slice(start, start + _BLOCK)
            runs = xr.Dataset(
                {
                    "potential": (("simulation", "region", "time"), result["potential"][rows]),
                    "focus": ("simulation", result["focus"][rows]),
                    "theta": theta[rows],
                },
                coords=self.source,
            )
            parts.append(self._observe(Campaign(runs)))
        return np.concatenate(parts)

    def _observe(self, campaign: Campaign) -> NDArray[Any]:
        protocol = self.observer.protocol
        clean = View(self.observer, campaign, "sensitivity").clean()
        if self.kind == "sequence":
            values = self.observer.reduce(clean).values
            more = (protocol.n_components,) if protocol.n_components > 1 else ()
            return values.reshape(len(values), protocol.n_steps, *more)[:, self.kept]
        n, windows, channels, times = clean.shape
        clean = np.moveaxis(clean, 1, 2).reshape(n, channels, windows * times)
        if isinstance(protocol, EvokedProtocol):
            clean = clean - clean[..., protocol.in_baseline].mean(axis=-1, keepdims=True)
        return np.asarray(clean[..., self.kept])


def choose_outputs(
    wish: str | Sequence[str] | None,
    task: Task | Campaign,
    *,
    observer: Observer | None = None,
    at: Sequence[float] | None = None,
) -> Outputs:
    """Return the reduction that somebody asks for.

    Parameters
    ----------
    wish : str or sequence of str, optional
        ``"samples"`` (of the focus, inside the study's window), ``"channels"`` or ``"sequence"``
        (with an observer), names of features, or the name of an array that the task returns.
        Without: channels if there is an observer, samples if there are potentials, else the only
        array.
    task : Task or Campaign
        What returns the runs.
    observer : Observer, optional
        Head and protocol through which sensors are seen.
    at : sequence of float, optional
        Keep only the samples nearest to these times in s.

    Raises
    ------
    InputError
        If the task does not return what is asked about.
    """
    coords, variables = _contents(task)
    if wish is None:
        wish = _usual(variables, observer)
    names = [wish] if isinstance(wish, str) else list(wish)
    if not names:
        raise InputError("outputs: name at least one")
    if names[0] in ("channels", "sequence") and len(names) == 1:
        if observer is None:
            raise InputError(f"outputs: {names[0]!r} needs an observer (head, noise and protocol)")
        _need(variables, names[0])
        times = observer.protocol.times if names[0] == "channels" else observer.protocol.axis[1]
        return _Sensors(observer, names[0], _source(coords), _nearest(times, at))
    if len(names) == 1 and names[0] in variables and names[0] != "potential":
        variable = variables[names[0]]
        if variable.dtype[:1] not in "fiu" and "float" not in variable.dtype:
            raise InputError(f"outputs: {names[0]!r} is of type {variable.dtype}, no number")
        used = {k: v for k, v in coords.items() if _dims(k, v) <= set(variable.dims)}
        return _Any(names[0], used, variable)
    _need(variables, names[0])
    stored = np.asarray(_source(coords)["time"][1], dtype=np.float64)
    inside = _inside(coords, stored)
    times = stored[inside]
    unit = str(variables["potential"].attrs.get("units", "mV"))
    if names == ["samples"] or names == ["potential"]:
        return _Samples(times, unit, _nearest(times, at), inside)
    for name in names:
        find(name)
    if at is not None:
        raise InputError("at: features have no times to choose; ask for samples, or leave it out")
    regions = tuple(str(r) for r in _source(coords)["region"][1])
    return _Features(tuple(names), times, regions, unit, inside)


def _contents(task: Task | Campaign) -> tuple[dict[str, Any], dict[str, Variable]]:
    if not isinstance(task, Campaign):
        return dict(task.coords), dict(task.variables)
    data = task.dataset
    coords = {
        str(k): (v.dims, v.values, dict(v.attrs))
        for k, v in data.coords.items()
        if k not in ("simulation", "parameter", "unit")
    }
    variables = {
        str(k): Variable(tuple(str(d) for d in v.dims[1:]), str(v.dtype), dict(v.attrs))
        for k, v in data.data_vars.items()
        if k not in ("theta", "status")
    }
    return coords, variables


def _usual(variables: Mapping[str, Variable], observer: Observer | None) -> str:
    if observer is not None:
        return "channels"
    if "potential" in variables:
        return "samples"
    numbers = [name for name, v in variables.items() if v.dtype.startswith("float")]
    if len(numbers) != 1:
        raise InputError(f"outputs: say which; there are {', '.join(numbers) or 'no numbers'}")
    return numbers[0]


def _need(variables: Mapping[str, Variable], wish: str) -> None:
    if not {"potential", "focus"} <= set(variables):
        raise InputError(
            f"outputs: {wish!r} needs runs with potential and focus; there are "
            f"{', '.join(variables) or 'no arrays'}"
        )


def _source(coords: Mapping[str, Any]) -> dict[str, Any]:
    """Return region and time as xarray takes them, each with its dimension."""
    dataset = xr.Dataset(coords={name: coords[name] for name in ("region", "time")})
    return {name: (name, dataset[name].values) for name in ("region", "time")}


def _inside(coords: Mapping[str, Any], times: NDArray[np.float64]) -> slice:
    """Return the samples of the study's window: a margin at both ends is there for filters."""
    margin = float(xr.Dataset(coords={"time": coords["time"]})["time"].attrs.get("margin", 0.0))
    rounding = 1e-6 * (times[1] - times[0]) if len(times) > 1 else 0.0
    kept = (times >= times[0] + margin - rounding) & (times <= times[-1] - margin + rounding)
    places = np.flatnonzero(kept)
    return slice(int(places[0]), int(places[-1]) + 1)


def _dims(name: str, value: Any) -> set[str]:
    if isinstance(value, tuple):
        return {value[0]} if isinstance(value[0], str) else set(value[0])
    return {name}


def _of_focus(result: Mapping[str, Any]) -> NDArray[Any]:
    potential = np.asarray(result["potential"])
    return np.asarray(potential[np.arange(len(potential)), np.asarray(result["focus"])])


def _nearest(times: NDArray[np.float64], at: Sequence[float] | None) -> NDArray[np.int64]:
    if at is None:
        return np.arange(len(times))
    wish = np.asarray(at, dtype=np.float64)
    if not wish.size or not np.isfinite(wish).all():
        raise InputError(f"at: give finite times in s, got {at}")
    step = np.diff(times).max() if len(times) > 1 else np.inf
    if ((wish < times[0] - step) | (wish > times[-1] + step)).any():
        raise InputError(f"at: the times go from {times[0]:g} to {times[-1]:g}, got {at}")
    return np.unique(np.abs(times - wish[:, None]).argmin(axis=1))
