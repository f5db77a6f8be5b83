"""The unit of work: simulate one chunk, keep what fails as data, and write it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
import xarray as xr

from nmm_infer.campaign.layout import Block, Layout
from nmm_infer.campaign.store import Store
from nmm_infer.campaign.task import DIVERGED, FAILED, OK, REJECTED, Task
from nmm_infer.errors import InputError

__all__ = ["Done", "Work"]

_VERSION = version("nmm-infer")


@dataclass(frozen=True)
class Done:
    """A chunk that is finished.

    Parameters
    ----------
    start : int
        Position of its first run.
    runs : int
        Number of runs.
    block : dict of str to numpy.ndarray
        Results; empty if they are in a store.
    error : str
        What the task raised for the first of the runs that failed, or nothing.
    """

    start: int
    runs: int
    block: Block
    error: str


@dataclass(frozen=True)
class Work:
    """What a thread or a Dask worker is given, once for all of its chunks.

    Parameters
    ----------
    task : Task
        What to run.
    layout : Layout
        The arrays of the campaign.
    store : Store, optional
        Where chunks are written; without, they are returned.
    """

    task: Task
    layout: Layout
    store: Store | None
    version: str = _VERSION

    def __call__(self, start: int, theta: xr.DataArray) -> Done:
        """Run the chunk at position ``start``: ``theta`` (simulation, parameter)."""
        if self.version != _VERSION:
            raise InputError(
                f"a Dask worker has nmm-infer {_VERSION}, this machine {self.version}: install the "
                "same version everywhere"
            )
        if self.store is not None:
            _ = self.store.arrays  # what cannot be written need not be simulated
        errors: list[str] = []
        block = _simulate(self.task, self.layout, theta, errors)
        if self.store is not None:
            self.store.write(start, block)
            block = {}
        return Done(start, len(theta), block, errors[0] if errors else "")


def _simulate(task: Task, layout: Layout, theta: xr.DataArray, errors: list[str]) -> Block:
    """Run some parameter sets; halve them to find those that raise an error."""
    numbers = theta.coords["simulation"].values.astype(np.int64)
    try:
        result = task.simulate(theta, numbers)
    except (InputError, OSError, MemoryError):
        raise
    except Exception as error:
        if len(theta) == 1:
            errors.append(f"simulation {numbers[0]} failed: {type(error).__name__}: {error}")
            return layout.arrays(1) | {"simulation": numbers, "theta": theta.values}
        half = len(theta) // 2
        parts = [_simulate(task, layout, t, errors) for t in (theta[:half], theta[half:])]
        return {name: np.concatenate([p[name] for p in parts]) for name in layout.fields}

    block: Block = {"simulation": numbers, "theta": theta.values}
    finite = np.ones(len(theta), dtype=bool)
    for name, field in layout.fields.items():
        if name in block or (name == "status" and name not in result):
            continue
        if name not in result:
            raise InputError(f"the task returned no {name!r}")
        given, shape = np.asarray(result[name]), (len(theta), *field.shape)
        if given.shape != shape:
            raise InputError(f"the task returned {name!r} of shape {given.shape}, not {shape}")
        with np.errstate(over="ignore", invalid="ignore"):
            block[name] = given.astype(field.dtype, copy=False)
        for values in {id(given): given, id(block[name]): block[name]}.values():
            if values.dtype.kind in "fc":
                finite &= np.isfinite(values.reshape(len(values), -1)).all(axis=1)
    block.setdefault("status", np.where(finite, OK, DIVERGED).astype(np.int8))
    if not np.isin(block["status"], (OK, DIVERGED, FAILED, REJECTED)).all():
        raise InputError(
            f"the task returned a status other than {OK} (ok), {DIVERGED} (diverged), "
            f"{FAILED} (failed) or {REJECTED} (rejected)"
        )
    return block
