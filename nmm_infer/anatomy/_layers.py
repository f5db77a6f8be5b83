"""The template's three conductor surfaces, one of them made here."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import NamedTuple

import mne
import numpy as np
from numpy.typing import NDArray

from nmm_infer.anatomy._labels import SUBJECT
from nmm_infer.anatomy._package_data import mne_fsaverage_file

__all__ = ["GAP_CAP_MM", "SKULL_SHARE", "Layers", "template_layers"]

GAP_CAP_MM = 22.0
SKULL_SHARE = 0.5


class Layers(NamedTuple):
    """Three nested surfaces with one tessellation; vertices in mm, "mri" frame of fsaverage."""

    inner_skull: NDArray[np.float64]
    outer_skull: NDArray[np.float64]
    outer_skin: NDArray[np.float64]
    faces: NDArray[np.int64]


@cache
def template_layers(grade: int = 3) -> Layers:
    """Make inner skull, outer skull and outer skin of the template.

    The inner skull is MNE's fsaverage inner skull, decimated. The outer skin is MNE's fsaverage
    head surface where rays from the inner skull's centre through its vertices leave it, so that
    the three layers share one tessellation. **The outer skull is a construction of this package**:
    no package we know ships fsaverage's, so it lies on the same rays half way between the other
    two, where the gap that is halved counts as 22 mm at most (towards face and neck the head
    surface is far from the skull: there the skull stays 11 mm thick and the rest is scalp).

    Parameters
    ----------
    grade : {2, 3, 4}
        How often the faces of an icosahedron are quartered: 162, 642 or 2,562 vertices a layer.
        The vertices of each are among those of the next.

    Returns
    -------
    Layers
        Surfaces, mm, and faces.
    """
    skull = _inner_skull(grade)
    head = mne.read_bem_surfaces(mne_fsaverage_file("fsaverage-head.fif"), verbose="error")[0]
    inner, faces = 1000.0 * skull["rr"], np.asarray(skull["tris"], np.int64)
    centre = inner.mean(axis=0)
    reach = np.linalg.norm(inner - centre, axis=1)
    rays = (inner - centre) / reach[:, np.newaxis]
    gap = _exit_distance(centre, rays, 1000.0 * head["rr"], head["tris"]) - reach
    skull_thickness = SKULL_SHARE * np.minimum(gap, GAP_CAP_MM)
    layers = Layers(
        inner,
        inner + skull_thickness[:, np.newaxis] * rays,
        inner + gap[:, np.newaxis] * rays,
        faces,
    )
    for array in layers:
        array.setflags(write=False)  # shared by all who ask
    return layers


def _inner_skull(grade: int) -> dict[str, NDArray[np.float64]]:
    """Decimate MNE's fsaverage inner skull from its 10,242 vertices; metres."""
    path = mne_fsaverage_file("fsaverage-inner_skull-bem.fif")
    full = mne.read_bem_surfaces(path, verbose="error")[0]
    with tempfile.TemporaryDirectory() as subjects_dir:
        folder = Path(subjects_dir) / SUBJECT / "bem"
        folder.mkdir(parents=True)
        mne.write_surface(folder / "inner_skull.surf", 1000.0 * full["rr"], full["tris"])
        (decimated,) = mne.make_bem_model(
            SUBJECT, ico=grade, conductivity=(0.3,), subjects_dir=subjects_dir, verbose="error"
        )
    surface: dict[str, NDArray[np.float64]] = decimated
    return surface


def _exit_distance(
    origin: NDArray[np.float64],
    rays: NDArray[np.float64],
    coords: NDArray[np.float64],
    faces: NDArray[np.integer],
) -> NDArray[np.float64]:
    """Find how far from `origin` each unit ray leaves a closed surface for good.

    The test of Möller and Trumbore (1997), J. Graphics Tools 2:21-28, of every ray against every
    triangle; of several crossings the farthest counts.
    """
    corner = coords[faces[:, 0]]
    edge1, edge2 = coords[faces[:, 1]] - corner, coords[faces[:, 2]] - corner
    to_origin = origin - corner
    across = np.cross(to_origin, edge1)
    height = np.einsum("fd,fd->f", across, edge2)
    distance = np.empty(len(rays))
    for k, ray in enumerate(rays):
        p = np.cross(ray, edge2)
        det = np.einsum("fd,fd->f", p, edge1)
        det = np.where(np.abs(det) < 1e-12, np.nan, det)
        u = np.einsum("fd,fd->f", p, to_origin) / det
        v = across @ ray / det
        hit = (u >= -1e-9) & (v >= -1e-9) & (u + v <= 1 + 1e-9) & (height / det > 0)
        if not hit.any():
            raise RuntimeError("The template's head surface has a hole: its file is damaged.")
        distance[k] = (height[hit] / det[hit]).max()
    return distance
