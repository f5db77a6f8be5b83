"""The structural connectome that fits the template's regions."""

from __future__ import annotations

import bz2
import zipfile
from io import BytesIO
from typing import TypeVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nmm_infer.anatomy._labels import desikan_killiany_names
from nmm_infer.anatomy._package_data import connectome_file
from nmm_infer.errors import InputError

__all__ = ["desikan_killiany_connectome", "row_normalised"]

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
    dims = ("target", "source")
    return xr.Dataset(
        {
            "weights": (dims, matrices[0], {"units": "1", "long_name": "connection strength"}),
            "tract_lengths": (dims, matrices[1], {"units": "mm", "long_name": "tract length"}),
        },
        coords={"target": regions, "source": regions},
        attrs={"atlas": "Desikan-Killiany, 68 cortical regions", "origin": "tvb-data"},
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
        raise InputError(f"weights must be a square matrix (target, source), not {values.shape}.")
    if not np.isfinite(values).all() or (values < 0).any():
        raise InputError("weights must be finite and not negative to be normalised by rows.")
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
    raise InputError(f"connectivity_68.zip of the installed tvb-data holds no {stem} file.")


def _label_name(name: str) -> str:
    """Turn the file's ``l_insula`` into the label's ``insula-lh``."""
    side, _, region = name.partition("_")
    return f"{region}-{side}h"
