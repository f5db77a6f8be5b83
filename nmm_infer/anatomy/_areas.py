"""How much cortex each source-space vertex stands for."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import dijkstra

__all__ = ["mesh_graph", "nearest_used", "patch_areas", "vertex_areas"]


def vertex_areas(coords: NDArray[np.floating], faces: NDArray[np.integer]) -> NDArray[np.float64]:
    """Give each vertex a third of every triangle it belongs to.

    Parameters
    ----------
    coords : array, shape (n_vertices, 3)
        Vertices, in any unit of length.
    faces : array, shape (n_faces, 3)
        Triangles.

    Returns
    -------
    array, shape (n_vertices,)
        Areas, in that unit squared; their sum is the area of the surface.
    """
    a, b, c = (np.asarray(coords, np.float64)[faces[:, k]] for k in range(3))
    thirds = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 6.0
    return _sums(faces.ravel(), np.repeat(thirds, 3), len(coords))


def patch_areas(source_space: dict[str, Any]) -> NDArray[np.float64]:
    """Measure the patch of cortex around each used vertex of one hemisphere.

    Every vertex of the full surface gives its area to its nearest used vertex (MNE's ``nearest``,
    along the surface). Vertices whose nearest vertex was used once and has since been left out
    (the medial wall, say) give it to nobody. Without ``nearest`` each used vertex has its own
    area only; without triangles all are equal.

    Parameters
    ----------
    source_space : dict
        One element of an `mne.SourceSpaces`.

    Returns
    -------
    array, shape (n_used,)
        Areas, mm² (or all 1 where the source space has no triangles).
    """
    used = np.asarray(source_space["vertno"], int)
    faces = source_space.get("tris")
    if faces is None or len(faces) == 0 or np.asarray(faces).ndim != 2:
        return np.ones(used.size)
    areas = vertex_areas(1000.0 * np.asarray(source_space["rr"]), np.asarray(faces, int))
    nearest = source_space.get("nearest")
    if nearest is not None:
        areas = _sums(np.asarray(nearest, int), areas, areas.size)
    return areas[used]


def mesh_graph(coords: NDArray[np.floating], faces: NDArray[np.integer]) -> sparse.csr_array:
    """Give the lengths of a mesh's edges as a symmetric sparse matrix, in the unit of `coords`."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges = np.unique(np.sort(edges, axis=1), axis=0)
    lengths = np.linalg.norm(coords[edges[:, 0]] - coords[edges[:, 1]], axis=1)
    both = np.concatenate([edges, edges[:, ::-1]])
    shape = (len(coords), len(coords))
    return sparse.coo_array((np.tile(lengths, 2), both.T), shape=shape).tocsr()


def nearest_used(graph: sparse.csr_array, used: NDArray[np.integer]) -> NDArray[np.int64]:
    """Find the nearest of some vertices along a mesh.

    Parameters
    ----------
    graph : sparse array, shape (vertex, vertex)
        From `mesh_graph`.
    used : array of int
        The vertices to choose from.

    Returns
    -------
    array of int, shape (vertex,)
        Position in `used`; -1 for vertices that no path leads to.
    """
    _, _, origin = dijkstra(
        graph, directed=False, indices=used, min_only=True, return_predecessors=True
    )
    position = np.full(graph.shape[0] + 1, -1, np.int64)
    position[used] = np.arange(len(used))
    return np.asarray(position[np.where(origin < 0, graph.shape[0], origin)])


def _sums(
    index: NDArray[np.integer], values: NDArray[np.float64], size: int
) -> NDArray[np.float64]:
    """Sum the values that fall on each index."""
    sums: NDArray[np.float64] = np.bincount(index, values, minlength=size).astype(np.float64)
    return sums
