"""What a campaign can run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import xarray as xr
from numpy.typing import NDArray

__all__ = ["DIVERGED", "OK", "PENDING", "Task", "Variable"]

PENDING, OK, DIVERGED = -1, 0, 1


@dataclass(frozen=True)
class Variable:
    """One array that a task fills.

    Parameters
    ----------
    dims : tuple of str
        Dimensions after ``simulation``.
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
    a chunk: that is what makes a resumed campaign equal to an uninterrupted one.
    """

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Everything that the results depend on, JSON-ready."""
        ...

    @property
    def coords(self) -> dict[str, Any]:
        """Coordinates of the dimensions other than ``simulation``."""
        ...

    @property
    def variables(self) -> dict[str, Variable]:
        """The arrays that :meth:`simulate` returns."""
        ...

    def simulate(self, theta: xr.DataArray, index: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """Run parameter sets ``theta`` (simulation, parameter) with absolute numbers ``index``."""
        ...
