"""Where a recording's electrodes sit on the template head."""

from __future__ import annotations

import re
from typing import NamedTuple

import mne
import numpy as np
from mne.io.constants import FIFF
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from nmm_infer.anatomy._checks import (
    MAX_RADIUS,
    MIN_RADIUS,
    check_metres,
    fit_sphere,
    is_position,
)
from nmm_infer.anatomy._package_data import mne_fsaverage_file
from nmm_infer.errors import InputError

__all__ = ["Placement", "fit_similarity", "place_electrodes", "standard_name", "template_positions"]

_MONTAGE = "fsaverage_1005"
_MIN_SHARED = 4
_STEEP = 0.5  # cosine of the steepest slope of a cap's opening
_PREFIX = re.compile(r"^EEG[\s_:\-]*", re.IGNORECASE)
_SUFFIX = re.compile(
    r"[\s_:/\-]+(?:REF\d*|LE|RE|AR|AVG|AVE|AV|A1|A2|A1A2|M1|M2|M1M2)$", re.IGNORECASE
)
# Older or other names of 10-05 places: Acharya et al. (2016), J. Clin. Neurophysiol. 33:308-311
# (T3 -> T7 and so on); the mastoids stand beside TP9 and TP10.
_ALIASES = {
    "t3": "t7",
    "t4": "t8",
    "t5": "p7",
    "t6": "p8",
    "t1": "ft9",
    "t2": "ft10",
    "m1": "tp9",
    "m2": "tp10",
    "cb1": "poo7",
    "cb2": "poo8",
}


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


def place_electrodes(info: mne.Info) -> Placement:
    """Give each EEG channel of a recording a place on the template head.

    If at least half of the EEG channels have names of the 10-05 system, these sit where the
    template has them, and the others are brought over from their recorded positions by the
    similarity transform that fits the named ones best (at least 4 of them need recorded positions
    too). Otherwise all sit at their recorded positions, moved and scaled so that the sphere fitted
    to them is the sphere fitted to the template's electrodes. The half is there because BioSemi
    caps have an electrode A1 on the vertex and a C3 far from 10-05's.

    Parameters
    ----------
    info : mne.Info
        The recording's; channels of type EEG count, bad ones included. A position that is all
        zero or not finite is none.

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
    named = {}
    owner: dict[str, str] = {}
    for name in channels:
        place = standard_name(name, lookup)
        if place is not None:
            named[name] = table[place]
            if owner.setdefault(place, name) != name:
                raise InputError(
                    f"Channels {owner[place]} and {name} are two names of one place, {place}: "
                    "rename or drop one of them."
                )
    if channels and 2 * len(named) >= len(channels):
        placed, notes = _by_name(channels, named, recorded)
        brought = [name for name in placed if name not in named]
    else:
        placed, notes = _by_position(recorded, np.array(list(table.values())), len(channels))
        brought = list(placed)
    placed = {name: placed[name] for name in channels if name in placed}
    dropped = [name for name in channels if name not in placed]
    if dropped:
        notes.append(f"No position on the template head for: {', '.join(dropped)}.")
    fiducials = _fiducials()
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


def template_positions() -> dict[str, NDArray[np.float64]]:
    """Read the 335 places of the 10-05 system on fsaverage's scalp.

    Returns
    -------
    dict
        Name to position, metres, head frame of the template.

    References
    ----------
    MNE's montage ``fsaverage_1005`` (10-05 places found on fsaverage's own head surface), taken
    from fsaverage's surface RAS to its head frame with MNE's ``fsaverage-trans.fif``.
    """
    positions = mne.channels.make_standard_montage(_MONTAGE).get_positions()["ch_pos"]
    moved = mne.transforms.apply_trans(_mri_to_head(), np.array(list(positions.values())))
    return dict(zip(positions, moved, strict=True))


def standard_name(channel: str, lookup: dict[str, str]) -> str | None:
    """Recognise a channel as a place of the 10-05 system.

    Case, a leading "EEG", trailing dots and a trailing reference ("-REF", "-LE", "-A2" ...) do
    not count; T3, T4, T5, T6, M1, M2 and the like stand for their 10-05 names.

    Parameters
    ----------
    channel : str
        Name in the recording, e.g. "EEG Fp1-REF" or "Fc5.".
    lookup : dict
        Lower-case place name to its name in the template.

    Returns
    -------
    str or None
        The template's name of the place.
    """
    plain = _SUFFIX.sub("", _PREFIX.sub("", channel.strip())).strip(" .").lower()
    return lookup.get(_ALIASES.get(plain, plain))


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
    recorded: dict[str, NDArray[np.float64]], template: NDArray[np.float64], n_channels: int
) -> tuple[dict[str, NDArray[np.float64]], list[str]]:
    """Lay the sphere fitted to the recorded positions on the template's."""
    points = np.array(list(recorded.values())).reshape(-1, 3)
    ours, theirs = fit_sphere(template), fit_sphere(points)
    if ours is None or theirs is None:
        note = (
            f"{len(recorded)} of {n_channels} EEG channels have recorded positions and too few "
            "have names of the 10-05 system: nothing could be placed."
        )
        return {}, [note]
    radius = theirs[1]
    if not MIN_RADIUS <= radius <= MAX_RADIUS:
        raise InputError(
            f"The recorded electrode positions lie on a sphere of {1000 * radius:.0f} mm radius, "
            f"which is no head's ({1000 * MIN_RADIUS:.0f} to {1000 * MAX_RADIUS:.0f} mm): check "
            "their unit, and whether one of them is far off."
        )
    opening = theirs[0] - points.mean(axis=0)
    height = float(np.linalg.norm(opening))
    if height > 0.1 * radius and opening[2] > -_STEEP * height:
        raise InputError(
            "The recorded electrode positions are turned: their cap does not open downwards (or "
            "one of them is far off). MNE's head coordinates have x to the right ear, y to the "
            "nose, z up; set the montage with its fiducials."
        )
    scale = ours[1] / theirs[1]
    moved = ours[0] + scale * (points - theirs[0])
    note = (
        f"{len(recorded)} of {n_channels} EEG channels sit at their recorded positions, scaled by "
        f"{scale:.3f} so that their sphere (radius {1000 * theirs[1]:.1f} mm) is the template's "
        f"({1000 * ours[1]:.1f} mm): fewer than half have names of the 10-05 system."
    )
    return dict(zip(recorded, moved, strict=True)), [note]


def fit_similarity(
    source: NDArray[np.float64], target: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float] | None:
    """Fit a similarity from source to target; give it and its median misfit (metres).

    Closed form of Umeyama (1991), IEEE Trans. Pattern Anal. 13:376-380. Mirror images are not
    similar. None where the points lie in a plane.
    """
    if fit_sphere(source) is None or fit_sphere(target) is None:
        return None
    from_mean, to_mean = source.mean(axis=0), target.mean(axis=0)
    flat, goal = source - from_mean, target - to_mean
    turn = Rotation.align_vectors(goal, flat)[0].as_matrix()
    linear = turn * (np.sum(goal * (flat @ turn.T)) / np.sum(flat**2))
    trans = np.eye(4)
    trans[:3, :3], trans[:3, 3] = linear, to_mean - linear @ from_mean
    misfit = np.linalg.norm(mne.transforms.apply_trans(trans, source) - target, axis=1)
    return trans, float(np.median(misfit))


def _mri_to_head() -> NDArray[np.float64]:
    trans = mne.read_trans(mne_fsaverage_file("fsaverage-trans.fif"), verbose="error")
    matrix: NDArray[np.float64] = mne.transforms.invert_transform(trans)["trans"]
    return matrix


def _fiducials() -> dict[str, NDArray[np.float64]]:
    """Read the template's fiducials, metres, head frame."""
    path = mne_fsaverage_file("fsaverage-fiducials.fif")
    points, _ = mne.io.read_fiducials(path, verbose="error")
    names = {1: "lpa", 2: "nasion", 3: "rpa"}
    to_head = _mri_to_head()
    return {
        names[int(point["ident"])]: mne.transforms.apply_trans(to_head, point["r"])
        for point in points
    }
