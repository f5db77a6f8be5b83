"""About a thousand parcels of equal area inside the regions of an atlas."""

from __future__ import annotations

import mne
import numpy as np
import pymetis
from numpy.typing import NDArray

from nmm_infer.anatomy._areas import mesh_graph, vertex_areas
from nmm_infer.anatomy._labels import desikan_killiany_labels
from nmm_infer.anatomy._package_data import HEMIS, load_fsaverage5

__all__ = ["N_PARCELS", "fine_labels"]

N_PARCELS = 1000
_SEED = 1
_UNITS_PER_MM2 = 100  # METIS counts in whole numbers


def fine_labels(n_parcels: int = N_PARCELS) -> list[mne.Label]:
    """Divide the Desikan-Killiany regions of fsaverage5 into connected parcels of equal area.

    Each region gets its share of the parcels, rounded, and is cut into them by METIS (Karypis and
    Kumar 1998, SIAM J. Sci. Comput. 20:359-392): connected pieces of nearly equal white-surface
    area with short borders. The medial wall belongs to no region and so to no parcel. The recipe
    is that of Cammoun et al. (2012, J. Neurosci. Methods 203:386-397), whose finest scale has
    about a thousand; the parcels are our own.

    Parameters
    ----------
    n_parcels : int
        How many to aim at; rounding may add or lose a few.

    Returns
    -------
    list of mne.Label
        Parcels in the order of the regions, named by them: ``lateraloccipital-3-lh``.
    """
    regions = desikan_killiany_labels()
    surfaces = {hemi: load_fsaverage5("white", hemi) for hemi in HEMIS}
    areas = {hemi: vertex_areas(*surface) for hemi, surface in surfaces.items()}
    graphs = {hemi: mesh_graph(*surface) for hemi, surface in surfaces.items()}
    target = sum(areas[r.hemi][r.vertices].sum() for r in regions) / n_parcels
    labels = []
    for region in regions:
        area = areas[region.hemi][region.vertices]
        pieces = max(1, round(float(area.sum() / target)))
        graph = graphs[region.hemi][region.vertices][:, region.vertices]
        part = _partition(graph.indptr, graph.indices, area, pieces)
        stem = region.name.removesuffix(f"-{region.hemi}")
        for k in range(pieces):
            inside = np.flatnonzero(part == k)
            labels.append(
                mne.Label(
                    region.vertices[inside],
                    pos=region.pos[inside],
                    hemi=region.hemi,
                    name=f"{stem}-{k + 1}-{region.hemi}",
                    subject=region.subject,
                    color=region.color,
                    verbose="error",
                )
            )
    return labels


def _partition(
    starts: NDArray[np.integer],
    neighbours: NDArray[np.integer],
    area: NDArray[np.float64],
    pieces: int,
) -> NDArray[np.int64]:
    """Cut one region's graph into connected pieces; the number of each vertex's piece."""
    if pieces == 1:
        return np.zeros(len(area), np.int64)
    _, part = pymetis.part_graph(
        pieces,
        adjacency=pymetis.CSRAdjacency(starts, neighbours),
        vweights=np.round(_UNITS_PER_MM2 * area).astype(int),
        recursive=False,
        options=pymetis.Options(contig=True, seed=_SEED),
    )
    return np.asarray(part, np.int64)
