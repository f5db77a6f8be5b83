"""The sensors as they sit on one head: placed on the template, carried along, shifted."""

from __future__ import annotations

from bisect import bisect_left
from functools import partial

import mne
import numpy as np
from mne.transforms import apply_trans
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from nmm_infer import _random
from nmm_infer.anatomy._checks import is_position
from nmm_infer.anatomy._layers import template_layers
from nmm_infer.anatomy._package_data import mne_fsaverage_file
from nmm_infer.anatomy._template_places import template_fiducials
from nmm_infer.anatomy.positions import Placement, place_electrodes
from nmm_infer.anatomy.settings import HeadSettings
from nmm_infer.errors import InputError

__all__ = ["forget_references", "place_sensors"]

_FAR = 30.0  # mm off the scalp: farther than any hair or cap
_HELMET = 100.0  # mm: no head is farther from its helmet
_GAP = 15.0  # mm from scalp to the nearest MEG sensor, where the recording does not tell


def place_sensors(
    info: mne.Info, settings: HeadSettings, *, placed: bool = False
) -> tuple[mne.Info, list[str]]:
    """Put the EEG and MEG channels of a recording around one head.

    Parameters
    ----------
    info : mne.Info
        The recording's.
    settings : HeadSettings
        Which head.
    placed : bool
        Whether electrodes sit on the template already, as :func:`place_electrodes` puts them.

    Returns
    -------
    info : mne.Info
        The channels that could be placed, in the recording's order; electrodes are in the
        template's head frame, MEG sensors (with the reference sensors of CTF) as they were.
    notes : list of str
        What was assumed, in sentences.

    Raises
    ------
    InputError
        If there is nothing to place, or a place makes no sense.
    """
    eeg = mne.pick_types(info, meg=False, eeg=True, exclude=[])
    meg = mne.pick_types(info, meg=True, eeg=False, ref_meg=True, exclude=[])
    if not len(eeg) and not len(mne.pick_types(info, meg=True, exclude=[])):
        raise InputError(
            "The recording has no EEG channel and no MEG channel: set the channel types "
            "(raw.set_channel_types)."
        )
    notes: list[str] = []
    positions: dict[str, NDArray[np.float64]] = {}
    placement = None
    if len(eeg):
        placement = _as_placed(info) if placed else place_electrodes(info)
        positions = placement.montage.get_positions()["ch_pos"]
        if not positions and not len(meg):
            raise InputError(_nothing_placed(placement))
        positions = _on_head(positions, placement.recorded, settings)
        notes += placement.notes
    keep = [k for k in sorted({*eeg, *meg}) if k in meg or info["ch_names"][k] in positions]
    around = _bare(mne.pick_info(info, keep, copy=True, verbose="error"))
    if placement is not None and positions:
        montage = mne.channels.make_dig_montage(
            ch_pos=positions,
            coord_frame="head",
            **{
                k: v
                for k, v in placement.montage.get_positions().items()
                if k in ("nasion", "lpa", "rpa")
            },
        )
        around.set_montage(montage, on_missing="ignore", verbose="error")
    if len(meg):
        notes.append(_place_helmet(around, settings))
    return around, notes


def _as_placed(info: mne.Info) -> Placement:
    """Take electrodes to be on the template."""
    picks = mne.pick_types(info, meg=False, eeg=True, exclude=[])
    places = {info["ch_names"][k]: np.array(info["chs"][k]["loc"][:3], np.float64) for k in picks}
    montage = mne.channels.make_dig_montage(places, coord_frame="head", **template_fiducials())
    return Placement(montage, [], [], list(places))


def _bare(info: mne.Info) -> mne.Info:
    """Forget what has no bearing on a forward model: bad channels, projections, digitisation."""
    with info._unlock():
        info["bads"] = []
        info["projs"] = []
        info["dig"] = None
    forget_references(info)
    return info


def forget_references(info: mne.Info) -> None:
    """Forget where EEG was referenced, in place: MNE cannot set a montage where all agree on it."""
    for k in mne.pick_types(info, meg=False, eeg=True, exclude=[]):
        info["chs"][k]["loc"][3:6] = np.nan


def _nothing_placed(placement: Placement) -> str:
    return (
        f"None of the {len(placement.dropped)} EEG channels can be placed on the head: their names "
        "are not those of the 10-05 system (Fp1, Cz, ...) and no positions are recorded. Set a "
        "montage first, e.g. raw.set_montage('biosemi64')."
    )


def _on_head(
    positions: dict[str, NDArray[np.float64]], recorded: list[str], settings: HeadSettings
) -> dict[str, NDArray[np.float64]]:
    """Carry places on the template's scalp to a head, and shift them; metres, head frame."""
    if not positions:
        return {}
    if not recorded and settings.same_places:
        return positions
    head_to_mri, skin = _template_frame(), template_layers().outer_skin
    places = 1000.0 * apply_trans(head_to_mri, np.array(list(positions.values())))
    _refuse_far(list(positions), _Skin(skin).heights(places))
    centre = skin.mean(axis=0)
    top = float((skin - centre)[:, 2].max())
    places = _shift(list(positions), places - centre, top, settings) + centre
    places = settings.warp(places, skin)
    back = apply_trans(np.linalg.inv(head_to_mri), places / 1000.0)
    return dict(zip(positions, back, strict=True))


def _template_frame() -> NDArray[np.float64]:
    """Head coordinates of the template to its "mri" frame, metres."""
    path = mne_fsaverage_file("fsaverage-trans.fif")
    trans = mne.transforms._ensure_trans(mne.read_trans(path, verbose="error"), "head", "mri")
    return np.asarray(trans["trans"], np.float64)


class _Skin:
    """Height of places above a surface along rays from its centre; mm.

    Parameters
    ----------
    points : array, shape (n, 3)
        The surface's vertices, which its centre sees all.
    """

    def __init__(self, points: NDArray[np.float64]) -> None:
        self.centre = points.mean(axis=0)
        self.reach = np.linalg.norm(points - self.centre, axis=1)
        self.rays = cKDTree((points - self.centre) / self.reach[:, np.newaxis])

    def heights(self, places: NDArray[np.float64]) -> NDArray[np.float64]:
        """Height of each place, negative inside; the surface is interpolated from 3 vertices."""
        distance = np.linalg.norm(places - self.centre, axis=1)
        away, nearest = self.rays.query((places - self.centre) / distance[:, np.newaxis], k=3)
        weights = 1.0 / np.maximum(away, 1e-9)
        below = (weights * self.reach[nearest]).sum(axis=1) / weights.sum(axis=1)
        return np.asarray(distance - below)


def _refuse_far(names: list[str], heights: NDArray[np.float64]) -> None:
    far = np.flatnonzero(np.abs(heights) > _FAR)
    if far.size:
        listed = ", ".join(f"{names[k]} ({heights[k]:+.0f} mm)" for k in far[:5])
        raise InputError(
            f"{far.size} of {len(names)} electrodes would lie far off the template's scalp: "
            f"{listed}. Correct their positions, or mark them bad and leave them out."
        )


def _shift(
    names: list[str], places: NDArray[np.float64], top: float, settings: HeadSettings
) -> NDArray[np.float64]:
    """Move electrodes along the scalp; mm from the centre of the head, whose vertex is at `top`.

    An electrode's shift depends on its name and the seed, not on the other electrodes.
    """
    radius = np.linalg.norm(places, axis=1, keepdims=True)
    forward, right = np.asarray(settings.cap_shift) / top
    moved = Rotation.from_rotvec([-forward, right, 0.0]).apply(places)
    if settings.electrode_shift:
        draws = [
            _random.generator(settings.seed, f"heads/electrodes/{name}").standard_normal(3)
            for name in names
        ]
        step = np.array(draws) * settings.electrode_shift / np.sqrt(2)
        outward = moved / radius
        step -= (step * outward).sum(axis=1, keepdims=True) * outward
        moved = moved + step
        moved *= radius / np.linalg.norm(moved, axis=1, keepdims=True)
    return np.asarray(moved)


def _place_helmet(info: mne.Info, settings: HeadSettings) -> str:
    """Say where the MEG sensors are; set them over the head where the recording does not know."""
    template = template_layers().outer_skin
    skin = _Skin(settings.warp(template, template))
    picks = mne.pick_types(info, meg=True, exclude=[])
    sensors = np.array([info["chs"][k]["loc"][:3] for k in picks])
    lost = [
        info["ch_names"][k]
        for k, place in zip(picks, sensors, strict=True)
        if not is_position(place)
    ]
    if lost:
        raise InputError(
            f"{len(lost)} of {len(picks)} MEG sensors have no position ({', '.join(lost[:4])}): "
            "mark them bad, or read the recording from the file that the device wrote."
        )
    recorded = info["dev_head_t"]
    if recorded is not None and not np.allclose(recorded["trans"], np.eye(4)):
        if not np.isfinite(recorded["trans"]).all():
            raise InputError("info['dev_head_t'] is not finite: set where the head was.")
        in_head = apply_trans(recorded["trans"], sensors)
        heights = skin.heights(1000.0 * apply_trans(_template_frame(), in_head))
        inside = np.flatnonzero(heights < 0)
        if inside.size:
            name = info["ch_names"][picks[inside[0]]]
            raise InputError(
                f"{inside.size} of {len(picks)} MEG sensors lie inside the template's head, "
                f"{name} by {-heights[inside[0]]:.0f} mm: check info['dev_head_t'], or give a "
                "smaller head."
            )
        if heights.min() > _HELMET:
            raise InputError(
                f"The nearest MEG sensor is {heights.min():.0f} mm from the template's scalp: "
                "check info['dev_head_t']."
            )
        return (
            "MEG sensors are where the recording says, around the template in head coordinates; "
            f"the nearest is {heights.min():.0f} mm from its scalp."
        )
    shift = _closest(sensors, skin)
    moved = np.eye(4)
    moved[:3, 3] = shift
    with info._unlock():
        info["dev_head_t"] = mne.Transform("meg", "head", moved)
    return (
        "The recording does not say where the head was in the MEG helmet (dev_head_t): the helmet "
        f"is set over the template as close as it goes, {_GAP:g} mm from the scalp."
    )


def _closest(sensors: NDArray[np.float64], skin: _Skin) -> NDArray[np.float64]:
    """Find how far to move sensors, back and up, to be as close to the scalp as `_GAP` lets."""
    to_mri = _template_frame()

    def heights(y: float, z: float) -> NDArray[np.float64]:
        return skin.heights(1000.0 * apply_trans(to_mri, sensors + np.array([0.0, y, z])))

    def clear(y: float, z: float) -> bool:
        return bool(heights(y, z).min() >= _GAP)

    best, shift = np.inf, None
    up = np.arange(0.0, 0.1001, 0.002)
    for y in np.arange(-0.03, 0.0301, 0.002):
        # The higher the helmet, the farther from the scalp.
        lowest = bisect_left(up, True, key=partial(clear, y))
        if lowest < len(up) and (mean := float(heights(y, up[lowest]).mean())) < best:
            best, shift = mean, np.array([0.0, y, up[lowest]])
    if shift is None:
        raise InputError(
            "The MEG helmet does not fit over the head: give info['dev_head_t'], or a smaller head."
        )
    return shift
