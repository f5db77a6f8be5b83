"""What a recording is: three classes of MNE, and which of their channels count."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal, TypeAlias, TypeVar

import mne

from nmm_infer.errors import InputError

__all__ = ["Recording", "check_recording", "choose_kinds", "loaded", "places", "source_name"]

Recording: TypeAlias = mne.io.BaseRaw | mne.BaseEpochs | mne.Evoked
_R = TypeVar("_R", mne.io.BaseRaw, mne.BaseEpochs, mne.Evoked)

_HEADERS = {".fdt": ".set", ".eeg": ".vhdr"}  # MNE names the data beside the header


def check_recording(recording: object) -> None:
    """Refuse what is not a recording.

    Raises
    ------
    InputError
        If it is of another class.
    """
    if not isinstance(recording, mne.io.BaseRaw | mne.BaseEpochs | mne.Evoked):
        raise InputError(
            f"the recording is of type {type(recording).__name__}: give a Raw, Epochs or Evoked "
            "of MNE, from a file by read_recording, or from an array by recording_from_array"
        )


def choose_kinds(recording: Recording, sensors: Literal["auto", "eeg", "meg"]) -> tuple[str, ...]:
    """Choose the channel types that are used: ("eeg",), or those of MEG that are there.

    Parameters
    ----------
    recording : mne.io.Raw, mne.Epochs or mne.Evoked
        The recording.
    sensors : {"auto", "eeg", "meg"}
        Which are wanted; "auto" takes EEG where there is any.

    Returns
    -------
    tuple of str
        Channel types of MNE.

    Raises
    ------
    InputError
        If there is no such channel.
    """
    present = set(recording.get_channel_types())
    meg = tuple(kind for kind in ("mag", "grad") if kind in present)
    if sensors in ("auto", "eeg") and "eeg" in present:
        return ("eeg",)
    if sensors in ("auto", "meg") and meg:
        return meg
    wanted = {"auto": "EEG channel and no MEG", "eeg": "EEG", "meg": "MEG"}[sensors]
    raise InputError(
        f"the recording has no {wanted} channel (its types: {', '.join(sorted(present))})"
    )


def loaded(recording: _R) -> _R:
    """Load a recording's data, in place and without a word; return it."""
    if not isinstance(recording, mne.Evoked):
        with mne.utils.use_log_level("ERROR"):
            recording.load_data()
    return recording


def places(recording: Recording, names: Iterable[str]) -> list[int]:
    """Positions of channels; MNE takes some names ("eeg", "all") for types or strips them."""
    known = {name: k for k, name in enumerate(recording.ch_names)}
    return [known[name] for name in names]


def source_name(recording: Recording) -> str:
    """Name of the file that a recording came from; that of an average is its comment."""
    if isinstance(recording, mne.Evoked):
        return str(recording.comment or "")
    files = recording.filenames if isinstance(recording, mne.io.BaseRaw) else [recording.filename]
    if not files or not files[0]:
        return ""
    path = Path(files[0])
    return path.with_suffix(_HEADERS.get(path.suffix, path.suffix)).name
