"""Which channels of a recording are used, and why the others are not."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

import mne
import numpy as np
from numpy.typing import NDArray

from nmm_infer.anatomy import SensorOperator, place_electrodes
from nmm_infer.anatomy.sensors import interpolation, interpolation_options, reference
from nmm_infer.errors import InputError

__all__ = ["MIN_CHANNELS", "Chosen", "choose_channels"]

logger = logging.getLogger(__name__)

MIN_CHANNELS = 8
_NOT_EEG = re.compile(
    r"(EOG|ECG|EKG|EMG|GSR|RESP|PULSE|TRIG|STATUS|STI\b|PHOTO|TEMP\b|\bLOC\b|\bROC\b)",
    re.IGNORECASE,
)
#: Peak-to-peak values below which a channel is flat: V, T, T/m.
_FLAT = {"eeg": 1e-10, "mag": 1e-17, "grad": 1e-16}

_Recording: TypeAlias = mne.io.BaseRaw | mne.BaseEpochs | mne.Evoked


@dataclass(frozen=True, eq=False)
class Chosen:
    """The channels of a recording that are used.

    Parameters
    ----------
    recording : mne.io.Raw, mne.Epochs or mne.Evoked
        A loaded copy with these channels only, interpolated and referenced; electrodes are at
        their places on the template head.
    placed : mne.Info
        The same channels before interpolation and reference, with the reference sensors of CTF:
        what a forward model is made for.
    operator : SensorOperator
        Interpolation and reference, for lead fields.
    notes : tuple of str
        One sentence for each thing that was left out, interpolated or assumed.
    """

    recording: _Recording
    placed: mne.Info
    operator: SensorOperator
    notes: tuple[str, ...]


def choose_channels(
    recording: _Recording,
    *,
    sensors: Literal["auto", "eeg", "meg"] = "auto",
    bads: Literal["drop", "interpolate"] = "drop",
    to: Literal["average", "none"] | tuple[str, ...] = "average",
) -> Chosen:
    """Keep the channels that can be used, and reference them.

    Parameters
    ----------
    recording : mne.io.Raw, mne.Epochs or mne.Evoked
        The recording; it is not changed.
    sensors : {"auto", "eeg", "meg"}
        Which channels; "auto" takes EEG where there is any.
    bads : {"drop", "interpolate"}
        What becomes of channels that are marked bad, flat or not finite.
    to : "average", "none" or tuple of str
        Reference of EEG, see :func:`nmm_infer.anatomy.sensors.reference`.

    Returns
    -------
    Chosen

    Raises
    ------
    InputError
        If the recording is none or has no epochs, or fewer than :data:`MIN_CHANNELS` good channels
        remain.
    """
    if not isinstance(recording, mne.io.BaseRaw | mne.BaseEpochs | mne.Evoked):
        raise InputError(
            f"the recording is of type {type(recording).__name__}: give a Raw, Epochs or Evoked "
            "of MNE, from a file by read_recording"
        )
    notes: list[str] = []

    def say(names: list[str], done: str, why: str, level: int = logging.WARNING) -> None:
        if names:
            notes.append(f"{done} {_list(names)}: {why}.")
            logger.log(level, notes[-1])

    types = dict(zip(recording.ch_names, recording.get_channel_types(), strict=True))
    kinds = _kinds(set(types.values()), sensors)
    left = [name for name, kind in types.items() if kind in kinds]
    named = [name for name in left if types[name] == "eeg" and _NOT_EEG.search(name)]
    why = "the name says it is not EEG, though the file types it as EEG"
    say(named, "Left out", why, logging.INFO)
    left = [name for name in left if name not in named]
    data = recording.copy().load_data() if not isinstance(recording, mne.Evoked) else recording
    if isinstance(data, mne.BaseEpochs) and not len(data):
        raise InputError("there are no epochs left: none was cut, or all were rejected")
    reasons = _bad_channels(data, left, types)
    mending = bads == "interpolate"
    done = "Interpolated" if mending else "Left out"
    for reason, names in reasons.items():
        say(names, done, reason, logging.INFO if "marked" in reason else logging.WARNING)
    bad = [name for names in reasons.values() for name in names]
    good = [name for name in left if name not in bad]
    montage = None
    if kinds == ("eeg",) and left:
        wanted = left if mending else good
        kept = mne.pick_info(
            recording.info, mne.pick_channels(recording.ch_names, wanted, ordered=True)
        )
        montage, unplaced, said, _ = place_electrodes(kept)
        notes += said
        say(unplaced, "Left out", "no position in the file, and no name of the 10-05 system")
        left, good, bad = ([n for n in some if n not in unplaced] for some in (left, good, bad))
    if len(good) < MIN_CHANNELS:
        kind = "EEG" if kinds == ("eeg",) else "MEG"
        raise InputError(
            f"only {len(good)} usable {kind} channel(s) remain, at least {MIN_CHANNELS} are "
            "needed. " + " ".join(notes)
        )
    result = data.copy().pick(left if mending else good)
    if result.info["projs"]:
        result.del_proj()
    if montage is not None:
        result.set_montage(montage, verbose="error")
    mended = interpolation(result.info, bad if mending else [])
    referenced = reference(result.info, to if isinstance(to, str) else list(to))
    operator = referenced @ mended
    notes += referenced.notes
    placed = _with_references(recording.info, result.info)
    if mending and bad:
        result.info["bads"] = bad
        _fill(result, bad)  # MNE reads good channels only, but NaN times 0 is NaN
        result.interpolate_bads(**interpolation_options(placed), verbose="error")
    else:
        result.info["bads"] = []
    if kinds == ("eeg",) and to != "none":
        result.set_eeg_reference("average" if to == "average" else list(to), verbose="error")
    return Chosen(result, placed, operator, tuple(notes))


def _list(names: list[str]) -> str:
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def _kinds(present: set[str], sensors: str) -> tuple[str, ...]:
    """Channel types that are used."""
    meg = tuple(kind for kind in ("mag", "grad") if kind in present)
    if sensors in ("auto", "eeg") and "eeg" in present:
        return ("eeg",)
    if sensors in ("auto", "meg") and meg:
        return meg
    wanted = {"auto": "EEG channel and no MEG", "eeg": "EEG", "meg": "MEG"}[sensors]
    raise InputError(
        f"the recording has no {wanted} channel (its types: {', '.join(sorted(present))})"
    )


def _bad_channels(
    data: _Recording, names: list[str], types: dict[str, str]
) -> dict[str, list[str]]:
    """Channels that are marked bad, hold no numbers or are flat, by reason."""
    marked = [name for name in names if name in data.info["bads"]]
    left = [name for name in names if name not in marked]
    reasons = {"marked bad in the recording": marked}
    if left:
        values = dict(zip(left, np.moveaxis(data.get_data(picks=left), -2, 0), strict=True))
        invalid = [name for name in left if not np.isfinite(values[name]).all()]
        flat = [
            name
            for name in left
            if name not in invalid and np.ptp(values[name]) < _FLAT[types[name]]
        ]
        reasons["it holds NaN or infinite values"] = invalid
        reasons["it is flat"] = flat
    return reasons


def _with_references(recorded: mne.Info, used: mne.Info) -> mne.Info:
    """Add the reference sensors of the MEG device to the channels in use."""
    others = [recorded["ch_names"][k] for k in mne.pick_types(recorded, meg=False, ref_meg=True)]
    if not others or not len(mne.pick_types(used, meg=True)):
        return used.copy()
    names = [*used["ch_names"], *others]
    picks = mne.pick_channels(recorded["ch_names"], names, ordered=False)
    return mne.pick_info(recorded, picks, copy=True, verbose="error")


def _fill(data: _Recording, bad: list[str]) -> None:
    """Put zeros into channels that are about to be interpolated."""

    def zero(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.zeros_like(values)

    if isinstance(data, mne.Evoked):
        data.data[[data.ch_names.index(name) for name in bad]] = 0.0
    else:
        data.apply_function(zero, picks=bad, verbose="error")
