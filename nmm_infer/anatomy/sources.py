"""The sources of a forward model: where they are, which way they point, how much they stand for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import mne
import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial import cKDTree

from nmm_infer.anatomy._areas import mesh_graph, nearest_used, patch_areas

__all__ = ["Sources"]

_AXES = ("x", "y", "z")
_REACH = 1.8  # neighbours in a grid: faces, edges and corners (root of 3)


@dataclass(frozen=True, eq=False)
class Sources:
    """Places that carry a current dipole each, in the order of the forward model.

    Parameters
    ----------
    positions : array, shape (source, 3)
        Metres, head coordinates.
    normals : array, shape (source, 3)
        Unit vectors out of the cortex, head coordinates; NaN for sources without one.
    sizes : array, shape (source,)
        Cortex that a source stands for, mm², or its volume, mm³.
    free : array of bool, shape (source,)
        Whether a source has three moments, along x, y and z of the head, or one along its normal.
    surface : array of bool, shape (source,)
        Whether a source lies on a surface; the others fill a volume.
    spaces : mne.SourceSpaces
        What MNE knows of them.
    neighbours : sparse array, shape (source, source), optional
        `graph`, where it is known otherwise.
    """

    positions: NDArray[np.float64]
    normals: NDArray[np.float64]
    sizes: NDArray[np.float64]
    free: NDArray[np.bool_]
    surface: NDArray[np.bool_]
    spaces: mne.SourceSpaces
    neighbours: sparse.csr_array | None = None

    @classmethod
    def of(cls, forward: mne.Forward, *, orientation: str = "fixed") -> Sources:
        """Read the sources of a forward model.

        Parameters
        ----------
        forward : mne.Forward
            In head coordinates; surface, volume, discrete or mixed.
        orientation : {"fixed", "free"}
            What sources on surfaces are: one moment along the mean normal of their patch, or three.
            All sources of a forward model of fixed orientation are fixed.
        """
        fixed = forward["source_ori"] == mne.io.constants.FIFF.FIFFV_MNE_FIXED_ORI
        spaces = forward["src"]
        counts = [space["nuse"] for space in spaces]
        surface = np.repeat([space["type"] == "surf" for space in spaces], counts)
        free = np.zeros(len(surface), bool) if fixed else (~surface | (orientation == "free"))
        if fixed:
            normals = np.array(forward["source_nn"], np.float64)
        else:
            turned = mne.convert_forward_solution(forward, surf_ori=True, verbose="error")
            normals = np.array(turned["source_nn"][2::3], np.float64)
            normals[~surface] = np.nan
        sizes = [_sizes(space, 2 if fixed else 3) for space in spaces]
        return cls(
            np.array(forward["source_rr"], np.float64),
            normals,
            np.concatenate(sizes),
            free,
            surface,
            spaces,
        )

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def components(self) -> xr.Dataset:
        """Source number and orientation ("normal", "x", "y", "z") of each component of the gain."""
        counts = np.where(self.free, 3, 1)
        names = [_AXES if is_free else ("normal",) for is_free in self.free]
        return xr.Dataset(
            coords={
                "source": ("component", np.repeat(np.arange(len(self)), counts)),
                "orientation": ("component", [axis for axes in names for axis in axes]),
            }
        )

    @cached_property
    def graph(self) -> sparse.csr_array:
        """Distances between neighbours, mm, shape (source, source), 0 where none.

        Sources on a surface are neighbours where their patches (the vertices nearest to them along
        the surface) touch; those of a volume where they are corners of one cell of the grid.
        """
        if self.neighbours is not None:
            return self.neighbours
        rows: list[NDArray[np.int64]] = []
        start = 0
        for space in self.spaces:
            if space["type"] == "surf" and _has_mesh(space):
                pairs = _touching(space)
            else:
                pairs = _near(self.positions[start : start + space["nuse"]])
            rows.append(pairs + start)
            start += space["nuse"]
        pairs = np.concatenate(rows)
        lengths = 1000 * np.linalg.norm(
            self.positions[pairs[:, 0]] - self.positions[pairs[:, 1]], axis=1
        )
        both = np.concatenate([pairs, pairs[:, ::-1]])
        graph = sparse.coo_array((np.tile(lengths, 2), both.T), shape=(len(self), len(self)))
        return graph.tocsr()


def _has_mesh(space: dict[str, Any]) -> bool:
    faces = space.get("tris")
    return faces is not None and np.ndim(faces) == 2 and len(faces) > 0


def _sizes(space: dict[str, Any], dimensions: int) -> NDArray[np.float64]:
    """Area of each used vertex, mm², or volume of each point of a grid, mm³.

    Points without a surface stand for a square or a cube, as wide as the next one is far.
    """
    if space["type"] == "surf":
        return patch_areas(space)
    points = 1000 * np.asarray(space["rr"])[space["vertno"]]
    if len(points) < 2:
        return np.ones(len(points))
    nearest = cKDTree(points).query(points, k=2)[0][:, 1]
    return np.full(len(points), float(np.median(nearest)) ** dimensions)


def _touching(space: dict[str, Any]) -> NDArray[np.int64]:
    """Pairs of used vertices, as positions among them, whose patches share an edge."""
    used = np.asarray(space["vertno"], int)
    graph = mesh_graph(np.asarray(space["rr"]), np.asarray(space["tris"], int))
    owner = nearest_used(graph, used)
    edges = np.array(sparse.triu(graph).nonzero()).T
    ends = owner[edges]
    ends = np.sort(ends[(ends >= 0).all(axis=1) & (ends[:, 0] != ends[:, 1])], axis=1)
    return np.unique(ends, axis=0).reshape(-1, 2)


def _near(positions: NDArray[np.float64]) -> NDArray[np.int64]:
    """Pairs of points that are corners of one cell of a grid."""
    if len(positions) < 2:
        return np.empty((0, 2), np.int64)
    tree = cKDTree(positions)
    spacing = float(np.median(tree.query(positions, k=2)[0][:, 1]))
    return np.asarray(tree.query_pairs(_REACH * spacing, output_type="ndarray"), np.int64)
