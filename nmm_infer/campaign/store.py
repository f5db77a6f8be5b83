"""A campaign: parameters, results and status of many runs, in memory or in a Zarr store."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray

from nmm_infer._progress import stage
from nmm_infer.campaign.task import DIVERGED, OK, PENDING, Task
from nmm_infer.errors import InputError, StoreMismatchError
from nmm_infer.parameters import Prior

__all__ = ["Campaign", "run"]

_FINGERPRINT = "nmm_infer_fingerprint"
_VERSION = version("nmm-infer")


class Campaign:
    """Finished runs.

    Parameters
    ----------
    dataset : xarray.Dataset
        Variables ``theta`` (simulation, parameter), ``status`` (simulation), and those of the
        task, with ``simulation`` as their first dimension. Arrays from a store are read when
        they are indexed.
    """

    def __init__(self, dataset: xr.Dataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return int(self.dataset.sizes["simulation"])

    def __repr__(self) -> str:
        return f"Campaign({len(self)} runs, {len(self) - len(self.valid)} failed)"

    @property
    def theta(self) -> xr.DataArray:
        """Parameter sets, dims (simulation, parameter)."""
        return self.dataset["theta"]

    @property
    def valid(self) -> NDArray[np.int64]:
        """Positions of the runs that ended well."""
        return np.flatnonzero(self.dataset["status"].values == OK)

    @property
    def prior(self) -> Prior:
        """Prior that the parameters were drawn from, as the task tells it."""
        task = json.loads(self.dataset.attrs["task"])
        if "prior" not in task:
            raise InputError("this campaign's task names no prior: give one")
        return Prior.from_dict(task["prior"])

    @property
    def fingerprint(self) -> str:
        """Hash of the task and the design."""
        return str(self.dataset.attrs[_FINGERPRINT])

    def select(self, positions: NDArray[np.int64] | slice) -> Campaign:
        """Return some of the runs; their parameters, results and numbers stay together."""
        return Campaign(self.dataset.isel(simulation=positions))


def _digest(task: Task, design: xr.DataArray) -> str:
    text = json.dumps(
        [_VERSION, task.fingerprint, design.coords["parameter"].values.tolist()],
        sort_keys=True,
        default=str,
    )
    digest = hashlib.sha256(text.encode())
    digest.update(np.ascontiguousarray(design.values, dtype=float).tobytes())
    return digest.hexdigest()


def _simulate(task: Task, design: xr.DataArray, start: int, stop: int) -> dict[str, NDArray[Any]]:
    index = np.asarray(design.coords["simulation"].values[start:stop], dtype=np.int64)
    result = dict(task.simulate(design.isel(simulation=slice(start, stop)), index))
    finite = np.ones(stop - start, dtype=bool)
    for values in result.values():
        if np.issubdtype(values.dtype, np.floating):
            finite &= np.isfinite(values.reshape(len(values), -1)).all(axis=1)
    result["status"] = np.where(finite, OK, DIVERGED).astype(np.int8)
    return result


def _header(task: Task, design: xr.DataArray) -> xr.Dataset:
    return xr.Dataset(
        {"theta": design.transpose("simulation", "parameter").astype(float)},
        coords=task.coords,
        attrs={
            _FINGERPRINT: _digest(task, design),
            "task": json.dumps(task.fingerprint, sort_keys=True, default=str),
        },
    )


def _create(path: Path, task: Task, design: xr.DataArray, chunk: int) -> None:
    """Lay out an empty store beside its place, then rename it into it."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    shutil.rmtree(aside, ignore_errors=True)
    aside.parent.mkdir(parents=True, exist_ok=True)
    header = _header(task, design)
    header.to_zarr(aside, consolidated=False, zarr_format=3)
    group = zarr.open_group(aside, mode="r+")
    sizes = {**header.sizes}
    for name, variable in task.variables.items():
        dims = ("simulation", *variable.dims)
        shape = tuple(sizes[d] for d in dims)
        group.create_array(
            name,
            shape=shape,
            chunks=(min(chunk, len(design)), *shape[1:]),
            dtype=variable.dtype,
            dimension_names=dims,
            attributes=dict(variable.attrs),
            fill_value=0,
        )
    group.create_array(
        "status",
        shape=(len(design),),
        chunks=(min(chunk, len(design)),),
        dtype="int8",
        dimension_names=("simulation",),
        attributes={"flag_values": [PENDING, OK, DIVERGED], "flags": "pending ok diverged"},
        fill_value=PENDING,
    )
    os.replace(aside, path)


def run(
    task: Task,
    design: xr.DataArray,
    store: str | Path | None = None,
    *,
    chunk: int = 512,
    description: str = "Simulating",
) -> Campaign:
    """Run every parameter set of a design.

    Parameters
    ----------
    task : Task
        What to run.
    design : xarray.DataArray, dims (simulation, parameter)
        Parameter sets with names; the ``simulation`` coordinate holds absolute numbers.
    store : path, optional
        A Zarr store. If it exists and was begun by the same task and design, the run resumes:
        chunks that are whole are kept, others are run again with the same result. Without a
        store the campaign lives in memory.
    chunk : int
        Runs handed to the task at a time, and the unit of resumption.
    description : str
        Text of the progress bar.

    Returns
    -------
    Campaign
        All runs. A run with a non-finite value is kept, with status ``DIVERGED``.

    Raises
    ------
    InputError
        If ``store`` exists but holds something else.
    """
    n = len(design)
    starts = range(0, n, chunk)
    if store is None:
        dataset = _header(task, design)
        parts: dict[str, list[NDArray[Any]]] = {}
        with stage(description, n) as advance:
            for start in starts:
                for name, values in _simulate(task, design, start, min(start + chunk, n)).items():
                    parts.setdefault(name, []).append(values)
                advance(min(chunk, n - start))
        for name, variable in task.variables.items():
            dims = ("simulation", *variable.dims)
            dataset[name] = (dims, np.concatenate(parts[name]), dict(variable.attrs))
        dataset["status"] = ("simulation", np.concatenate(parts["status"]))
        return Campaign(dataset)

    path = Path(store)
    if not path.exists():
        _create(path, task, design, chunk)
    try:
        group = zarr.open_group(path, mode="r+")
        found = group.attrs.get(_FINGERPRINT)
        status: Any = group["status"]
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{path} exists but is not a campaign store: choose another path") from (
            error
        )
    if found != _digest(task, design):
        raise StoreMismatchError(
            f"{path} was written by another study or version (its fingerprint differs): "
            "delete it or choose another path"
        )
    chunk = int(status.chunks[0])
    arrays: dict[str, Any] = {name: group[name] for name in task.variables}
    with stage(description, n) as advance:
        for start in range(0, n, chunk):
            stop = min(start + chunk, n)
            if (status[start:stop] == PENDING).any():
                result = _simulate(task, design, start, stop)
                for name, array in arrays.items():
                    array[start:stop] = result[name]
                # Written last: a chunk counts as done only when all of its arrays are on disk.
                status[start:stop] = result["status"]
            advance(stop - start)
    return Campaign(xr.open_zarr(path, chunks=None, consolidated=False))
