"""Which parameter sets a campaign runs, in which order and under which numbers."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import xarray as xr

from nmm_infer.errors import InputError
from nmm_infer.parameters import Prior

__all__ = ["ArrayDesign", "Design", "PriorDesign"]


class Design(Protocol):
    """Parameter sets that can be asked for a few at a time."""

    @property
    def coords(self) -> dict[str, Any]:
        """Coordinates of the dimension ``parameter``: names, and ``unit`` where known."""
        ...

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Everything that the parameter sets depend on, JSON-ready and small."""
        ...

    def __len__(self) -> int: ...

    def rows(self, start: int, stop: int) -> xr.DataArray:
        """Return some parameter sets.

        Returns
        -------
        xarray.DataArray, dims (simulation, parameter)
            Rows ``start`` to ``stop``, with their absolute numbers as coordinate ``simulation``.
        """
        ...


class ArrayDesign:
    """Parameter sets that are in memory.

    Parameters
    ----------
    theta : xarray.DataArray, dims (simulation, parameter)
        Parameter sets with names; the ``simulation`` coordinate holds absolute numbers (from zero
        where there is none).
    """

    def __init__(self, theta: xr.DataArray) -> None:
        if set(theta.dims) != {"simulation", "parameter"} or "parameter" not in theta.coords:
            raise InputError(
                "a design has dimensions simulation and parameter, and names on the second; got "
                f"dimensions {', '.join(map(str, theta.dims)) or 'none'}"
            )
        numbers = np.arange(theta.sizes["simulation"])
        if "simulation" in theta.coords:
            numbers = theta.coords["simulation"].values
            if not np.issubdtype(numbers.dtype, np.integer):
                raise InputError("the simulation coordinate of a design must hold whole numbers")
        self.coords: dict[str, Any] = {"parameter": theta.coords["parameter"].values.tolist()}
        if "unit" in theta.coords:
            self.coords["unit"] = ("parameter", theta.coords["unit"].values.tolist())
        self._theta = xr.DataArray(
            np.ascontiguousarray(theta.transpose("simulation", "parameter").values, dtype=float),
            dims=("simulation", "parameter"),
            coords={"simulation": numbers.astype(np.int64), **self.coords},
            name="theta",
        )

    def __len__(self) -> int:
        return len(self._theta)

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Names, units and a hash of values and numbers."""
        digest = hashlib.sha256(self._theta.values.tobytes())
        digest.update(self._theta.coords["simulation"].values.tobytes())
        return {
            "design": "array",
            "runs": len(self),
            "coords": self.coords,
            "sha256": digest.hexdigest(),
        }

    def rows(self, start: int, stop: int) -> xr.DataArray:
        """Return rows ``start`` to ``stop``."""
        return self._theta[start:stop]


@dataclass(frozen=True)
class PriorDesign:
    """Draws from a prior, made when they are needed: memory does not grow with their number.

    The rows are those of ``prior.sample(n, seed=seed, stream=stream)``.

    Parameters
    ----------
    prior : Prior
        The prior.
    n : int
        Number of draws.
    seed : int
        Seed of the study.
    stream : str
        Name of the stream; training, validation and test use different ones.

    Examples
    --------
    >>> from nmm_infer.parameters import Parameter
    >>> prior = Prior([Parameter("A", "mV", "uniform", 2.6, 4.5)])
    >>> PriorDesign(prior, 10**9, seed=0).rows(10**9 - 2, 10**9).shape
    (2, 1)
    """

    prior: Prior
    n: int
    seed: int
    stream: str = "prior"

    def __len__(self) -> int:
        return self.n

    @property
    def coords(self) -> dict[str, Any]:
        """Names and units."""
        return self.prior.coords()

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Prior, number of draws, seed and stream."""
        return {
            "design": "prior",
            "runs": self.n,
            "prior": self.prior.to_dict(),
            "seed": self.seed,
            "stream": self.stream,
        }

    def rows(self, start: int, stop: int) -> xr.DataArray:
        """Return draws ``start`` to ``stop``."""
        return self.prior.rows(start, stop, seed=self.seed, stream=self.stream)
