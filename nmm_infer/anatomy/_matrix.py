"""A lead-field matrix as MNE's forward model, so that it enters by the same door."""

from __future__ import annotations

import mne
import numpy as np
from mne.io.constants import FIFF
from numpy.typing import ArrayLike, NDArray

from nmm_infer.anatomy._checks import check_metres, is_position
from nmm_infer.errors import InputError

__all__ = ["forward_of_matrix"]


def forward_of_matrix(
    matrix: ArrayLike,
    info: mne.Info,
    positions: ArrayLike,
    normals: ArrayLike | None,
    scale: float,
) -> mne.Forward:
    """Wrap a matrix; arguments as of `nmm_infer.anatomy.Head.from_leadfield`."""
    data = scale * np.asarray(matrix, np.float64)
    places = np.asarray(positions, np.float64)
    if places.ndim != 2 or places.shape[1] != 3:
        raise InputError(f"positions: shape (source, 3) is needed, not {places.shape}.")
    n_channels, n_sources = len(info["ch_names"]), len(places)
    per_source = 1 if normals is not None else 3
    if data.shape != (n_channels, per_source * n_sources):
        raise InputError(
            f"The matrix has shape {np.shape(matrix)}; {n_channels} channels and {n_sources} "
            f"sources of {'fixed' if per_source == 1 else 'free'} orientation need "
            f"({n_channels}, {per_source * n_sources})."
        )
    if not np.isfinite(data).all():
        row = int(np.flatnonzero(~np.isfinite(data).all(axis=1))[0])
        raise InputError(
            f"The matrix is not finite for channel {info['ch_names'][row]!r}: leave it out."
        )
    _check_channels(info)
    check_metres(places, "source positions", least=0.0)
    if normals is None:
        directions = np.tile([0.0, 0.0, 1.0], (n_sources, 1))
    else:
        directions = np.asarray(normals, np.float64)
        lengths = np.linalg.norm(directions, axis=-1)
        if directions.shape != places.shape or not (lengths > 0).all():
            raise InputError(
                f"normals: give one vector a source, {places.shape}, none of them zero."
            )
        directions = directions / lengths[:, np.newaxis]
    spaces = mne.setup_volume_source_space(pos={"rr": places, "nn": directions}, verbose="error")
    spaces[0]["coord_frame"] = FIFF.FIFFV_COORD_HEAD
    kind = FIFF.FIFFV_MNE_FIXED_ORI if per_source == 1 else FIFF.FIFFV_MNE_FREE_ORI
    solution = {
        "data": data,
        "nrow": data.shape[0],
        "ncol": data.shape[1],
        "row_names": list(info["ch_names"]),
        "col_names": [],
    }
    transform = mne.Transform("mri", "head", np.eye(4))
    measured = info.copy()
    with measured._unlock():
        measured["mri_head_t"] = transform
        for key in ("mri_file", "meas_file", "working_dir", "command_line"):
            measured[key] = ""
        measured["mri_id"] = measured["meas_id"]
    return mne.Forward(
        sol=solution,
        sol_grad=None,
        source_ori=kind,
        surf_ori=per_source == 1,
        nsource=n_sources,
        nchan=n_channels,
        coord_frame=FIFF.FIFFV_COORD_HEAD,
        source_rr=places,
        source_nn=directions if per_source == 1 else np.tile(np.eye(3), (n_sources, 1)),
        src=spaces,
        info=measured,
        mri_head_t=transform,
        _orig_source_ori=kind,
        _orig_sol=data.copy(),
        _orig_sol_grad=None,
    )


def _check_channels(info: mne.Info) -> None:
    without = [channel["ch_name"] for channel in info["chs"] if not is_position(channel["loc"][:3])]
    if without:
        raise InputError(
            f"No position of channel(s) {', '.join(without[:5])}: set a montage first."
        )
    picks = mne.pick_types(info, meg=False, eeg=True, exclude=[])
    if len(picks):
        places: NDArray[np.float64] = np.array([info["chs"][k]["loc"][:3] for k in picks])
        check_metres(places, "electrode positions")
