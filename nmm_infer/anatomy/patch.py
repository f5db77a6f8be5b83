"""A head of which one patch of cortex is asked about."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import dijkstra

from nmm_infer.anatomy.head import Head
from nmm_infer.errors import InputError

__all__ = ["patch_head"]


def patch_head(head: Head, region: str, radius: float | None = None) -> Head:
    """Return a head whose only region is a patch around the middle of one of its regions.

    Parameters
    ----------
    head : Head
        A head with cortex.
    region : str
        One of its regions; the patch has its name.
    radius : float, optional
        Largest distance from the middle along the cortex, mm; the patch may reach into neighbours.
        The whole region without.

    Returns
    -------
    Head
        The same sources; one region.

    Raises
    ------
    InputError
        If there is no such region, or it has no normals.
    """
    if region not in head.members:
        raise InputError(f"no region {region!r}; there are {', '.join(head.regions[:4])}, ...")
    if region in head.free_regions:
        raise InputError(f"{region} is a volume: patches are those of cortex")
    rows = np.asarray(head.members[region])
    note = f"One region: {region}."
    if radius is not None:
        places = head.sources.positions[rows]
        middle = rows[np.linalg.norm(places - places.mean(axis=0), axis=1).argmin()]
        distance = dijkstra(sparse.csr_array(head.sources.graph), indices=int(middle))
        rows = np.flatnonzero(distance <= radius)
        area = head.sources.sizes[rows].sum() / 100
        note = (
            f"One region: a patch of {radius:g} mm around the middle of {region} "
            f"({len(rows)} sources, {area:.1f} cm²)."
        )
    labels = [label for label in head.labels if label.name == region and radius is None]
    return replace(head, members={region: rows}, labels=labels, notes=(*head.notes, note))
