"""Recordings from files, by what the files hold."""

from __future__ import annotations

from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import mne
import numpy as np

from nmm_infer.errors import InputError
from nmm_infer.observation.recording._guard import DESCRIPTION, guarded
from nmm_infer.observation.recording.bids import read_bids
from nmm_infer.observation.recording.eeglab import read_eeglab
from nmm_infer.observation.recording.events import Names, as_names, choose_names
from nmm_infer.observation.recording.kinds import Recording, loaded
from nmm_infer.observation.recording.lengths import check_length, check_tags
from nmm_infer.observation.recording.units import in_si

__all__ = ["read_recording"]

#: Formats that are tested; ``mne.io.read_raw`` opens more.
TESTED = (".fif", ".fif.gz", ".set", ".edf", ".bdf", ".gdf", ".vhdr", ".cnt", ".mff")
#: Further ones that MNE opens without another package.
OTHERS = (".ahdr", ".con", ".sqd", ".ds", ".data", ".lay", ".eeg", ".EEG", ".raw", ".nxe")
#: How files of a format begin, and the name that MNE wants of them.
_BEGINNINGS = (
    (b"\xffBIOSEMI", ".bdf"),
    (b"0       ", ".edf"),
    (b"GDF ", ".gdf"),
    (b"Brain Vision", ".vhdr"),
    (b"BrainVision", ".vhdr"),
    (b"Version 3.", ".cnt"),
    (b"\x00\x00\x00\x64", ".fif"),
    (b"MATLAB 5.0", ".set"),
    (b"MATLAB 7.3", ".set"),
)
#: Formats that begin in one way only.
_MARKED = (".fif", ".edf", ".bdf", ".gdf", ".vhdr", ".set")
#: What else MNE keeps in .fif files.
_NO_RECORDINGS = {
    "ica": "an independent component analysis",
    "forward": "a forward model",
    "inverse": "an inverse operator",
    "src": "source spaces",
    "bem solution": "a conductor model",
    "bem surfaces": "surfaces of a conductor model",
    "cov": "a covariance",
    "transform": "a coordinate transform",
    "proj": "projectors",
}
_NAMES = {".vhdr": (".vhdr", ".ahdr"), ".fif": (".fif", ".fif.gz"), ".set": (".set", ".mat")}


def read_recording(
    path: str | Path,
    *,
    events: Names | None = None,
    unit: str | None = None,
    **entities: str | None,
) -> Recording:
    """Read a recording.

    Parameters
    ----------
    path : path
        A file, or the top folder of a BIDS dataset. What a ``.fif`` or ``.set`` file holds (raw,
        epochs or averages) is read from it, not from its name. Tested formats: ``.fif``, ``.set``
        (also of MATLAB 7.3), ``.edf``, ``.bdf``, ``.gdf``, ``.vhdr``, ``.cnt`` (Neuroscan) and
        ``.mff``; others that `mne.io.read_raw` opens are tried.
    events : str or sequence of str, optional
        Which averages of a file that holds several, by their comments; several are pooled, weighed
        by their numbers of trials. Those of other recordings are chosen by :func:`observe`.
    unit : str, optional
        Unit that the numbers in the file really have ("uV"), where the file says otherwise or
        nothing: see :func:`to_si`.
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
    if path.is_dir() and path.suffix.lower() not in (".mff", ".ds"):
        if not (path / DESCRIPTION).is_file():
            raise InputError(
                f"{path}: is a folder without {DESCRIPTION}; give a recording's file or the top "
                "folder of a BIDS dataset"
            )
        found: Recording = read_bids(path, **entities)
    else:
        given = [key for key, label in entities.items() if label is not None]
        if given:
            raise InputError(f"{path}: is a file; {given[0]} chooses a recording of a BIDS dataset")
        found = _read_file(path, events)
    return found if unit is None else in_si(found, unit)


def _read_file(path: Path, events: Names | None) -> Recording:
    suffix = _suffix(path)
    with guarded(path):
        if suffix != ".fif":
            check_length(path)
        if suffix == ".fif":
            check_tags(path)
            recording = _read_fif(path, events)
        elif suffix == ".set":
            recording = read_eeglab(path)
        elif suffix == ".cnt":
            recording = _read_cnt(path)
        else:
            with redirect_stdout(StringIO()):  # mffpy prints
                recording = mne.io.read_raw(path, preload=True, verbose="error")
        _check_channels(path, recording)
    return recording


def _suffix(path: Path) -> str:
    """Tell the format of a file from its beginning and its name."""
    name = path.name.lower()
    if path.is_dir():
        return path.suffix.lower()
    with path.open("rb") as file:
        beginning = file.read(256)
    if not beginning:
        raise InputError(f"{path}: the file is empty")
    if beginning.startswith(b"\x1f\x8b"):
        if name.endswith(".fif.gz"):
            return ".fif"
        raise InputError(
            f"{path}: is compressed (gzip): if it holds a .fif recording, rename it to "
            f"{path.name.split('.')[0]}.fif.gz, else decompress it"
        )
    for start, suffix in _BEGINNINGS:
        if beginning.removeprefix(b"\xef\xbb\xbf").startswith(start):
            if suffix == ".fif" and name.endswith(".gz"):
                raise InputError(f"{path}: is not compressed: rename it to {path.name[:-3]}")
            if suffix != ".fif" and not name.endswith(_NAMES.get(suffix, (suffix,))):
                raise InputError(
                    f"{path}: holds a {suffix} recording under another name: rename it to "
                    f"{path.stem}{suffix}"
                )
            return suffix
    for suffix in _MARKED:
        if name.endswith(_NAMES.get(suffix, (suffix,))) and not beginning.startswith(b"\x89HDF"):
            raise InputError(
                f"{path}: is not a {suffix} recording, or its beginning is damaged: copy it again, "
                "or give the file that the recorder wrote"
            )
    if not name.endswith(tuple(s.lower() for s in (*TESTED, *OTHERS))):
        raise InputError(f"{path}: unknown format; expected one of {', '.join(TESTED)}")
    return path.suffix.lower()


def _read_fif(path: Path, events: Names | None) -> Recording:
    """Read raw data, epochs or averages, whichever a file holds."""
    first: Exception | None = None
    for read in (mne.io.read_raw_fif, mne.read_epochs, mne.read_evokeds):
        try:
            found = read(path, verbose="error")
        except Exception as error:
            first = first or error
            continue
        if isinstance(found, list):
            if found:
                return _choose_average(path, found, events)
            continue
        return loaded(found)
    kind = mne.what(path)
    if kind in _NO_RECORDINGS:
        raise InputError(f"{path}: holds no recording, but {_NO_RECORDINGS[kind]}")
    assert first is not None
    raise first


def _read_cnt(path: Path) -> mne.io.BaseRaw:
    """Read a recording of Neuroscan.

    The old header's mark of bad channels lies where the new one has the fifth letter of a name, so
    that MNE's guess of the header would leave out channels with long names. Places in such files
    are those of a drawing: MNE puts them onto a sphere of one metre.
    """
    raw = mne.io.read_raw_cnt(path, header="new", preload=True, verbose="error")
    return raw.set_montage(None, verbose="error")


def _check_channels(path: Path, recording: Recording) -> None:
    """Refuse what only later steps would fail on: types, sampling rate, numbers of samples."""
    try:
        recording.get_channel_types()
    except Exception as error:
        raise InputError(
            f"{path}: a channel has a type that MNE does not know: the file is damaged"
        ) from error
    info = recording.info
    if not recording.ch_names or not len(recording.times):
        raise InputError(f"{path}: holds no channel, or no sample")
    if not (np.isfinite(info["sfreq"]) and info["sfreq"] > 0):
        raise InputError(f"{path}: its sampling rate is {info['sfreq']} Hz: the file is damaged")


def _choose_average(path: Path, averages: list[mne.Evoked], names: Names | None) -> mne.Evoked:
    """Choose one average of a file, or pool several; standard errors do not count."""
    averages = [one for one in averages if one.kind == "average"]
    comments = [str(one.comment) for one in averages]
    if names is None and len(averages) == 1:
        return averages[0]
    listed = ", ".join(map(repr, comments)) or "none at all"
    if names is None:
        raise InputError(f"{path}: averages in it: {listed}; say which by events")
    counts = dict.fromkeys(comments, 0) | {str(one.comment): int(one.nave) for one in averages}
    chosen = choose_names(names, counts, f"among the averages of {path}")
    fitting = [one for one in averages if str(one.comment) in chosen]
    if len(fitting) == 1:
        return fitting[0]
    if len({str(one.comment) for one in fitting}) < len(fitting):
        raise InputError(f"{path}: averages in it: {listed}; {len(fitting)} are of {chosen[0]!r}")
    pooled = mne.combine_evoked(fitting, weights="nave")
    pooled.comment = " + ".join(as_names(names))
    return pooled
