"""What a campaign can run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import xarray as xr
from numpy.typing import NDArray

__all__ = ["DIVERGED", "FAILED", "OK", "PENDING", "REASONS", "REJECTED", "Task", "Variable"]

PENDING, OK, DIVERGED, FAILED, REJECTED = -1, 0, 1, 2, 3

#: What each status says of a run.
REASONS: Mapping[int, str] = {
    PENDING: "not run yet",
    OK: "ended well",
    DIVERGED: "the state left the finite range",
    FAILED: "the task raised an error",
    REJECTED: "the parameters lie outside of what the study asks about",
}


@dataclass(frozen=True)
class Variable:
    """One array that a task fills.

    Parameters
    ----------
    dims : tuple of str
        Dimensions after ``simulation``; each has a coordinate in :attr:`Task.coords`.
    dtype : str
        NumPy type.
    attrs : mapping
        Attributes, ``units`` first of all.
    """

    dims: tuple[str, ...]
    dtype: str = "float32"
    attrs: Mapping[str, Any] = field(default_factory=dict)


class Task(Protocol):
    """Anything that turns parameter sets into arrays.

    A run must depend on its parameters and its absolute number only, never on its neighbours in
    a chunk: that is what makes a resumed campaign equal to an uninterrupted one. :meth:`simulate`
    is called from several threads at a time, so it must not change the task. A task that runs on
    Dask workers is sent there by pickle: its class must be importable on them.
    """

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Everything that the results depend on, JSON-ready."""
        ...

    @property
    def coords(self) -> dict[str, Any]:
        """Coordinates of the dimensions other than ``simulation``, as xarray takes them."""
        ...

    @property
    def variables(self) -> Mapping[str, Variable]:
        """The arrays that :meth:`simulate` returns."""
        ...

    def simulate(self, theta: xr.DataArray, index: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """Run some parameter sets.

        Parameters
        ----------
        theta : xarray.DataArray, dims (simulation, parameter)
            Parameter sets, in the units of their coordinate ``unit``.
        index : numpy.ndarray of int, shape (simulation,)
            Absolute numbers of the runs.

        Returns
        -------
        dict of str to numpy.ndarray
            One array a variable, with ``simulation`` first. It may add ``"status"``, a code a run
            (``OK``, ``DIVERGED``, ``FAILED``, ``REJECTED``); without, a run with a value that is
            not finite is ``DIVERGED``.

        Raises
        ------
        Exception
            Runs that raise an error are found one by one and kept with status ``FAILED``. Only
            ``InputError``, ``OSError`` and ``MemoryError`` end the campaign.
        """
        ...
