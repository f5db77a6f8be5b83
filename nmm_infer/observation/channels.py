"""Which channels of a recording are used, and why the others are not."""

from __future__ import annotations

import logging
import re

import mne
import numpy as np

from nmm_infer.anatomy import place_electrodes
from nmm_infer.errors import InputError

__all__ = ["MIN_CHANNELS", "choose_channels"]

logger = logging.getLogger(__name__)

MIN_CHANNELS = 8
_NOT_EEG = re.compile(
    r"(EOG|ECG|EKG|EMG|GSR|RESP|PULSE|TRIG|STATUS|STI\b|PHOTO|TEMP\b|\bLOC\b|\bROC\b)",
    re.IGNORECASE,
)


def _list(names: list[str]) -> str:
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def choose_channels(
    recording: mne.io.BaseRaw | mne.BaseEpochs | mne.Evoked,
) -> tuple[mne.io.BaseRaw | mne.BaseEpochs | mne.Evoked, list[str]]:
    """Keep the EEG channels that can be used, at their places on the template head.

    Parameters
    ----------
    recording : mne.io.Raw, mne.Epochs or mne.Evoked
        The recording; it is not changed.

    Returns
    -------
    recording : same type
        A loaded copy with the kept channels only and positions on the template head.
    notes : list of str
        One sentence for each thing that was left out or assumed.

    Raises
    ------
    InputError
        If fewer than :data:`MIN_CHANNELS` channels remain.
    """
    notes: list[str] = []

    def leave_out(names: list[str], why: str, level: int = logging.WARNING) -> None:
        if names:
            notes.append(f"Left out {_list(names)}: {why}.")
            logger.log(level, notes[-1])

    types = dict(zip(recording.ch_names, recording.get_channel_types(), strict=True))
    eeg = [name for name, kind in types.items() if kind == "eeg"]
    if not eeg:
        raise InputError(f"the recording has no EEG channel (its types: {set(types.values())})")
    others = [name for name in eeg if _NOT_EEG.search(name)]
    leave_out(others, "the name says it is not EEG, though the file types it as EEG", logging.INFO)
    left = [name for name in eeg if name not in others]
    bad = [name for name in left if name in recording.info["bads"]]
    leave_out(bad, "marked bad in the recording", logging.INFO)
    left = [name for name in left if name not in bad]

    data = recording.copy().load_data() if not isinstance(recording, mne.Evoked) else recording
    values = dict(zip(left, np.moveaxis(data.get_data(picks=left), -2, 0), strict=True))
    invalid = [n for n in left if not np.isfinite(values[n]).all()]
    leave_out(invalid, "it holds NaN or infinite values")
    left = [n for n in left if n not in invalid]
    flat = [n for n in left if np.ptp(values[n]) < 1e-10]
    leave_out(flat, "it is flat (peak to peak below .0001 uV)")
    left = [n for n in left if n not in flat]
    if left:
        kept = mne.pick_info(
            recording.info, mne.pick_channels(recording.ch_names, left, ordered=True)
        )
        montage, unplaced, said, _ = place_electrodes(kept)
        notes += said
        leave_out(unplaced, "no position in the file, and no name of the 10-05 system")
        left = [n for n in left if n not in unplaced]
    if len(left) < MIN_CHANNELS:
        raise InputError(
            f"only {len(left)} usable EEG channel(s) remain, at least {MIN_CHANNELS} are needed. "
            + " ".join(notes)
        )
    result = data.copy().pick(left)
    if result.info["projs"]:
        result.del_proj()
    result.set_montage(montage, verbose="error")
    return result, notes
