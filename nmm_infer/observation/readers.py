"""Recordings from files."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mne
import numpy as np
from numpy.typing import NDArray

from nmm_infer.errors import InputError

__all__ = ["DESCRIPTION", "check_length", "find_events", "guarded", "read_recording"]

logger = logging.getLogger(__name__)

SUFFIXES = (".fif", ".fif.gz", ".set", ".edf", ".bdf", ".vhdr")
DESCRIPTION = "dataset_description.json"  # marks the top folder of a BIDS dataset


@contextmanager
def guarded(path: Path) -> Iterator[None]:
    """Keep a reader's warnings for the debug log, and make one sentence of its errors."""
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
    except InputError:
        raise
    except Exception as error:
        reason = str(error).strip().splitlines()
        raise InputError(
            f"{path}: cannot be read, it may be cut off or damaged "
            f"({type(error).__name__}: {reason[0] if reason else 'no reason given'})"
        ) from error
    for warning in caught:
        logger.debug("%s: %s", path, warning.message)


def check_length(path: Path) -> None:
    """Refuse an EDF, BDF or BrainVision recording that is shorter than it says."""
    name = path.name.lower()
    if name.endswith((".edf", ".bdf")):
        _check_edf_length(path)
    if name.endswith(".vhdr"):
        _check_brainvision_length(path)


def _check_edf_length(path: Path) -> None:
    """Refuse an EDF or BDF file that is shorter than its header says.

    The header fields are those of the EDF specification (Kemp et al. 1992).
    """
    with path.open("rb") as file:
        head = file.read(256)
        size = 3 if path.suffix.lower() == ".bdf" else 2
        header, records, signals = int(head[184:192]), int(head[236:244]), int(head[252:256])
        file.seek(256 + signals * 216)
        samples = sum(int(file.read(8)) for _ in range(signals))
    expected = header + records * samples * size
    if records > 0 and path.stat().st_size < expected:
        raise InputError(
            f"{path}: cut off, {path.stat().st_size} of the {expected} bytes that its header "
            "announces; copy the file again"
        )


def _check_brainvision_length(path: Path) -> None:
    """Refuse a BrainVision recording that ends inside a sample or before its last marker."""
    header = dict(re.findall(r"^(\w+)=(.*)$", path.read_text(errors="replace"), re.MULTILINE))
    data = path.with_name(header["DataFile"].strip().replace("$b", path.stem))
    markers = path.with_name(header.get("MarkerFile", "").strip().replace("$b", path.stem))
    width = 4 if header.get("BinaryFormat", "").strip() == "IEEE_FLOAT_32" else 2
    frame = int(header["NumberOfChannels"]) * width
    samples, rest = divmod(data.stat().st_size, frame)
    expected = int(header.get("DataPoints", 0))
    if markers.is_file():
        text = markers.read_text(errors="replace")
        positions = re.findall(r"^Mk\d+=[^,]*,[^,]*,(\d+)", text, re.MULTILINE)
        expected = max([expected, *map(int, positions)])
    if header.get("DataFormat", "BINARY").strip() == "BINARY" and (rest or samples < expected):
        raise InputError(
            f"{path}: cut off, {data.name} has {samples} samples where header and markers announce "
            f"at least {max(expected, samples + 1)}; copy the files again"
        )


def read_recording(
    path: str | Path, *, events: str | None = None, **entities: str | None
) -> mne.io.BaseRaw | mne.BaseEpochs | mne.Evoked:
    """Read a recording.

    Parameters
    ----------
    path : path
        A file that MNE reads: ``.fif`` (raw, ``-epo.fif`` or ``-ave.fif``), ``.set``, ``.edf``,
        ``.bdf`` or ``.vhdr``; or the top folder of a BIDS dataset.
    events : str, optional
        Which average of an ``-ave.fif`` file, by its comment; needed where there are several. Those
        of other recordings are chosen by :func:`observe`.
    **entities
        Which recording of a BIDS dataset (``subject="01"``, ``task="rest"`` ...): see
        :func:`read_bids`.

    Returns
    -------
    mne.io.Raw, mne.Epochs or mne.Evoked
        The recording, loaded.

    Raises
    ------
    InputError
        If the file is missing, unreadable or cut off, or holds not one average or, as a BIDS
        dataset, not one recording that fits; the message lists those present.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file")
    if path.is_dir():
        if not (path / DESCRIPTION).is_file():
            raise InputError(
                f"{path}: is a folder without {DESCRIPTION}; give a recording's file or the top "
                "folder of a BIDS dataset"
            )
        from nmm_infer.observation.bids import read_bids

        return read_bids(path, **entities)
    given = [key for key, label in entities.items() if label is not None]
    if given:
        raise InputError(f"{path}: is a file; {given[0]} chooses a recording of a BIDS dataset")
    name = path.name.lower()
    if not name.endswith(SUFFIXES):
        raise InputError(f"{path}: unknown format; expected one of {', '.join(SUFFIXES)}")
    with guarded(path):
        check_length(path)
        if name.endswith(("-epo.fif", "_epo.fif", "-epo.fif.gz")):
            return mne.read_epochs(path, preload=True, verbose="error")
        if name.endswith(("-ave.fif", "_ave.fif", "-ave.fif.gz")):
            return _choose_average(path, mne.read_evokeds(path, verbose="error"), events)
        return mne.io.read_raw(path, preload=True, verbose="error")


def _choose_average(path: Path, averages: list[mne.Evoked], comment: str | None) -> mne.Evoked:
    """Choose one average of a file; standard errors are none."""
    averages = [one for one in averages if one.kind == "average"]
    fitting = [one for one in averages if comment is None or one.comment == comment]
    if len(fitting) != 1:
        listed = ", ".join(repr(one.comment) for one in averages) or "none at all"
        asked = "say which by events" if comment is None else f"{len(fitting)} are of {comment!r}"
        raise InputError(f"{path}: averages in it: {listed}; {asked}")
    return fitting[0]


def find_events(raw: mne.io.BaseRaw, name: str) -> tuple[NDArray[np.int64], dict[str, int]]:
    """Find the events of one kind.

    Annotations are looked at first; a file without any may have a stimulus channel, whose
    events are named by their numbers.

    Parameters
    ----------
    raw : mne.io.Raw
        The recording.
    name : str
        Description of the annotation, or the number on the stimulus channel.

    Returns
    -------
    events : numpy.ndarray of int, shape (events, 3)
        MNE events.
    event_id : dict
        The event's name and number.

    Raises
    ------
    InputError
        If there is no such event; the message lists those present.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        events, event_id = mne.events_from_annotations(raw, verbose="error")
        if not event_id and "stim" in raw.get_channel_types():
            events = mne.find_events(raw, shortest_event=1, verbose="error")
            event_id = {str(code): int(code) for code in sorted(set(events[:, 2]))}
    if name not in event_id:
        counts = {n: int((events[:, 2] == code).sum()) for n, code in event_id.items()}
        listed = ", ".join(f"{n} ({count})" for n, count in counts.items()) or "none at all"
        raise InputError(f"no event {name!r} in the recording; present: {listed}")
    return events, {name: event_id[name]}
