"""Recordings of EEGLAB: continuous, or cut around events."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mne
import numpy as np
from pymatreader import read_mat

from nmm_infer.observation.recording.kinds import loaded
from nmm_infer.observation.recording.matlab import check_matlab

__all__ = ["read_eeglab"]


def read_eeglab(path: Path) -> mne.io.BaseRaw | mne.BaseEpochs:
    """Read a ``.set`` file (MATLAB 5 or 7.3), whichever it holds.

    Epochs get the name of the event at their time zero. MNE joins the names of all events that
    fall into an epoch, those of its neighbours included.

    Parameters
    ----------
    path : Path
        The file; its ``.fdt`` beside it, if there is one.

    Returns
    -------
    mne.io.Raw or mne.Epochs
        Loaded.
    """
    check_matlab(path)
    try:
        return mne.io.read_raw_eeglab(path, preload=True, verbose="error")
    except TypeError as error:
        if "trials" not in str(error):
            raise
    epochs = loaded(mne.io.read_epochs_eeglab(path, verbose="error"))
    names = _locked_to(path, epochs)
    if names is None:
        return epochs
    event_id = {name: k + 1 for k, name in enumerate(dict.fromkeys(names))}
    events = epochs.events.copy()
    events[:, 2] = [event_id[name] for name in names]
    return mne.EpochsArray(
        epochs.get_data(), epochs.info, events=events, tmin=epochs.tmin, event_id=event_id,
        baseline=None, proj=False, verbose="error",
    )  # fmt: skip


def _locked_to(path: Path, epochs: mne.BaseEpochs) -> list[str] | None:
    """Names of the event at time zero of each epoch; None where the file does not tell."""
    content: dict[str, Any] = read_mat(str(path))
    content = content.get("EEG", content)
    described = content.get("epoch")
    if not isinstance(described, dict) or "eventlatency" not in described:
        return None
    latencies, types = described["eventlatency"], described.get("eventtype")
    if types is None or not len(latencies) == len(types) == len(epochs):
        return None
    names = []
    for times, kinds in zip(latencies, types, strict=True):
        at = np.abs(np.atleast_1d(np.asarray(times, dtype=float)))  # ms
        here = [kinds] if isinstance(kinds, str) or np.ndim(kinds) == 0 else list(kinds)
        if len(at) != len(here) or at.min() > 1000.0 / epochs.info["sfreq"]:
            return None
        names.append(str(here[int(at.argmin())]))
    return names
