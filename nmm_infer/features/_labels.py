"""What a feature is, and how arrays of features are labelled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from nmm_infer.errors import InputError

__all__ = ["Feature", "label", "series"]


@dataclass(frozen=True)
class Feature:
    """One number that describes a time series or a spectrum.

    Parameters
    ----------
    unit : str
        Its unit; ``{unit}`` stands for that of the series.
    meaning : str
        What it says.
    """

    unit: str
    meaning: str


def label(
    columns: Mapping[str, NDArray[np.float64]],
    features: Mapping[str, Feature],
    names: Iterable[str] | None,
    unit: str,
) -> xr.DataArray:
    """Return some of the columns as an array (simulation, feature) with units.

    Raises
    ------
    InputError
        If a name is not among the columns.
    """
    chosen = list(columns) if names is None else list(names)
    for name in chosen:
        if name not in columns:
            raise InputError(f"no feature {name!r}; there are {', '.join(columns)}")
    units = [features[name].unit.format(unit=unit) for name in chosen]
    return xr.DataArray(
        np.stack([columns[name] for name in chosen], axis=-1),
        dims=("simulation", "feature"),
        coords={"feature": chosen, "unit": ("feature", units)},
        name="features",
    )


def series(values: ArrayLike, axis: ArrayLike, what: str) -> tuple[NDArray, NDArray[np.float64]]:
    """Return values (n, step) and their increasing axis as float64, or say what does not fit."""
    x = np.asarray(values, dtype=np.float64)
    grid = np.asarray(axis, dtype=np.float64)
    if x.ndim != 2 or grid.shape != x.shape[1:]:
        raise InputError(
            f"expected values of shape (n, step) and one of the {what} a step, got shapes "
            f"{x.shape} and {grid.shape}"
        )
    if len(grid) < 3 or (np.diff(grid) <= 0).any():
        raise InputError(f"the {what} must increase, and be at least three")
    return x, grid
