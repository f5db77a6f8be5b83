"""Anything that can be asked about, as a campaign task that keeps only what is asked."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from nmm_infer.campaign import OK, Design, Task, Variable
from nmm_infer.errors import InputError
from nmm_infer.sensitivity.outputs import Outputs

__all__ = ["OUTPUT", "Function", "FunctionTask", "OutputTask"]

#: Name of the array of a campaign for a sensitivity analysis.
OUTPUT = "output"

#: ``f(theta)``: from parameter sets (simulation, parameter) to an array with ``simulation`` first.
Function = Callable[[xr.DataArray], ArrayLike]

#: Runs that are tried to learn what a function returns.
_TRIES = 32


@dataclass(frozen=True, eq=False)
class OutputTask:
    """A task of which one array is kept.

    Parameters
    ----------
    task : Task
        What is run.
    outputs : Outputs
        What is kept.
    asked : str
        Says in the fingerprint what that is.
    number : int, optional
        Number whose random numbers all runs have: a model with noise becomes a function of its
        parameters. Without, each run has its own.
    """

    task: Task
    outputs: Outputs
    asked: str
    number: int | None = 0

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Everything that the results depend on."""
        return {
            "outputs": self.asked,
            "coords": {k: np.asarray(_values(v)).tolist() for k, v in self.coords.items()},
            "number": self.number,
            "of": self.task.fingerprint,
        }

    @property
    def coords(self) -> dict[str, Any]:
        """Coordinates of the outputs."""
        return self.outputs.coords

    @property
    def variables(self) -> dict[str, Variable]:
        """The outputs."""
        return {OUTPUT: self.outputs.variable}

    @property
    def bytes_of_run(self) -> int:
        """Bytes of what the task returns of a run."""
        sizes = xr.Dataset(coords=self.task.coords).sizes
        return sum(
            int(np.prod([sizes[d] for d in v.dims], dtype=np.int64)) * np.dtype(v.dtype).itemsize
            for v in self.task.variables.values()
        )

    def simulate(self, theta: xr.DataArray, index: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """Run the task; see :class:`nmm_infer.campaign.Task`."""
        numbers = index if self.number is None else np.full_like(index, self.number)
        result = self.task.simulate(theta, numbers)
        shape = [len(xr.Dataset(coords=self.coords)[d]) for d in self.outputs.variable.dims]
        good = np.asarray(result.get("status", np.full(len(index), OK))) == OK
        values = np.full((len(index), *shape), np.nan, self.outputs.variable.dtype)
        if good.any():
            kept = {name: np.asarray(array)[good] for name, array in result.items()}
            values[good] = self.outputs(kept, theta[good])
        return {OUTPUT: values} | ({"status": result["status"]} if "status" in result else {})


class FunctionTask:
    """A function of parameter sets as a task.

    Parameters
    ----------
    function : callable
        ``f(theta)``: theta is an ``xarray.DataArray`` (simulation, parameter) in the units of the
        prior; it returns an array whose first dimension is ``simulation``. A labelled array keeps
        its other dimensions and coordinates.
    design : Design
        The first rows are tried, to learn what the function returns.

    Raises
    ------
    InputError
        If the function fails for all of them, or returns something else.
    """

    def __init__(self, function: Function, design: Design) -> None:
        self._function = function
        example = self._try(design)
        labelled = example if isinstance(example, xr.DataArray) else None
        values = np.asarray(example)
        if labelled is None:
            labelled = xr.DataArray(
                values, dims=("simulation", *_names(values.ndim - 1)), attrs={"units": "1"}
            )
        elif "simulation" in labelled.dims:
            labelled = labelled.transpose("simulation", ...)
        else:
            raise InputError(f"the function returned dimensions {labelled.dims}, no simulation")
        self._dims = tuple(str(d) for d in labelled.dims[1:])
        self.coords = {
            d: (d, np.arange(labelled.sizes[d])) for d in self._dims if d not in labelled.coords
        } | {
            str(k): (v.dims, v.values, dict(v.attrs))
            for k, v in labelled.coords.items()
            if v.dims and set(v.dims) <= set(self._dims)
        }
        self.variables = {
            OUTPUT: Variable(self._dims, "float64", {"units": labelled.attrs.get("units", "1")})
        }

    def _try(self, design: Design) -> Any:
        error: Exception | None = None
        for start in range(min(len(design), _TRIES)):
            try:
                result = self._function(design.rows(start, start + 2))
            except InputError:
                raise
            except Exception as caught:
                error = caught
                continue
            size = result.sizes.get("simulation", 0) if isinstance(result, xr.DataArray) else (
                np.shape(result)[0] if np.ndim(result) else 0
            )  # fmt: skip
            if size != len(design.rows(start, start + 2)):
                raise InputError(
                    f"the function must return an array with one entry for each of the parameter "
                    f"sets first, got shape {np.shape(result)} for {2} of them"
                )
            return result
        raise InputError(
            f"the function failed for each of the first {min(len(design), _TRIES)} parameter sets: "
            f"{type(error).__name__}: {error}"
        )

    @cached_property
    def fingerprint(self) -> dict[str, Any]:
        """Name and source of the function; what it reads from elsewhere is not seen."""
        name = getattr(self._function, "__qualname__", type(self._function).__name__)
        try:
            source = inspect.getsource(self._function)
        except (OSError, TypeError):
            code = getattr(self._function, "__code__", None)
            source = repr(self._function) if code is None else code.co_code.hex()
        return {
            "task": "function",
            "name": f"{getattr(self._function, '__module__', '')}.{name}",
            "sha256": hashlib.sha256(source.encode()).hexdigest(),
        }

    def simulate(self, theta: xr.DataArray, index: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """Call the function; see :class:`nmm_infer.campaign.Task`."""
        result = self._function(theta)
        if isinstance(result, xr.DataArray):
            result = result.transpose("simulation", *self._dims).values
        if np.iscomplexobj(result):
            raise InputError(
                "the function returns complex numbers: give their real and imaginary parts, or "
                "their magnitudes"
            )
        return {OUTPUT: np.asarray(result, dtype=np.float64)}


def _names(count: int) -> list[str]:
    return ["entry"] if count == 1 else [f"axis_{k}" for k in range(count)]


def _values(coord: Any) -> Any:
    return coord[1] if isinstance(coord, tuple) else coord
