"""The signals of a recording's channels, conditioned in time, before any map of the sensors."""

from __future__ import annotations

from dataclasses import dataclass, field

import mne
import numpy as np
from numpy.typing import NDArray

from nmm_infer.errors import InputError
from nmm_infer.observation.conditioning import bandpass, line_harmonics
from nmm_infer.observation.protocol import Protocol
from nmm_infer.observation.recording.channels import Candidates
from nmm_infer.observation.recording.events import Events, choose_names, matching
from nmm_infer.observation.recording.gaps import (
    APART,
    MOST,
    Gaps,
    counted,
    mark_boundaries,
    mend_gaps,
)
from nmm_infer.observation.recording.kinds import Recording, loaded, places
from nmm_infer.observation.recording.units import check_amplitude

__all__ = ["Signals", "condition"]

_UNRECORDED = "it holds NaN or infinite values most of the time"


@dataclass(frozen=True, eq=False)
class Signals:
    """Filtered signals of the channels that may be used.

    Parameters
    ----------
    recording : mne.io.Raw, mne.Epochs or mne.Evoked
        The candidates only, finite: what was not recorded is bridged or zero.
    recorded : mne.Info
        Of the whole recording.
    unfit : dict of str to list of str
        Channels not to use, by the reason.
    events : Events, optional
        Those of a raw recording.
    gaps : Gaps, optional
        Where a raw recording holds no numbers.
    missing : numpy.ndarray of bool, shape (epoch, channel), optional
        Where epochs do not.
    around : str
        What the average is around, for messages.
    notes : tuple of str
        What is to be said.
    """

    recording: Recording
    recorded: mne.Info
    unfit: dict[str, list[str]]
    events: Events | None = None
    gaps: Gaps | None = None
    missing: NDArray[np.bool_] | None = None
    around: str = ""
    notes: tuple[str, ...] = field(default=())


def condition(
    recording: Recording,
    protocol: Protocol,
    candidates: Candidates,
    events: Events | None,
    names: tuple[str, ...],
) -> Signals:
    """Bridge gaps, filter, and refuse amplitudes that no brain has.

    Parameters
    ----------
    recording : mne.io.Raw, mne.Epochs or mne.Evoked
        It is not changed.
    protocol : EvokedProtocol or SpontaneousProtocol
        Filters.
    candidates : Candidates
        Channels that may be used.
    events : Events, optional
        Of a raw recording.
    names : tuple of str
        Names of events, as the user has them: which epochs.

    Returns
    -------
    Signals

    Raises
    ------
    InputError
        If amplitudes are not those of EEG or MEG, or epochs have no such event.
    """
    if isinstance(recording, mne.io.BaseRaw):
        return _raw(recording, protocol, candidates, events)
    if isinstance(recording, mne.Evoked):
        return _average(recording, protocol, candidates, names)
    return _epochs(recording, protocol, candidates, names)


def _raw(
    recording: mne.io.BaseRaw, protocol: Protocol, candidates: Candidates, events: Events | None
) -> Signals:
    raw = loaded(recording.copy()).pick(places(recording, candidates.names))
    _forget_application(raw)
    cuts = mark_boundaries(raw)
    gaps = mend_gaps(raw, list(candidates.names))
    lines = line_harmonics(protocol.notch, raw.info["sfreq"])
    if len(lines):
        raw.notch_filter(lines, skip_by_annotation=APART, verbose="error")
    raw.filter(protocol.l_freq or None, protocol.h_freq, skip_by_annotation=APART, verbose="error")
    values = raw.get_data()
    there = ~gaps.missing if gaps.missing is not None else None
    _check(values, there, raw, recording, gaps.lost)
    notes = [*(events.notes if events else ()), *gaps.notes]
    if cuts:
        notes.append(
            f"{counted(cuts, 'cut')} in the recording (boundary events): what touches "
            f"{'it' if cuts == 1 else 'them'} was left out."
        )
    around = "" if events is None else " and ".join(map(repr, events.names))
    return Signals(
        raw, recording.info, {_UNRECORDED: list(gaps.lost)}, events, gaps, None, around,
        tuple(notes),
    )  # fmt: skip


def _epochs(
    recording: mne.BaseEpochs, protocol: Protocol, candidates: Candidates, names: tuple[str, ...]
) -> Signals:
    epochs = loaded(recording.copy())
    if not len(epochs):
        raise InputError("there are no epochs left: none was cut, or all were rejected")
    notes: list[str] = []
    if names:
        counts = {
            name: int((epochs.events[:, 2] == code).sum()) for name, code in epochs.event_id.items()
        }
        chosen = choose_names(names, counts, "in the epochs")
        codes = [epochs.event_id[name] for name in chosen]
        epochs = epochs[np.isin(epochs.events[:, 2], codes)]
        if sorted(chosen) != sorted(names):
            taken = ", ".join(f"{one} ({counts[one]})" for one in chosen)
            notes.append(f"Events taken: {taken}.")
    if not len(epochs):
        raise InputError(f"there are no epochs of {' and '.join(map(repr, names))} left")
    epochs = epochs.pick(places(epochs, candidates.names))
    values = np.asarray(epochs.get_data(), dtype=float)
    missing = ~np.isfinite(values).all(axis=-1)
    lost = [n for n, m in zip(epochs.ch_names, missing.mean(axis=0), strict=True) if m > MOST]
    values[missing] = 0.0
    values = bandpass(values, epochs.info["sfreq"], None, protocol.h_freq)
    values[missing] = 0.0
    info = epochs.info.copy()
    made = mne.EpochsArray(
        values, info, events=epochs.events, tmin=epochs.tmin, event_id=epochs.event_id,
        baseline=None, proj=False, on_missing="ignore", verbose="error",
    )  # fmt: skip
    _forget_application(made)
    flat = np.moveaxis(values, 1, 0).reshape(len(made.ch_names), -1)
    there = np.repeat(~missing.T[:, :, np.newaxis], values.shape[-1], axis=2)
    _check(flat, there.reshape(flat.shape) if missing.any() else None, made, recording, lost)
    around = " and ".join(map(repr, names or tuple(epochs.event_id)))
    return Signals(
        made, recording.info, {_UNRECORDED: lost}, missing=missing, around=around,
        notes=tuple(notes),
    )  # fmt: skip


def _average(
    recording: mne.Evoked, protocol: Protocol, candidates: Candidates, names: tuple[str, ...]
) -> Signals:
    comment = str(recording.comment or "")
    if names and list(names) != [comment] and not any(matching(n, [comment]) for n in names):
        raise InputError(
            f"the average is of {comment!r}, not of {' or '.join(map(repr, names))}: leave events "
            "out, or give another average"
        )
    average = recording.copy().pick(places(recording, candidates.names))
    values = np.asarray(average.data, dtype=float)
    missing = ~np.isfinite(values).all(axis=-1)
    lost = [name for name, bad in zip(average.ch_names, missing, strict=True) if bad]
    values[missing] = 0.0
    average.data = bandpass(values, average.info["sfreq"], None, protocol.h_freq)
    average.data[missing] = 0.0
    _forget_application(average)
    _check(average.data, None, average, recording, lost)
    return Signals(
        average, recording.info, {"it holds NaN or infinite values": lost}, around=repr(comment)
    )


def _forget_application(recording: Recording) -> None:
    """Take projectors as not applied, in place: they are applied with all other maps, later."""
    with recording.info._unlock():
        for projector in recording.info["projs"]:
            projector["active"] = False


def _check(
    values: NDArray[np.float64],
    there: NDArray[np.bool_] | None,
    own: Recording,
    recording: Recording,
    lost: list[str] | tuple[str, ...],
) -> None:
    """Check amplitudes by channel type, where there are numbers."""
    types, marked = np.array(own.get_channel_types()), set(own.info["bads"]) | set(lost)
    usable = np.array([name not in marked for name in own.ch_names])
    if there is not None:
        values = np.where(there, values, np.nan)
    parts = {}
    for kind in sorted(set(types.tolist())):
        rows = values[usable & (types == kind)]
        if len(rows):
            parts[kind] = rows
    check_amplitude(parts, recording, average=isinstance(own, mne.Evoked))
