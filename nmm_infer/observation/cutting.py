"""From filtered signals to the windows that the protocol reads, and what they cost."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import mne
import numpy as np
from numpy.typing import NDArray

from nmm_infer.errors import InputError
from nmm_infer.observation.protocol import EvokedProtocol, Protocol
from nmm_infer.observation.recording.channels import Candidates, Chosen, choose_channels
from nmm_infer.observation.recording.kinds import Recording
from nmm_infer.observation.recording.rejection import Rejection, costly_channels
from nmm_infer.observation.recording.signals import Signals

__all__ = ["Windows", "cut_windows", "limits", "quiet"]

_FLAWED = 0.5  # share of lost windows above which the channels that cost them are named


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows of the channels that are used.

    Parameters
    ----------
    values : numpy.ndarray, shape (window, channel, time)
        After filter and operator; one window for an average.
    start, stop, sfreq : float
        Times of the first and the last sample, s from the event, and the rate in Hz.
    rejection : Rejection
        What was left out.
    used : Chosen
        The channels.
    warnings : tuple of str
        What the user should see before anything else.
    """

    values: NDArray[np.float64]
    start: float
    stop: float
    sfreq: float
    rejection: Rejection
    used: Chosen
    warnings: tuple[str, ...] = ()


def cut_windows(
    signals: Signals, protocol: Protocol, candidates: Candidates, *, by_name: bool
) -> Windows:
    """Choose channels and cut windows; channels that cost too many windows are left out.

    Parameters
    ----------
    signals : Signals
        Filtered.
    protocol : EvokedProtocol or SpontaneousProtocol
        Which windows, and the limit.
    candidates : Candidates
        See :func:`choose_channels`.
    by_name : bool
        See :func:`nmm_infer.anatomy.place_electrodes`.

    Returns
    -------
    Windows
        At least one.

    Raises
    ------
    InputError
        If none is usable; the message names the channels that cost them, if they are few.
    """
    average = isinstance(signals.recording, mne.Evoked)
    limit = limits(protocol, candidates.kinds)
    where = f"in more than a third of the {_noun(protocol)} it alone"
    why = f"{where} is beyond the limit ({limit}) or not recorded"
    if average:
        why = f"in the average it is beyond the limit ({limit})"
    # Before any map of the sensors, which would carry a broken channel into the others.
    costly = costly_channels(_first_look(signals, protocol, candidates))
    used = _choose(signals, protocol, candidates, {why: costly}, by_name)
    windows = _cut(signals, protocol, used)
    more = [name for name in costly_channels(windows.rejection) if name not in costly]
    if more:
        used = _choose(signals, protocol, candidates, {why: [*costly, *more]}, by_name)
        windows = _cut(signals, protocol, used)
    return _judged(windows, signals, protocol)


def _first_look(signals: Signals, protocol: Protocol, candidates: Candidates) -> Rejection:
    """Find where single channels are beyond the limit, as recorded.

    Referential EEG is referenced to the median of its channels, which a few broken ones do not
    move.
    """
    recording = signals.recording
    gone = set(recording.info["bads"]).union(*signals.unfit.values())
    names = [name for name in candidates.names if name not in gone]
    rows = [recording.ch_names.index(name) for name in names]
    types = [recording.get_channel_types()[row] for row in rows]
    cut = _all_windows(signals, protocol)
    values, missing = cut.values[:, rows], cut.missing[:, rows]
    if candidates.kinds == ("eeg",) and not candidates.bipolar and len(rows):
        values = values - np.median(values, axis=1, keepdims=True)
    large = ~quiet(values[..., cut.inside], types, protocol)
    return Rejection(large & ~missing, missing, tuple(names), cut.spans)


def limits(protocol: Protocol, kinds: Collection[str]) -> str:
    """Say beyond which peak-to-peak values of some channel types a window is left out."""
    if "eeg" in kinds:
        return f"{protocol.reject:g} uV" if protocol.reject is not None else "none"
    return f"{protocol.reject_meg:g} fT, fT/cm" if protocol.reject_meg is not None else "none"


def quiet(values: NDArray[np.float64], types: list[str], protocol: Protocol) -> NDArray[np.bool_]:
    """Tell which channels stay below the protocol's limits.

    Parameters
    ----------
    values : numpy.ndarray, shape (window, channel, time)
        Signals.
    types : list of str
        Channel types.
    protocol : EvokedProtocol or SpontaneousProtocol
        Limits.

    Returns
    -------
    numpy.ndarray of bool, shape (window, channel)
    """
    limit = np.array([protocol.thresholds.get(kind, np.inf) for kind in types])
    return np.asarray(np.ptp(values, axis=-1) <= limit)


def _noun(protocol: Protocol) -> str:
    return "epochs" if isinstance(protocol, EvokedProtocol) else "windows"


def _choose(
    signals: Signals,
    protocol: Protocol,
    candidates: Candidates,
    costly: Mapping[str, list[str]],
    by_name: bool,
) -> Chosen:
    return choose_channels(
        signals.recording,
        candidates,
        recorded=signals.recorded,
        bads=protocol.bads,
        to=protocol.reference,
        unfit={**signals.unfit, **costly},
        by_name=by_name,
    )


@dataclass(frozen=True, eq=False)
class _All:
    """Windows of all channels of a recording."""

    values: NDArray[np.float64]
    missing: NDArray[np.bool_]
    times: NDArray[np.float64]
    inside: slice
    spans: int


def _all_windows(signals: Signals, protocol: Protocol, recording: Recording | None = None) -> _All:
    """Cut windows of the signals, or of what a map has made of them."""
    recording = signals.recording if recording is None else recording
    rows = [signals.recording.ch_names.index(name) for name in recording.ch_names]
    evoked = isinstance(protocol, EvokedProtocol)
    spans = 0
    if isinstance(recording, mne.Evoked):
        values, times = recording.data[np.newaxis], recording.times
        missing = np.zeros((1, len(rows)), bool)
    elif isinstance(recording, mne.io.BaseRaw):
        sfreq = recording.info["sfreq"]
        epochs = _epochs(recording, signals, protocol)
        values, times = np.asarray(epochs.get_data(), dtype=float), epochs.times
        starts = epochs.events[:, 0] - recording.first_samp + round(epochs.tmin * sfreq)
        assert signals.gaps is not None
        missing = signals.gaps.touched(list(recording.ch_names), starts, len(times))
        spans = len(epochs.drop_log) - len(epochs)
    else:
        values, times = np.asarray(recording.get_data(), dtype=float), recording.times
        assert signals.missing is not None
        missing = signals.missing[:, rows]
    inside = slice(None)
    if evoked:
        inside = slice(*np.searchsorted(times, _ends(protocol, recording.info["sfreq"])))
    return _All(values, missing, times, inside, spans)


def _cut(signals: Signals, protocol: Protocol, used: Chosen) -> Windows:
    recording = used.recording
    cut = _all_windows(signals, protocol, recording)
    types = recording.get_channel_types()
    large = ~quiet(cut.values[..., cut.inside], types, protocol)
    if isinstance(protocol, EvokedProtocol) and not isinstance(recording, mne.io.BaseRaw):
        large[:] = False  # what a person has cut or averaged is a person's choice
    # Of interpolated channels nothing is read.
    missing = cut.missing & np.isin(recording.ch_names, used.operator.inputs)
    rejection = Rejection(large & ~missing, missing, tuple(recording.ch_names), cut.spans)
    start, stop = float(cut.times[0]), float(cut.times[-1])
    return Windows(cut.values, start, stop, float(recording.info["sfreq"]), rejection, used)


def _ends(protocol: Protocol, sfreq: float) -> tuple[float, float]:
    """First time of the window, and what is just after its last."""
    slack = 0.5 / sfreq
    return float(protocol.times[0]) - slack, float(protocol.times[-1]) + slack


def _epochs(raw: mne.io.BaseRaw, signals: Signals, protocol: Protocol) -> mne.BaseEpochs:
    """Cut a raw recording; what touches a bad span or an end is left out."""
    sfreq = raw.info["sfreq"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        if not isinstance(protocol, EvokedProtocol):
            return mne.make_fixed_length_epochs(
                raw, protocol.window + 1 / sfreq, preload=True, proj=False, verbose="error"
            )
        assert signals.events is not None
        margin = 3 / sfreq  # for the interpolation
        return mne.Epochs(
            raw,
            signals.events.array,
            tmin=min(protocol.times[0], -protocol.noise_window) - margin,
            tmax=protocol.times[-1] + margin,
            baseline=None,
            proj=False,
            preload=True,
            verbose="error",
        )


def _judged(windows: Windows, signals: Signals, protocol: Protocol) -> Windows:
    """Refuse what is left if that is nothing, and name channels that cost more than half."""
    rejection, noun = windows.rejection, _noun(protocol)
    kept, total = int(rejection.kept.sum()), rejection.total
    culprits = rejection.culprits()
    advice = ""
    if culprits:
        advice = (
            f"{', '.join(culprits)} cost{'s' if len(culprits) == 1 else ''} most of them: mark "
            f"{'it' if len(culprits) == 1 else 'them'} bad (raw.info['bads']), or raise `reject` "
            "in the protocol"
        )
    around = f" around {signals.around}" if signals.around else ""
    if not kept:
        raise InputError(
            f"none of the {total} {noun}{around} is usable: {rejection.why() or 'there are none'}; "
            + (advice or "raise `reject` in the protocol or choose other events")
        )
    if kept < (1 - _FLAWED) * total:
        warning = f"Only {kept} of {total} {noun} are usable: {rejection.why()}."
        return replace(windows, warnings=(f"{warning} {advice}." if advice else warning,))
    return windows
