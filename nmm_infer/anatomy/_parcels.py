"""About a thousand parcels of equal area inside the regions of an atlas."""

from __future__ import annotations

import mne
import numpy as np
import pymetis
from numpy.typing import NDArray

from nmm_infer.anatomy._areas import mesh_graph, vertex_areas
from nmm_infer.anatomy._labels import desikan_killiany_labels
from nmm_infer.anatomy._package_data import HEMIS, load_fsaverage5

__all__ = ["N_PARCELS", "divide_regions", "fine_labels"]

N_PARCELS = 1000
_SEED = 1
_UNITS_PER_MM2 = 100  # METIS counts in whole numbers


def divide_regions(n_parcels: int = N_PARCELS) -> NDArray[np.int64]:
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
    array of int, shape (2, 10242)
        For each vertex of the left and the right hemisphere the number of its parcel within its
        region, from 1; 0 on the medial wall.
    """
    regions = desikan_killiany_labels()
    surfaces = {hemi: load_fsaverage5("white", hemi) for hemi in HEMIS}
    areas = {hemi: vertex_areas(*surface) for hemi, surface in surfaces.items()}
    graphs = {hemi: mesh_graph(*surface) for hemi, surface in surfaces.items()}
    target = sum(areas[r.hemi][r.vertices].sum() for r in regions) / n_parcels
    parcels = np.zeros((len(HEMIS), len(areas["lh"])), np.int64)
    for region in regions:
        area = areas[region.hemi][region.vertices]
        pieces = max(1, round(float(area.sum() / target)))
        graph = graphs[region.hemi][region.vertices][:, region.vertices]
        part = _partition(graph.indptr, graph.indices, area, pieces)
        parcels[HEMIS.index(region.hemi), region.vertices] = part + 1
    return parcels


def fine_labels(parcels: NDArray[np.integer]) -> list[mne.Label]:
    """Make labels of parcels.

    Parameters
    ----------
    parcels : array of int, shape (2, 10242)
        What `divide_regions` returns.

    Returns
    -------
    list of mne.Label
        Parcels in the order of the regions, named by them: ``lateraloccipital-3-lh``.
    """
    labels = []
    for region in desikan_killiany_labels():
        numbers = parcels[HEMIS.index(region.hemi), region.vertices]
        stem = region.name.removesuffix(f"-{region.hemi}")
        for number in range(1, numbers.max() + 1):
            inside = np.flatnonzero(numbers == number)
            # Without verbose=...: setting the level anew costs more than the label.
            labels.append(
                mne.Label(
                    region.vertices[inside],
                    pos=region.pos[inside],
                    hemi=region.hemi,
                    name=f"{stem}-{number}-{region.hemi}",
                    subject=region.subject,
                    color=region.color,
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
