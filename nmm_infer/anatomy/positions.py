"""Where a recording's electrodes sit on the template head."""

from __future__ import annotations

from typing import NamedTuple

import mne
import numpy as np
from mne.io.constants import FIFF
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from nmm_infer.anatomy._checks import (
    AROUND,
    MAX_RADIUS,
    MIN_RADIUS,
    check_metres,
    fit_sphere,
    is_position,
)
from nmm_infer.anatomy._template_places import template_fiducials, template_positions
from nmm_infer.anatomy.channel_names import standard_name
from nmm_infer.anatomy.derivations import read_derivations
from nmm_infer.errors import InputError

__all__ = ["Placement", "fit_similarity", "place_electrodes"]

_MIN_SHARED = 4
_OFF = 0.03  # m from the sphere of the template's electrodes
_LEAST_AREA = 1e-3  # m2, twice that of the triangle of nasion and ears
_STEEP = 0.5  # cosine of the steepest slope of a cap's opening


class Placement(NamedTuple):
    """Electrodes on the template head.

    Attributes
    ----------
    montage : mne.channels.DigMontage
        Positions of the placed channels, metres, in the template's head frame: it goes straight
        into ``info.set_montage``.
    dropped : list of str
        EEG channels without a position, in the order of the recording.
    notes : list of str
        What was assumed, in sentences.
    recorded : list of str
        Channels that sit where the recording says, carried over, and not where their names say.
    """

    montage: mne.channels.DigMontage
    dropped: list[str]
    notes: list[str]
    recorded: list[str]


def place_electrodes(info: mne.Info, *, by_name: bool = True) -> Placement:
    """Give each EEG channel of a recording a place on the template head.

    If at least half of the EEG channels have names of the 10-05 system, these sit where the
    template has them, and the others are brought over from their recorded positions by the
    similarity transform that fits the named ones best (at least 4 of them need recorded positions
    too). Otherwise all sit at their recorded positions, moved and scaled so that the sphere fitted
    to them is the sphere fitted to the template's electrodes. The half is there because BioSemi
    caps have an electrode A1 on the vertex and a C3 far from 10-05's.

    Electrodes over a part of the head fix no sphere. They are carried over by the similarity that
    brings the recorded nasion and ears to the template's, or, without these, stay where they are
    in head coordinates, scaled to the template's size.

    Bipolar channels have no place: they are left out, see
    :func:`nmm_infer.anatomy.derivations.read_derivations`.

    Parameters
    ----------
    info : mne.Info
        The recording's; channels of type EEG count, bad ones included. A position that is all
        zero or not finite does not count.
    by_name : bool
        Whether names of the 10-05 system count. They do not where the user has named the montage.

    Returns
    -------
    Placement
        Montage, dropped channels, notes.

    Raises
    ------
    InputError
        If recorded positions are not in metres, not in head coordinates, or turned so that the
        cap does not open downwards, or if two channels name one place.
    """
    table = template_positions()
    lookup = {name.lower(): name for name in table}
    picks = mne.pick_types(info, meg=False, eeg=True, exclude=[])
    channels = [info["ch_names"][k] for k in picks]
    recorded = {
        name: np.array(info["chs"][k]["loc"][:3], np.float64)
        for name, k in zip(channels, picks, strict=True)
        if is_position(info["chs"][k]["loc"][:3])
    }
    _check_recorded(info, recorded)
    coils = [info["chs"][k]["coil_type"] for k in picks]
    single = read_derivations(channels, coils).referential if by_name else tuple(channels)
    named = {}
    owner: dict[str, str] = {}
    for name in single if by_name else ():
        place = standard_name(name, lookup)
        if place is not None:
            named[name] = table[place]
            if owner.setdefault(place, name) != name:
                raise InputError(
                    f"Channels {owner[place]} and {name} are two names of one place, {place}: "
                    "rename or drop one of them."
                )
    recorded = {name: place for name, place in recorded.items() if name in single}
    if single and 2 * len(named) >= len(single) and by_name:
        placed, notes = _by_name(list(single), named, recorded)
        brought = [name for name in placed if name not in named]
    else:
        placed, notes = _by_position(info, recorded, np.array(list(table.values())), len(channels))
        if by_name and placed:
            notes[-1] = notes[-1].rstrip(".") + "; fewer than half have names of the 10-05 system."
        elif not by_name:
            notes = [note.replace("recorded positions", "places of the montage") for note in notes]
        brought = list(placed)
    placed = {name: placed[name] for name in channels if name in placed}
    dropped = [name for name in channels if name not in placed]
    if dropped:
        notes.append(f"No position on the template head for: {', '.join(dropped)}.")
    fiducials = template_fiducials()
    montage = mne.channels.make_dig_montage(ch_pos=placed, coord_frame="head", **fiducials)
    return Placement(montage, dropped, notes, brought)


def _check_recorded(info: mne.Info, recorded: dict[str, NDArray[np.float64]]) -> None:
    """Refuse recorded positions in another unit or frame than metres in head coordinates."""
    frames = {channel["ch_name"]: channel["coord_frame"] for channel in info["chs"]}
    for name in recorded:
        if frames[name] not in (FIFF.FIFFV_COORD_HEAD, FIFF.FIFFV_COORD_UNKNOWN):
            raise InputError(
                f"The position of {name} is not in head coordinates: set the montage with its "
                "fiducials (nasion and ears), so that MNE can turn it."
            )
    if len(recorded) >= _MIN_SHARED:
        check_metres(np.array(list(recorded.values())), "electrode positions")


def _by_name(
    channels: list[str],
    named: dict[str, NDArray[np.float64]],
    recorded: dict[str, NDArray[np.float64]],
) -> tuple[dict[str, NDArray[np.float64]], list[str]]:
    """Place named channels by name, the others by the similarity that fits the named ones."""
    placed = dict(named)
    by_name = (
        f"{len(named)} of {len(channels)} EEG channels have names of the 10-05 system and sit at "
        "the template's places of these names, not at recorded positions."
    )
    notes = [by_name]
    others = [name for name in channels if name not in named and name in recorded]
    shared = [name for name in named if name in recorded]
    if others and len(shared) >= _MIN_SHARED:
        fitted = fit_similarity(
            np.array([recorded[name] for name in shared]),
            np.array([named[name] for name in shared]),
        )
        if fitted is not None:
            trans, error = fitted
            moved = mne.transforms.apply_trans(trans, np.array([recorded[name] for name in others]))
            placed.update(zip(others, moved, strict=True))
            notes.append(
                f"Brought over from recorded positions: {', '.join(others)} (similarity transform "
                f"from {len(shared)} shared channels, median misfit {1000 * error:.0f} mm)."
            )
    return placed, notes


def _by_position(
    info: mne.Info,
    recorded: dict[str, NDArray[np.float64]],
    template: NDArray[np.float64],
    n_channels: int,
) -> tuple[dict[str, NDArray[np.float64]], list[str]]:
    """Carry recorded positions to the template."""
    points = np.array(list(recorded.values())).reshape(-1, 3)
    if not len(points):
        note = (
            f"None of the {n_channels} EEG channels has a recorded position, and too few have "
            "names of the 10-05 system: nothing could be placed."
        )
        return {}, [note]
    sphere = fit_sphere(points, AROUND)
    if sphere is None:
        moved, how = _part_of_a_head(info, points, template)
        if not len(moved):
            return {}, [f"{len(recorded)} of {n_channels} EEG channels have positions, but {how}."]
    else:
        moved, how = _whole_head(points, sphere, template)
    note = f"{len(recorded)} of {n_channels} EEG channels sit at their recorded positions, {how}."
    return dict(zip(recorded, moved, strict=True)), [note]


def _whole_head(
    points: NDArray[np.float64],
    sphere: tuple[NDArray[np.float64], float],
    template: NDArray[np.float64],
) -> tuple[NDArray[np.float64], str]:
    """Lay the sphere fitted to the positions on the template's."""
    ours = fit_sphere(template)
    assert ours is not None
    centre, radius = sphere
    if not MIN_RADIUS <= radius <= MAX_RADIUS:
        raise InputError(
            f"The recorded electrode positions lie on a sphere of {1000 * radius:.0f} mm radius, "
            f"which is no head's ({1000 * MIN_RADIUS:.0f} to {1000 * MAX_RADIUS:.0f} mm): check "
            "their unit, and whether one of them is far off."
        )
    opening = centre - points.mean(axis=0)
    height = float(np.linalg.norm(opening))
    if height > 0.1 * radius and opening[2] > -_STEEP * height:
        raise InputError(
            "The recorded electrode positions are turned: their cap does not open downwards (or "
            "one of them is far off). MNE's head coordinates have x to the right ear, y to the "
            "nose, z up; set the montage with its fiducials."
        )
    scale = ours[1] / radius
    how = (
        f"scaled by {scale:.3f} so that their sphere (radius {1000 * radius:.1f} mm) is the "
        f"template's ({1000 * ours[1]:.1f} mm)"
    )
    return ours[0] + scale * (points - centre), how


def _part_of_a_head(
    info: mne.Info, points: NDArray[np.float64], template: NDArray[np.float64]
) -> tuple[NDArray[np.float64], str]:
    """Carry electrodes that fix no sphere over by landmarks, or by their head coordinates."""
    sphere = fit_sphere(template)
    assert sphere is not None
    centre, radius = sphere
    landmarks = _landmarks(info)
    if landmarks is not None:
        moved = mne.transforms.apply_trans(_similarity(*landmarks), points)
        how = "carried over by nasion and ears"
    else:
        scales = np.linspace(0.7, 1.4, 701)
        reach = np.linalg.norm(scales[:, None, None] * points - centre, axis=2)
        scale = scales[np.abs(np.median(reach, axis=1) - radius).argmin()]
        moved, how = scale * points, f"in head coordinates, scaled by {scale:.3f}"
    off = np.abs(np.linalg.norm(moved - centre, axis=1) - radius)
    if np.quantile(off, 0.9) > _OFF:
        return np.empty((0, 3)), "they lie on no head"
    return moved, f"{how}: they cover a part of the head and do not fix its sphere"


def _landmarks(info: mne.Info) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Left ear, nasion and right ear as recorded, and the template's; metres."""
    order = (FIFF.FIFFV_POINT_LPA, FIFF.FIFFV_POINT_NASION, FIFF.FIFFV_POINT_RPA)
    found = {
        int(point["ident"]): np.asarray(point["r"], np.float64)
        for point in info["dig"] or ()
        if point["kind"] == FIFF.FIFFV_POINT_CARDINAL
        and point["coord_frame"] == FIFF.FIFFV_COORD_HEAD
    }
    if any(ident not in found or not is_position(found[ident]) for ident in order):
        return None
    ours = template_fiducials()
    theirs = np.array([found[ident] for ident in order])
    area = np.linalg.norm(np.cross(theirs[1] - theirs[0], theirs[2] - theirs[0]))
    if area < _LEAST_AREA:  # some files have zeros, or one point three times
        return None
    return theirs, np.array([ours[name] for name in ("lpa", "nasion", "rpa")])


def _similarity(source: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fit in closed form: Umeyama (1991), IEEE Trans. Pattern Anal. 13:376-380."""
    from_mean, to_mean = source.mean(axis=0), target.mean(axis=0)
    flat, goal = source - from_mean, target - to_mean
    turn = Rotation.align_vectors(goal, flat)[0].as_matrix()
    linear = turn * (np.sum(goal * (flat @ turn.T)) / np.sum(flat**2))
    trans = np.eye(4)
    trans[:3, :3], trans[:3, 3] = linear, to_mean - linear @ from_mean
    return trans


def fit_similarity(
    source: NDArray[np.float64], target: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float] | None:
    """Fit a similarity from source to target; give it and its median misfit (metres).

    Mirror images are not similar. None where the points lie in a plane.
    """
    if fit_sphere(source) is None or fit_sphere(target) is None:
        return None
    trans = _similarity(source, target)
    misfit = np.linalg.norm(mne.transforms.apply_trans(trans, source) - target, axis=1)
    return trans, float(np.median(misfit))
