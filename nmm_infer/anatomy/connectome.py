"""The structural connectome that fits the template's regions."""

from __future__ import annotations

import bz2
import zipfile
from io import BytesIO
from pathlib import Path
from typing import TypeVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nmm_infer.anatomy._labels import desikan_killiany_names
from nmm_infer.anatomy._package_data import connectome_file
from nmm_infer.errors import InputError

__all__ = [
    "desikan_killiany_connectome",
    "read_connectome",
    "row_normalised",
    "single_column",
]

_Array = TypeVar("_Array", xr.DataArray, NDArray[np.float64])


def desikan_killiany_connectome() -> xr.Dataset:
    """Read tvb-data's 68-region structural connectome, in the order of the template's regions.

    Both matrices are symmetric (diffusion imaging knows no direction); the file's diagonal, fibres
    within a region, is set to zero.

    Returns
    -------
    xarray.Dataset
        ``weights`` (target, source), dimensionless, as in the file; ``tract_lengths`` (target,
        source), mm, 0 where there is no tract. Both dimensions carry the 68 names of
        `Head.regions`, e.g. ``lateraloccipital-lh``.

    References
    ----------
    ``connectivity_68.zip`` of tvb-data (The Virtual Brain's data package, GPL-3).
    """
    with zipfile.ZipFile(connectome_file(68)) as archive:
        centres = _member(archive, "centres").decode().split("\n")
        weights = np.loadtxt(BytesIO(_member(archive, "weights")))
        lengths = np.loadtxt(BytesIO(_member(archive, "tract_lengths")))
    position = {_label_name(line.split()[0]): k for k, line in enumerate(centres) if line.strip()}
    regions = desikan_killiany_names()
    missing = sorted(set(regions) - set(position))
    if missing or len(position) != len(regions):
        raise InputError(
            f"connectivity_68.zip of the installed tvb-data lacks the regions {missing}: install "
            "tvb-data 3."
        )
    order = [position[name] for name in regions]
    matrices = []
    for matrix in (weights, lengths):
        ordered = matrix[np.ix_(order, order)]
        np.fill_diagonal(ordered, 0.0)
        matrices.append(ordered)
    connectome = _labelled(matrices[0], matrices[1], regions, origin="tvb-data")
    return connectome.assign_attrs(atlas="Desikan-Killiany, 68 cortical regions")


def single_column() -> xr.Dataset:
    """Return the connectome of one region, ``"column"``, that is coupled to nothing."""
    return _labelled(np.zeros((1, 1)), np.zeros((1, 1)), ["column"], origin="a single column")


def read_connectome(path: str | Path) -> xr.Dataset:
    """Read a connectome from a file.

    Parameters
    ----------
    path : path
        A ``.zip`` archive of The Virtual Brain (``weights``, ``tract_lengths`` and ``centres``,
        plain or bzip2), or a netCDF file with ``weights`` and ``tract_lengths``, both (target,
        source) with names on both dimensions. Rows are targets, columns are sources.

    Returns
    -------
    xarray.Dataset
        ``weights`` (target, source) as in the file; ``tract_lengths`` (target, source) in mm.

    Raises
    ------
    InputError
        If the file cannot be read, a matrix is not square or not finite, a length is negative, or
        names do not match.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such connectome file")
    try:
        connectome = _read_netcdf(path) if path.suffix == ".nc" else _read_archive(path)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError) as error:
        why = "".join(str(error).splitlines()[:1])[:100]
        raise InputError(
            f"{path}: neither an archive of The Virtual Brain (.zip) nor netCDF (.nc) with weights "
            f"and tract_lengths ({why})"
        ) from error
    for name, matrix in connectome.data_vars.items():
        if not np.isfinite(matrix.values).all():
            row, column = np.argwhere(~np.isfinite(matrix.values))[0]
            raise InputError(
                f"{path}: {name} is not finite from '{matrix.coords['source'].values[column]}' "
                f"to '{matrix.coords['target'].values[row]}'"
            )
    if (connectome["tract_lengths"].values < 0).any():
        raise InputError(f"{path}: tract lengths must not be negative")
    return connectome


def _read_archive(path: Path) -> xr.Dataset:
    with zipfile.ZipFile(path) as archive:
        lines = _member(archive, "centres").decode().splitlines()
        weights = np.loadtxt(BytesIO(_member(archive, "weights")), ndmin=2)
        lengths = np.loadtxt(BytesIO(_member(archive, "tract_lengths")), ndmin=2)
    return _labelled(weights, lengths, [line.split()[0] for line in lines if line.strip()])


def _read_netcdf(path: Path) -> xr.Dataset:
    with xr.open_dataset(path) as file:
        connectome = file.load()
    names = None
    for variable in ("weights", "tract_lengths"):
        matrix = connectome[variable]
        if set(matrix.dims) != {"target", "source"}:
            raise InputError(f"{variable} must have the dimensions target and source")
        if matrix.sizes["target"] != matrix.sizes["source"]:
            shape = matrix.sizes["target"], matrix.sizes["source"]
            raise InputError(f"{variable} must be a square matrix (target, source), not {shape}")
        for dimension in ("target", "source"):
            if dimension not in matrix.coords:
                raise InputError(f"the dimension {dimension} of {variable} has no names")
            found = [str(name) for name in matrix.coords[dimension].values]
            if names is not None and found != names:
                raise InputError(f"the names of target and source do not match in {variable}")
            names = found
    weights, lengths = (
        connectome[variable].transpose("target", "source").values.astype(float)
        for variable in ("weights", "tract_lengths")
    )
    assert names is not None
    return _labelled(weights, lengths, names)


def _labelled(
    weights: NDArray[np.float64],
    lengths: NDArray[np.float64],
    names: list[str],
    origin: str = "a file",
) -> xr.Dataset:
    n = len(names)
    if len(set(names)) < n:
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"two regions are called {twice!r}")
    for what, matrix in (("weights", weights), ("tract_lengths", lengths)):
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
            raise InputError(f"{what} must be a square matrix (target, source), not {matrix.shape}")
        if len(matrix) != n:
            raise InputError(f"{what} are for {len(matrix)} regions, but there are {n} names")
    dims = ("target", "source")
    return xr.Dataset(
        {
            "weights": (dims, weights, {"units": "1", "long_name": "connection strength"}),
            "tract_lengths": (dims, lengths, {"units": "mm", "long_name": "tract length"}),
        },
        coords={"target": names, "source": names},
        attrs={"origin": origin},
    )


def row_normalised(weights: _Array) -> _Array:
    """Scale what each target receives to sum to 1; targets that receive nothing keep zeros.

    Parameters
    ----------
    weights : xarray.DataArray or array, shape (target, source)
        Connection strengths, not negative.

    Returns
    -------
    same type as `weights`
        The scaled copy.
    """
    values = np.asarray(weights, np.float64)
    if values.ndim != 2 or values.shape[0] != values.shape[1]:
        raise InputError(f"weights must be a square matrix (target, source), not {values.shape}")
    if not np.isfinite(values).all() or (values < 0).any():
        raise InputError("weights must be finite and not negative to be normalised by rows")
    total = values.sum(axis=1, keepdims=True)
    scaled = np.divide(values, total, out=np.zeros_like(values), where=total > 0)
    if isinstance(weights, xr.DataArray):
        return weights.copy(data=scaled)
    return scaled


def _member(archive: zipfile.ZipFile, stem: str) -> bytes:
    """Unpack one text file of the archive."""
    for name in archive.namelist():
        if name.rsplit("/", 1)[-1].startswith(stem):
            content = archive.read(name)
            return bz2.decompress(content) if name.endswith(".bz2") else content
    raise InputError(f"the archive holds no {stem} file")


def _label_name(name: str) -> str:
    """Turn the file's ``l_insula`` into the label's ``insula-lh``."""
    side, _, region = name.partition("_")
    return f"{region}-{side}h"
