"""Indices of every output of some runs, failures and constants set apart."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nmm_infer import _threads
from nmm_infer._progress import stage
from nmm_infer.campaign import DIVERGED, OK, PENDING, REJECTED
from nmm_infer.errors import InputError
from nmm_infer.sensitivity.methods import Method, Options, Problem, quiet

__all__ = ["TOLERANCE", "Inputs", "check_accepted", "estimate"]

#: Share of blocks (of runs, for given data) that may be lost.
TOLERANCE = 0.1

#: Bytes of outputs that are in memory at a time, and runs that are read at a time.
_BYTES, _RUNS = 2**28, 2**14
#: Standard deviations of samples below this share of the largest over time are rounding, and what
#: the filter leaks ahead of an event.
_FLAT = 1e-3
#: Indices that are shares of variance, and how far beyond 0 to 1 chance may take an interval's end.
_SHARES, _SLACK = ("ST", "S1", "shapley"), 0.05


@dataclass(frozen=True)
class Inputs:
    """What the runs were given.

    Parameters
    ----------
    name, method : str, Method
        The method.
    problem : dict
        SALib's description of the inputs.
    names, units, symbols : list of str
        Names of what is asked about, their units, and their symbols in figures.
    cube : numpy.ndarray, shape (runs, inputs)
        Inputs in the unit cube.
    block : int
        Rows that belong together.
    """

    name: str
    method: Method
    problem: Problem
    names: list[str]
    units: list[str]
    symbols: list[str]
    cube: NDArray[np.float64]
    block: int

    def first(self, size: int) -> Inputs:
        """Return the first ``size`` blocks."""
        return replace(self, cube=self.cube[: size * self.block])


@dataclass
class _Found:
    """What is found of one output."""

    indices: dict[str, Any] = field(default_factory=dict)
    mean: float = float("nan")
    deviation: float = float("nan")
    used: int = 0
    note: str = ""


def estimate(
    values: xr.DataArray,
    status: NDArray[np.int8],
    inputs: Inputs,
    options: Options,
    *,
    tolerance: float = TOLERANCE,
    threads: int | None = None,
) -> xr.Dataset:
    """Return the indices of every output.

    Parameters
    ----------
    values : xarray.DataArray, dims (simulation, ...)
        Outputs; an array from a store is read a part at a time.
    status : numpy.ndarray of int, shape (simulation,)
        Status of each run.
    inputs : Inputs
        What the runs were given; as many as there are.
    options : Options
        Resamples, level and seed.
    tolerance : float
        Share of blocks that may be lost.
    threads : int, optional
        Threads; all cores without.

    Returns
    -------
    xarray.Dataset, dims (..., parameter)
        Indices with the dimensions of the outputs first, ``mean`` and ``deviation`` of each output
        and the number of blocks that were ``used``. Indices that cannot be told are NaN, and
        the attribute ``notes`` says why.

    Raises
    ------
    InputError
        If more blocks are lost than is tolerated, or if every output is constant.
    """
    if not 0 <= tolerance <= 1:
        raise InputError(f"tolerance is a share, from 0 to 1; got {tolerance}")
    rows = len(inputs.cube)
    values, status = values[:rows], np.asarray(status)[:rows]
    bad = ~np.isin(status, (OK, DIVERGED))
    _check_lost(bad, status, inputs, tolerance)
    shape = values.shape[1:]
    count = int(np.prod(shape, dtype=np.int64))
    eps = 16 * np.finfo(np.float32 if values.dtype == np.float32 else np.float64).eps

    def one(y: NDArray[Any]) -> _Found:
        return _one(y, bad, inputs, options, tolerance, float(eps))

    found: list[_Found] = []
    workers = (threads or _threads.n_threads()) if inputs.method.threads else 1
    with quiet(), stage("Analysing", count, unit="outputs") as advance:
        for columns in _columns(values, count):
            with ThreadPoolExecutor(workers, thread_name_prefix="sensitivity") as pool:
                for result in pool.map(one, columns) if workers > 1 else map(one, columns):
                    found.append(result)
                    advance(1)
    return _dataset(found, values, inputs, options, status)


def _check_lost(
    bad: NDArray[np.bool_], status: NDArray[np.int8], inputs: Inputs, tolerance: float
) -> None:
    lost = float(bad.reshape(-1, inputs.block).any(axis=1).mean())
    if lost <= tolerance:
        return
    rejected = float((status == REJECTED).mean())
    unit = "runs" if inputs.block == 1 else f"blocks of {inputs.block} runs"
    if rejected > 0:
        raise InputError(
            _rejected(rejected, f"{lost:.0%} of the {unit} are lost", inputs.block == 1)
        )
    raise InputError(
        f"{bad.mean():.1%} of the runs failed, with which {lost:.0%} of the {unit} are lost; at "
        f"most {tolerance:.0%} may be. Narrow the prior to where the model runs, or take a method "
        "that loses single runs only (rbd-fast, pawn, delta)"
    )


def check_accepted(accepted: float, tolerance: float) -> None:
    """Refuse runs that are what is left of a prior, where too much of it was rejected."""
    if 1 - accepted > tolerance:
        raise InputError(_rejected(1 - accepted, "the others do not fill the prior", True))


def _rejected(share: float, consequence: str, given: bool) -> str:
    way = "" if given else "take a method for given data (rbd-fast, pawn, delta) and "
    return (
        f"{share:.0%} of the runs are rejected by the study (columns outside its stratum), with "
        f"which {consequence}: inputs are not independent there. Narrow the prior, take "
        f'[column] stratum = "all", or {way}raise the tolerance above that share'
    )


def _columns(values: xr.DataArray, count: int) -> Iterator[NDArray[Any]]:
    """Yield some outputs at a time, shape (output, run)."""
    rows = len(values)
    step = max(1, _BYTES // max(rows * values.dtype.itemsize, 1))
    for first in range(0, count, step):
        last = min(first + step, count)
        block = np.empty((last - first, rows), values.dtype)
        for start in range(0, rows, _RUNS):
            part = values[start : start + _RUNS].values
            block[:, start : start + _RUNS] = part.reshape(len(part), count)[:, first:last].T
        yield block


def _one(
    y: NDArray[Any],
    bad: NDArray[np.bool_],
    inputs: Inputs,
    options: Options,
    tolerance: float,
    eps: float,
) -> _Found:
    method, block = inputs.method, inputs.block
    good = (np.isfinite(y) & ~bad).reshape(-1, block).all(axis=1)
    found = _Found(used=int(good.sum()))
    lost = int((~good).sum())
    if lost > tolerance * len(good) or lost == len(good):
        found.note = (
            f"{lost:,} of {len(good):,} blocks are lost where it is not finite; at most "
            f"{tolerance:.0%} may be: narrow the prior, or raise the tolerance"
        )
        return found
    y = y.astype(np.float64)
    kept = np.repeat(good, block)
    found.mean, found.deviation = float(y[kept].mean()), float(y[kept].std())
    if np.ptp(y[kept]) <= eps * np.abs(y[kept]).max():
        found.note = "constant"
        return found
    # SALib computes indices of the standardised output: its thresholds are absolute.
    y = (y - found.mean) / found.deviation
    if method.prefixes:
        y, cube = y[kept], inputs.cube[kept]
    else:  # a block is the curve of one parameter: the others do without it
        y, cube = np.where(kept, y, np.resize([-1.0, 1.0], len(y))), inputs.cube
    try:
        told = method.analyse(deepcopy(inputs.problem), cube, y, options)
    except (ValueError, RuntimeError, np.linalg.LinAlgError) as error:
        found.note = " ".join(str(error).split())
        return found
    for name, index in method.indices.items():
        if index.key in told:
            value = np.array(told[index.key], dtype=np.float64) * found.deviation**index.power
            if not method.prefixes:
                value[~good] = np.nan
            found.indices[name] = value
    notes = []
    if not method.prefixes and not good.all():
        notes.append("curves lost of " + ", ".join(np.array(inputs.names)[~good]))
    if any(_impossible(found.indices, name) for name in _SHARES):
        notes.append("an index is no share, by more than its interval: n is too small")
    found.note = "; ".join(notes)
    return found


def _impossible(indices: Mapping[str, NDArray[np.float64]], name: str) -> bool:
    """Return whether a share of variance lies well outside of 0 to 1, whatever its interval."""
    if name not in indices or f"{name}_conf" not in indices:
        return False
    value, half = indices[name], indices[f"{name}_conf"]
    return bool(((value - half > 1 + _SLACK) | (value + half < -_SLACK)).any())


def _dataset(
    found: list[_Found],
    values: xr.DataArray,
    inputs: Inputs,
    options: Options,
    status: NDArray[np.int8],
) -> xr.Dataset:
    dims, shape = [str(d) for d in values.dims[1:]], values.shape[1:]
    coords = {k: v for k, v in values.coords.items() if v.dims and "simulation" not in v.dims}
    unit = str(values.attrs.get("units", "1"))
    deviation = np.array([f.deviation for f in found])
    notes = {k: f.note for k, f in enumerate(found) if f.note}
    if "time" in dims and np.isfinite(deviation).any():
        axis = dims.index("time")
        most = np.nan_to_num(deviation).reshape(shape).max(axis=axis, keepdims=True)
        flat = deviation.reshape(shape) < _FLAT * most
        for place in np.flatnonzero(flat):
            notes.setdefault(int(place), "constant beside other times")
            found[place].indices.clear()
    if not any(f.indices for f in found):
        raise InputError(f"no output can be analysed: {next(iter(notes.values()), 'none')}")
    size = len(inputs.names)
    data: dict[str, Any] = {}
    for name, index in inputs.method.indices.items():
        told = next((f.indices[name] for f in found if name in f.indices), None)
        if told is None:
            continue
        empty = np.full(told.shape, np.nan)
        array = np.stack([f.indices.get(name, empty) for f in found]).reshape(*shape, *told.shape)
        over = ["parameter", "other"][: told.ndim]
        if told.ndim == 2:  # SALib fills one triangle
            upper = np.triu(np.ones((size, size), bool), 1)
            array = np.where(upper, array, np.swapaxes(array, -1, -2))
            array[..., np.arange(size), np.arange(size)] = np.nan
        units = ["1", unit][index.power]
        data[name] = ([*dims, *over], array, {"units": units, "meaning": index.meaning})
    result = xr.Dataset(data, coords=coords)
    result["mean"] = (dims, np.array([f.mean for f in found]).reshape(shape), {"units": unit})
    result["deviation"] = (dims, deviation.reshape(shape), {"units": unit})
    result["used"] = (dims, np.array([f.used for f in found]).reshape(shape), {"units": "blocks"})
    labels: dict[str, Any] = {
        "parameter": inputs.names,
        "unit": ("parameter", inputs.units),
        "symbol": ("parameter", inputs.symbols),
    }
    if any("other" in result[name].dims for name in data):
        labels["other"] = inputs.names
    lost = len(inputs.cube) // inputs.block - min(f.used for f in found)
    named: dict[str, list[str]] = {}
    for k, note in sorted(notes.items()):
        named.setdefault(note, []).append(_place(values, k))
    return result.assign_coords(labels).assign_attrs(
        method=inputs.name,
        resamples=options.resamples,
        level=options.level,
        failed_runs=int((~np.isin(status, (OK, REJECTED, PENDING))).sum()),
        rejected_runs=int((status == REJECTED).sum()),
        lost_blocks=lost,
        notes=json.dumps(named),
        versions=json.dumps({name: version(name) for name in ("nmm-infer", "SALib", "numpy")}),
    )


def _place(values: xr.DataArray, k: int) -> str:
    """Name one output, as ``time=0.1`` or ``output``."""
    if not values.dims[1:]:
        return "output"
    where = np.unravel_index(k, values.shape[1:])
    parts = []
    for dim, i in zip(values.dims[1:], where, strict=True):
        label = values.coords[dim].values[i] if dim in values.coords else i
        text = f"{label:g}" if isinstance(label, float | np.floating) else str(label)
        parts.append(text if dim == "feature" else f"{dim}={text}")
    return ", ".join(parts)
