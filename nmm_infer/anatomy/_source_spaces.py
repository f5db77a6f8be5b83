"""The template's source spaces: cortex, structures below it, and a grid in the whole brain."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import mne
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from nmm_infer.anatomy._labels import SUBJECT
from nmm_infer.anatomy._layers import Layers
from nmm_infer.anatomy._package_data import HEMIS, load_fsaverage5

__all__ = ["cortex", "grid_in_skull", "points"]

Warp = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def cortex(spacing: str, warp: Warp) -> mne.SourceSpaces:
    """Take some vertices of each white surface, with their patches.

    Parameters
    ----------
    spacing : {"ico3", "ico4", "ico5"}
        642, 2,562 or all 10,242 vertices a hemisphere.
    warp : callable
        Moves vertices, mm.
    """
    with tempfile.TemporaryDirectory() as subjects_dir:
        folder = Path(subjects_dir) / SUBJECT / "surf"
        folder.mkdir(parents=True)
        for hemi in HEMIS:
            coords, faces = load_fsaverage5("white", hemi)
            mne.write_surface(folder / f"{hemi}.white", warp(coords), faces)
            mne.write_surface(folder / f"{hemi}.sphere", *load_fsaverage5("sphere", hemi))
        return mne.setup_source_space(
            SUBJECT,
            spacing=spacing,
            surface="white",
            subjects_dir=subjects_dir,
            add_dist="patch",
            verbose="error",
        )


def points(places: NDArray[np.float64]) -> mne.SourceSpaces:
    """Make a discrete source space of places, mm."""
    up = np.tile([0.0, 0.0, 1.0], (len(places), 1))
    return mne.setup_volume_source_space(
        SUBJECT, pos={"rr": places / 1000.0, "nn": up}, verbose="error"
    )


def grid_in_skull(spacing: float, layers: Layers, margin: float) -> NDArray[np.float64]:
    """Places of a regular grid inside the inner skull, mm.

    Parameters
    ----------
    spacing : float
        Distance of neighbours, mm.
    layers : Layers
        The template's surfaces.
    margin : float
        Least distance from the inner skull, mm.
    """
    surface = {"rr": layers.inner_skull, "tris": layers.faces}
    (space,) = mne.setup_volume_source_space(
        pos=spacing, surface=surface, mindist=margin, exclude=0.0, verbose="error"
    )
    places = 1000.0 * np.asarray(space["rr"])[space["vertno"]]
    # MNE keeps off the vertices only, and the triangles between them are large.
    n = 12
    shares = np.array([(i, j, n - i - j) for i in range(n + 1) for j in range(n + 1 - i)]) / n
    dense = np.einsum("sc,fcd->fsd", shares, layers.inner_skull[layers.faces]).reshape(-1, 3)
    kept: NDArray[np.float64] = places[cKDTree(dense).query(places)[0] >= margin]
    return kept
