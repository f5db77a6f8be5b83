"""Boundary element models of nested layers; MNE computes them."""

from __future__ import annotations

import tempfile
from pathlib import Path

import mne
import numpy as np

from nmm_infer.anatomy._labels import SUBJECT
from nmm_infer.anatomy._layers import Layers
from nmm_infer.errors import InputError

__all__ = ["boundary_elements"]

_SURFACES = ("inner_skull", "outer_skull", "outer_skin")
_MOST = 10.0  # S/m; cerebrospinal fluid has 1.8 (Baumann et al. 1997), metals above 1e6


def boundary_elements(layers: Layers, conductivity: tuple[float, ...]) -> mne.bem.ConductorModel:
    """Compute the boundary element model of three nested layers, or of the inner skull alone.

    MNE's linear collocation (de Munck 1992, IEEE Trans. Biomed. Eng. 39:986-990) with the isolated
    skull approach (Hämäläinen and Sarvas 1989, IEEE Trans. Biomed. Eng. 36:165-171) where the skull
    conducts at most a tenth of what the scalp conducts.

    Parameters
    ----------
    layers : Layers
        Nested surfaces, mm.
    conductivity : tuple of float
        Of brain, skull and scalp, S/m; or of the brain alone, for a model of the inner skull that
        serves MEG only.

    Returns
    -------
    mne.bem.ConductorModel
        With its solution; geometry in metres, the frame of `layers` called "mri".

    Raises
    ------
    InputError
        If there are neither three conductivities nor one, if one of them is not in (0, 10] S/m, or
        if a surface is not closed, not inside the next one, or not of a head's size.
    """
    names = _checked(conductivity)
    with tempfile.TemporaryDirectory() as subjects_dir:
        folder = Path(subjects_dir) / SUBJECT / "bem"
        folder.mkdir(parents=True)
        for name in names:
            mne.write_surface(folder / f"{name}.surf", getattr(layers, name), layers.faces)
        try:
            model = mne.make_bem_model(
                SUBJECT,
                ico=None,
                conductivity=conductivity,
                subjects_dir=subjects_dir,
                verbose="error",
            )
        except RuntimeError as error:
            raise InputError(
                f"The layers make no conductor model: {error} Give closed surfaces in mm, each "
                "inside the next."
            ) from error
    for surface in model:  # FreeSurfer's files are big-endian; MNE's MEG code takes no such faces
        surface["tris"] = surface["tris"].astype(np.int32)
    return mne.make_bem_solution(model, verbose="error")


def _checked(conductivity: tuple[float, ...]) -> tuple[str, ...]:
    """Name the surfaces that the conductivities are for."""
    if len(conductivity) not in (1, 3):
        raise InputError(
            f"conductivity has {len(conductivity)} values: give those of brain, skull and scalp, "
            "or that of the brain alone."
        )
    names = _SURFACES[: len(conductivity)]
    tissues = ("brain", "skull", "scalp")
    for tissue, value in zip(tissues, conductivity, strict=False):
        if not (np.isfinite(value) and 0.0 < value <= _MOST):
            raise InputError(
                f"conductivity of the {tissue} is {value} S/m: give a number above 0 and at most "
                f"{_MOST:g} S/m."
            )
    return names
