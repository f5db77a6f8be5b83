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
    windows = _cut(signals, protocol, _choose(signals, protocol, candidates, {}, by_name))
    costly = costly_channels(windows.rejection)
    if costly:
        why = (
            f"in more than a third of the {_noun(protocol)} it alone is beyond the limit "
            f"({limits(protocol, candidates.kinds)}) or not recorded"
        )
        used = _choose(signals, protocol, candidates, {why: costly}, by_name)
        windows = _cut(signals, protocol, used)
    return _judged(windows, signals, protocol)


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


def _cut(signals: Signals, protocol: Protocol, used: Chosen) -> Windows:
    recording = used.recording
    channels, types = tuple(recording.ch_names), recording.get_channel_types()
    sfreq = float(recording.info["sfreq"])
    if isinstance(recording, mne.Evoked):
        none = np.zeros((1, len(channels)), bool)
        return Windows(
            recording.data[np.newaxis], recording.times[0], recording.times[-1], sfreq,
            Rejection(none, none, channels), used,
        )  # fmt: skip
    evoked = isinstance(protocol, EvokedProtocol)
    if isinstance(recording, mne.io.BaseRaw):
        epochs = _epochs(recording, signals, protocol)
        total = len(epochs.drop_log)
        starts = epochs.events[:, 0] - recording.first_samp + round(epochs.tmin * sfreq)
        assert signals.gaps is not None
        missing = signals.gaps.touched(list(channels), starts, len(epochs.times))
        values = np.asarray(epochs.get_data(), dtype=float)
        inside = slice(None)
        if evoked:
            inside = slice(*np.searchsorted(epochs.times, _ends(protocol, sfreq)))
        large = ~quiet(values[..., inside], types, protocol)
    else:
        epochs, total = recording, len(recording)
        values = np.asarray(recording.get_data(), dtype=float)
        assert signals.missing is not None
        rows = [signals.recording.ch_names.index(name) for name in channels]
        missing = signals.missing[:, rows]
        # Epochs that a person has cut are a person's choice.
        large = np.zeros_like(missing) if evoked else ~quiet(values, types, protocol)
    spans = total - len(epochs)
    return Windows(
        values, float(epochs.times[0]), float(epochs.times[-1]), sfreq,
        Rejection(large & ~missing, missing, channels, spans), used,
    )  # fmt: skip


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
