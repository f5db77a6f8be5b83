"""A lead-field matrix as MNE's forward model, so that it enters by the same door."""

from __future__ import annotations

from typing import Any

import mne
import numpy as np
import xarray as xr
from mne.io.constants import FIFF
from numpy.typing import ArrayLike, NDArray

from nmm_infer.anatomy._checks import check_metres, is_number, is_position
from nmm_infer.errors import InputError

__all__ = ["forward_of_matrix"]

_FARTHEST = 0.4  # metres: twice the reach of a large head


def forward_of_matrix(
    matrix: ArrayLike,
    info: mne.Info,
    positions: ArrayLike,
    normals: ArrayLike | None,
    scale: float,
) -> mne.Forward:
    """Wrap a matrix; arguments as of `nmm_infer.anatomy.Head.from_leadfield`."""
    if not is_number(scale):
        raise InputError(f"scale is a finite number, not {scale!r}.")
    if (
        isinstance(matrix, xr.DataArray)
        and "channel" in matrix.coords
        and list(matrix.coords["channel"].values) != list(info["ch_names"])
    ):
        raise InputError(
            "The matrix names other channels than info, or in another order: give "
            "matrix.sel(channel=info.ch_names)."
        )
    data = scale * _numbers("matrix", matrix)
    places = _numbers("positions", positions)
    if places.ndim != 2 or places.shape[1] != 3:
        raise InputError(f"positions: shape (source, 3) is needed, not {places.shape}.")
    if not len(places):
        raise InputError("positions: give at least one source.")
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
        directions = _numbers("normals", normals)
        lengths = np.linalg.norm(np.atleast_2d(directions), axis=-1)
        if directions.shape != places.shape or not (np.isfinite(lengths) & (lengths > 0)).all():
            raise InputError(
                f"normals: give one vector a source, {places.shape}, none of them zero."
            )
        directions = directions / lengths[:, np.newaxis]
    if len(np.unique(np.hstack([places, directions]), axis=0)) < n_sources:
        raise InputError("positions: two sources lie at one place; leave one of them out.")
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


def _numbers(name: str, values: Any) -> NDArray[np.float64]:
    try:
        if np.iscomplexobj(values):
            raise TypeError
        return np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{name}: real numbers in a rectangle are needed.") from None


def _check_channels(info: mne.Info) -> None:
    without = [channel["ch_name"] for channel in info["chs"] if not is_position(channel["loc"][:3])]
    if without:
        raise InputError(
            f"No position of channel(s) {', '.join(without[:5])}: set a montage first."
        )
    picks = mne.pick_types(info, meg=False, eeg=True, exclude=[])
    for k in picks:
        channel = info["chs"][k]
        if channel["coord_frame"] not in (FIFF.FIFFV_COORD_HEAD, FIFF.FIFFV_COORD_UNKNOWN):
            raise InputError(
                f"The position of {channel['ch_name']} is not in head coordinates: set the "
                "montage with its fiducials (nasion and ears)."
            )
    if len(picks):
        places: NDArray[np.float64] = np.array([info["chs"][k]["loc"][:3] for k in picks])
        check_metres(places, "electrode positions")
        reach = np.linalg.norm(places, axis=1)
        if reach.max() > _FARTHEST:
            name = info["ch_names"][picks[reach.argmax()]]
            raise InputError(
                f"Electrode {name} is {reach.max():.2g} m from the origin of head coordinates: "
                "correct its position, or leave it out."
            )
