"""Recordings from BIDS datasets."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mne
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nmm_infer.errors import InputError
from nmm_infer.observation.recording._guard import DESCRIPTION, guarded
from nmm_infer.observation.recording.lengths import check_length, check_tags

if TYPE_CHECKING:
    from mne_bids import BIDSPath

__all__ = ["read_bids"]

logger = logging.getLogger(__name__)

DATATYPES = ("eeg", "meg")
#: What the BIDS specification allows for EEG and MEG, as far as MNE-BIDS finds it by its name.
EXTENSIONS = (".vhdr", ".edf", ".bdf", ".set", ".fif", ".ds", ".con", ".sqd")
_CALIBRATION = ("calibration", "crosstalk")  # files of the MEG device, named as acquisitions
_METRES = {"m": 1.0, "cm": 1e-2, "mm": 1e-3}
# Coordinate systems that are defined by landmarks of the head (BIDS, appendix "Coordinate
# systems"); MNE-BIDS turns them into MNE's head frame.
_HEAD_SYSTEMS = (
    *("CapTrak", "ElektaNeuromag", "ChietiItab"),
    *("CTF", "4DBti", "KitYokogawa", "EEGLAB", "EEGLAB-HJ"),
)


def read_bids(
    root: str | Path,
    *,
    subject: str | None = None,
    session: str | None = None,
    task: str | None = None,
    acquisition: str | None = None,
    run: str | int | None = None,
    datatype: str | None = None,
) -> mne.io.BaseRaw:
    """Read an EEG or MEG recording from a BIDS dataset.

    What is not given is found where there is one possibility. MNE-BIDS reads the files:
    ``events.tsv`` becomes annotations, ``channels.tsv`` gives types and bad channels.
    EEG electrodes of ``electrodes.tsv`` are in MNE's head frame; it is that of the landmarks in
    ``coordsystem.json``, where these are told.

    Parameters
    ----------
    root : path
        Top folder of the dataset, with ``dataset_description.json``.
    subject, session, task, acquisition : str, optional
        Labels as in the names of the files, without ``sub-`` and the like. An empty text stands for
        recordings whose names do not have the label.
    run : str or int, optional
        Number of the run; leading zeros do not count.
    datatype : {"eeg", "meg"}, optional
        Kind of recording.

    Returns
    -------
    mne.io.Raw
        The recording, loaded.

    Raises
    ------
    InputError
        If the folder is no BIDS dataset, the recording is missing, damaged or not the only one that
        fits, or MNE-BIDS is not installed.

    References
    ----------
    Pernet et al. (2019), Sci. Data 6:103 (EEG-BIDS). Niso et al. (2018), Sci. Data 5:180110
    (MEG-BIDS). Appelhoff et al. (2019), J. Open Source Softw. 4:1896 (MNE-BIDS).
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"{root}: no such folder")
    if not (root / DESCRIPTION).is_file():
        raise InputError(f"{root}: has no {DESCRIPTION}; give the top folder of a BIDS dataset")
    try:
        import mne_bids
    except ImportError as error:
        raise InputError(
            "a BIDS dataset needs MNE-BIDS, which is not installed: pip install 'nmm-infer[bids]'"
        ) from error
    wanted = {
        "subject": subject,
        "session": session,
        "task": task,
        "acquisition": acquisition,
        "run": None if run is None else str(run),
        "datatype": datatype,
    }
    with guarded(root):
        found = mne_bids.find_matching_paths(
            root, datatypes=DATATYPES, suffixes=DATATYPES, extensions=EXTENSIONS, ignore_nosub=True
        )
        found = [path for path in found if _is_recording(path, subject)]
    path = _choose(root, found, wanted)
    with guarded(path.fpath):
        check_length(path.fpath)
        if path.extension == ".fif":
            check_tags(path.fpath)
        # MNE-BIDS lets MaxShield data pass, which are distorted before Maxwell filtering.
        extra = {"allow_maxshield": False} if path.extension == ".fif" else None
        raw = mne_bids.read_raw_bids(path, extra, verbose="warning")
        raw.load_data(verbose="error")
        if path.datatype == "eeg":
            _set_landmarks(raw, path)
    return raw


def _is_recording(path: BIDSPath, subject: str | None) -> bool:
    """Tell a recording (the first of its files) from other files of a device."""
    return (
        path.suffix == path.datatype
        and path.acquisition not in _CALIBRATION
        and int(path.split or 1) == 1
        and (path.subject != "emptyroom" or subject == "emptyroom")
    )


def _choose(root: Path, found: list[BIDSPath], wanted: dict[str, str | None]) -> BIDSPath:
    """Choose the one recording that fits."""

    def labels(key: str) -> str:
        there = sorted({getattr(path, key) or "" for path in found})
        return ", ".join(label or '"" (none)' for label in there)

    if not found:
        raise InputError(
            f"{root}: no EEG or MEG recording in it ({', '.join(EXTENSIONS)}); have its files been "
            "downloaded?"
        )
    for key, label in wanted.items():
        fitting = [p for p in found if label is None or _same(getattr(p, key) or "", label, key)]
        if not fitting:
            raise InputError(f"{root}: no {key} {label!r}; its {key}s: {labels(key)}")
        found = fitting
    for key in wanted:
        if len({getattr(path, key) for path in found}) > 1:
            raise InputError(f"{root}: there are {key}s {labels(key)}; say which")
    if len(found) > 1:
        names = ", ".join(path.fpath.name for path in found)
        raise InputError(f"{root}: several files fit: {names}; give one of them by its own path")
    return found[0]


def _same(label: str, wanted: str, key: str) -> bool:
    if key == "run":
        label, wanted = (text.lstrip("0") if text.strip("0") else text for text in (label, wanted))
    return label == wanted


def _set_landmarks(raw: mne.io.BaseRaw, path: BIDSPath) -> None:
    """Bring electrodes to the head frame of the landmarks that the dataset tells.

    MNE-BIDS leaves landmarks out: MNE then makes some up from the electrodes, and the head frame
    of electrodes in a system of its own remains unknown.
    """
    electrodes, coordinates = (
        path.find_matching_sidecar(suffix, extension, on_error="ignore")
        for suffix, extension in (("electrodes", ".tsv"), ("coordsystem", ".json"))
    )
    if electrodes is None or coordinates is None:
        return
    told = json.loads(Path(coordinates).read_text(encoding="utf-8-sig"))
    landmarks = _landmarks(told)
    if landmarks is None:
        system = told.get("EEGCoordinateSystem")
        if system not in _HEAD_SYSTEMS:
            logger.warning(
                "%s: positions of electrodes are in the system %r without landmarks, and are taken "
                "as they are",
                electrodes,
                system,
            )
        return
    table = pd.read_csv(
        electrodes, sep="\t", encoding="utf-8-sig", dtype={"name": str}, na_values="n/a"
    )
    places = _METRES[told["EEGCoordinateUnits"]] * table[["x", "y", "z"]].to_numpy(np.float64)
    nasion, lpa, rpa = landmarks
    montage = mne.channels.make_dig_montage(
        dict(zip(table["name"], places, strict=True)), nasion, lpa, rpa, coord_frame="unknown"
    )
    raw.set_montage(montage, on_missing="ignore", verbose="error")


def _landmarks(told: dict[str, Any]) -> NDArray[np.float64] | None:
    """Nasion, left and right preauricular point in m, if in the system of the electrodes."""
    prefix = "AnatomicalLandmarkCoordinate"
    points, unit = told.get(f"{prefix}s"), str(told.get(f"{prefix}Units"))
    if (
        not isinstance(points, dict)
        or told.get(f"{prefix}System") != told.get("EEGCoordinateSystem")
        or not {unit, told.get("EEGCoordinateUnits")} <= set(_METRES)
    ):
        return None
    try:
        places = _METRES[unit] * np.array([points[k] for k in ("NAS", "LPA", "RPA")], np.float64)
    except (KeyError, TypeError, ValueError):  # left out, or no numbers
        return None
    if places.shape != (3, 3) or not np.isfinite(places).all():
        return None
    area = np.linalg.norm(np.cross(places[1] - places[0], places[2] - places[0]))
    return places if area > 1e-4 else None  # m2; some datasets have three zeros
