"""From a recording to an observation."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import mne
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nmm_infer.anatomy import Head, HeadSettings, SensorOperator, template_head
from nmm_infer.anatomy.settings import TEMPLATE
from nmm_infer.errors import InputError
from nmm_infer.observation.channels import choose_channels
from nmm_infer.observation.conditioning import bandpass, line_harmonics, resample_at
from nmm_infer.observation.noise import (
    Noise,
    noise_from_baseline,
    noise_from_covariance,
    noise_from_level,
)
from nmm_infer.observation.observation import Observation
from nmm_infer.observation.protocol import EvokedProtocol, Protocol, SpontaneousProtocol
from nmm_infer.observation.readers import find_events

__all__ = ["Recording", "observe"]

logger = logging.getLogger(__name__)

Recording: TypeAlias = mne.io.BaseRaw | mne.BaseEpochs | mne.Evoked

#: Level of the sensor noise of ongoing recordings, where no baseline tells it: V, T and T/m. Those
#: of MEG are of the order of MNE's ad hoc covariance (20 fT, 5 fT/cm).
SPONTANEOUS_NOISE = {"eeg": 2e-6, "mag": 20e-15, "grad": 5e-13}


def observe(
    recording: Recording,
    protocol: Protocol,
    *,
    events: str | None = None,
    head: Head | HeadSettings | None = None,
    noise_cov: mne.Covariance | None = None,
) -> Observation:
    """Pass a recording through the protocol.

    Parameters
    ----------
    recording : mne.io.Raw, mne.Epochs or mne.Evoked
        EEG; it is not changed. Epochs and averages keep the filters they came with (their
        ``info["highpass"]`` and ``info["lowpass"]``) and simulations are given the same ones.
    protocol : EvokedProtocol or SpontaneousProtocol
        The steps.
    events : str, optional
        Which events to average over; needed for a Raw and an evoked protocol. Of an Evoked, its
        comment.
    head : Head or HeadSettings, optional
        Forward model that covers the channels, or what the template head departs in; the template
        head without.
    noise_cov : mne.Covariance, optional
        Noise covariance of one sample of a single trial; without, it is estimated from the
        baseline (evoked) or set to :data:`SPONTANEOUS_NOISE`.

    Returns
    -------
    Observation
        Data, forward model, noise and notes.

    Raises
    ------
    InputError
        If the recording cannot go through the protocol; the message says why.
    """
    if head is not None and not isinstance(head, Head | HeadSettings):
        raise InputError(f"head is {head!r}: give a Head, HeadSettings, or nothing")
    if events is not None and not isinstance(protocol, EvokedProtocol):
        raise InputError(
            f"events {events!r} were named, but the protocol is spontaneous: leave them out, or "
            "take an evoked protocol"
        )
    found = None
    if isinstance(protocol, EvokedProtocol) and isinstance(recording, mne.io.BaseRaw):
        if events is None:
            raise InputError("an evoked protocol needs the name of the events to average over")
        found = find_events(recording, events)
    used = choose_channels(
        recording, sensors=protocol.sensors, bads=protocol.bads, to=protocol.reference
    )
    chosen, notes = used.recording, used.notes
    mask = np.isin(recording.ch_names, chosen.ch_names)
    if protocol.h_freq >= chosen.info["sfreq"] / 2:
        raise InputError(
            f"h_freq is {protocol.h_freq} Hz, but the recording is sampled at "
            f"{chosen.info['sfreq']:g} Hz: lower h_freq below {chosen.info['sfreq'] / 2:g} Hz"
        )
    if isinstance(protocol, EvokedProtocol):
        steps = _evoked(chosen, protocol, events, found)
    else:
        steps = _spontaneous(chosen, protocol)
    if not isinstance(head, Head):
        head = template_head(used.placed, settings=head or TEMPLATE)
    head = head.pick(chosen.ch_names)
    info = _at_rate(chosen.info, protocol.sfreq)
    data = xr.DataArray(
        steps.data,
        dims=("window", "channel", "time"),
        coords={
            "channel": chosen.ch_names,
            "time": ("time", _window_times(protocol), {"units": "s"}),
        },
        attrs={"units": head.leadfield.attrs["units"].replace("/nAm", "")},
        name="sensors",
    )
    noise = _noise(steps, info, protocol, noise_cov, used.operator)
    return Observation(
        data, head, noise, info, mask, steps.n_averages, steps.band,
        tuple(dict.fromkeys((*notes, *steps.notes, *head.notes))),
        _source(recording), used.operator,
    )  # fmt: skip


def _at_rate(info: mne.Info, sfreq: float) -> mne.Info:
    """Copy the channels and their places, with another sampling rate and nothing else."""
    types = info.get_channel_types()
    bare = mne.create_info(list(info["ch_names"]), sfreq, types, verbose="error")
    with bare._unlock():
        bare["dev_head_t"] = info["dev_head_t"]
        for ours, theirs in zip(bare["chs"], info["chs"], strict=True):
            for key in ("loc", "coil_type", "coord_frame", "unit"):
                ours[key] = theirs[key]
        bare["dig"] = info["dig"]
    return bare


@dataclass(frozen=True, eq=False)
class _Steps:
    data: NDArray[np.float64]
    baseline: NDArray[np.float64] | None
    n_averages: int
    baseline_averages: int
    band: tuple[float, float]
    notes: tuple[str, ...]


def _source(recording: Recording) -> str:
    """Name of the file that a recording came from; an average tells its comment."""
    if isinstance(recording, mne.Evoked):
        return str(recording.comment or "")
    files = recording.filenames if isinstance(recording, mne.io.BaseRaw) else [recording.filename]
    if not files or not files[0]:
        return ""
    path = Path(files[0])
    header = {".fdt": ".set", ".eeg": ".vhdr"}  # MNE names the data beside the header
    return path.with_suffix(header.get(path.suffix, path.suffix)).name


def _window_times(protocol: Protocol) -> NDArray[np.float64]:
    n = len(protocol.times) // protocol.n_windows
    return protocol.times[:n]


def _band(recording: Recording, protocol: Protocol) -> tuple[float, float]:
    """Pass band of the data, filters of the recorder and of earlier processing included."""
    return float(recording.info["highpass"]), min(protocol.h_freq, recording.info["lowpass"])


def _evoked(
    recording: Recording,
    protocol: EvokedProtocol,
    events: str | None,
    found_events: tuple[NDArray[np.int64], dict[str, int]] | None,
) -> _Steps:
    notes: list[str] = []
    # One sample more on each side, for the interpolation.
    first, last = protocol.times[0], protocol.times[-1]
    if isinstance(recording, mne.io.BaseRaw):
        assert found_events is not None and events is not None
        found, event_id = found_events
        _filter(recording, protocol)
        margin = 3 / recording.info["sfreq"]
        present = set(recording.get_channel_types())
        reject = {k: v for k, v in protocol.thresholds.items() if k in present} or None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            epochs = mne.Epochs(
                recording,
                found,
                event_id,
                tmin=min(first, -protocol.noise_window) - margin,
                tmax=last + margin,
                baseline=None,
                preload=True,
                reject=reject,
                reject_tmin=first,
                reject_tmax=last,
                verbose="error",
            )
        total = int((found[:, 2] == event_id[events]).sum())
        if len(epochs) == 0:
            raise InputError(
                f"none of the {total} epochs around {events!r} is usable: {_why(epochs)}; "
                "raise `reject` in the protocol or choose other events"
            )
        notes.append(f"Averaged {len(epochs)} of {total} epochs around {events!r}.")
        if len(epochs) < total:
            notes[-1] += f" Left out: {_why(epochs)}."
    else:
        if isinstance(recording, mne.BaseEpochs) and events is not None:
            if events not in recording.event_id:
                raise InputError(
                    f"no event {events!r} in the epochs; present: {', '.join(recording.event_id)}"
                )
            recording = recording[events]
        elif events is not None and events != recording.comment:
            raise InputError(
                f"the average is of {recording.comment!r}, not of {events!r}: leave events out, or "
                "give another average"
            )
        epochs = recording
    band = _band(recording, protocol)
    averages = epochs.nave if isinstance(epochs, mne.Evoked) else len(epochs)
    if averages < 1:
        raise InputError(f"nave of the average is {averages:g}: set it to the number of trials")
    trials = epochs.data[None] if isinstance(epochs, mne.Evoked) else epochs.get_data()
    sfreq, start, stop = epochs.info["sfreq"], epochs.times[0], epochs.times[-1]
    tolerance = 1 / sfreq
    if start > first + tolerance or stop < last - tolerance:
        raise InputError(
            f"the epochs span {start:.3f} to {stop:.3f} s, the protocol needs {first:.3f} to "
            f"{last:.3f} s: cut longer epochs or shorten tmin and tmax"
        )
    if not isinstance(recording, mne.io.BaseRaw):
        trials = bandpass(trials, sfreq, None, protocol.h_freq)
        notes.append(f"Epochs and averages keep their own high-pass filter ({band[0]:g} Hz).")
    notes += _without_notch(recording, protocol)
    step = 1 / protocol.sfreq
    early = max(start, -protocol.noise_window)
    baseline_times = np.arange(np.ceil(early / step - 1e-9), 1) * step
    if len(baseline_times) < 4:
        raise InputError(
            f"the epochs begin {start:.3f} s from the event: noise needs a longer baseline"
        )
    baseline = resample_at(trials, sfreq, start, baseline_times)
    quiet = np.ones(len(baseline), dtype=bool)
    if not isinstance(epochs, mne.Evoked):
        quiet = _quiet(baseline, epochs.get_channel_types(), protocol)
    if not quiet.any():
        raise InputError(
            f"no stretch before the events stays below the limit of {_limits(protocol)}, so noise "
            "cannot be estimated: raise `reject` in the protocol, or give a noise covariance"
        )
    baseline = baseline[quiet]
    average = resample_at(trials.mean(axis=0), sfreq, start, protocol.times)
    average -= average[:, protocol.in_baseline].mean(axis=1, keepdims=True)
    return _Steps(
        average[None], baseline, int(averages),
        1 if isinstance(epochs, mne.Evoked) else int(averages), band, tuple(notes),
    )  # fmt: skip


def _why(epochs: mne.BaseEpochs) -> str:
    reasons = [r for log in epochs.drop_log for r in log[:1] if r != "IGNORED"]
    counts = {r: reasons.count(r) for r in sorted(set(reasons), key=reasons.count, reverse=True)}
    return ", ".join(f"{count} by {reason}" for reason, count in list(counts.items())[:4])


def _spontaneous(recording: Recording, protocol: SpontaneousProtocol) -> _Steps:
    if isinstance(recording, mne.Evoked):
        raise InputError("an average holds no spontaneous activity: name its study or events")
    length = round(protocol.window * protocol.sfreq)
    if isinstance(recording, mne.io.BaseRaw):
        _filter(recording, protocol)
        sfreq = recording.info["sfreq"]
        needed = protocol.n_windows * protocol.window
        if recording.times[-1] < needed:
            raise InputError(
                f"the recording lasts {recording.times[-1]:.1f} s, the protocol needs {needed:g} s"
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            epochs = mne.make_fixed_length_epochs(
                recording, protocol.window + 1 / sfreq, preload=True, verbose="error"
            )
    else:
        epochs = recording
        if epochs.times[-1] - epochs.times[0] < protocol.window - 1 / protocol.sfreq:
            raise InputError(f"the epochs are shorter than the window of {protocol.window:g} s")
    values = epochs.get_data()
    sfreq = epochs.info["sfreq"]
    if not isinstance(recording, mne.io.BaseRaw):
        values = bandpass(values, sfreq, None, protocol.h_freq)
    values = values[_quiet(values, epochs.get_channel_types(), protocol)]
    if len(values) < protocol.n_windows:
        raise InputError(
            f"only {len(values)} of {len(epochs)} windows stay below the limit of "
            f"{_limits(protocol)}, {protocol.n_windows} are needed: raise `reject` in the protocol"
        )
    windows = resample_at(values, sfreq, 0.0, np.arange(length) / protocol.sfreq)
    # The middle of the usable windows: away from the beginning and the end of a recording.
    begin = (len(windows) - protocol.n_windows) // 2
    band = _band(recording, protocol)
    notes = (
        f"Used {protocol.n_windows} of {len(epochs)} windows of {protocol.window:g} s "
        f"({len(epochs) - len(values)} rejected).",
        *_without_notch(recording, protocol),
    )
    return _Steps(windows[begin : begin + protocol.n_windows], None, 1, 1, band, notes)


def _filter(recording: mne.io.BaseRaw, protocol: Protocol) -> None:
    """Filter a loaded recording in place."""
    lines = line_harmonics(protocol.notch, recording.info["sfreq"])
    if len(lines):
        recording.notch_filter(lines, verbose="error")
    recording.filter(protocol.l_freq or None, protocol.h_freq, verbose="error")


def _without_notch(recording: Recording, protocol: Protocol) -> list[str]:
    """Say why the notch filter was not applied, if it was not."""
    sfreq = recording.info["sfreq"]
    if protocol.notch is None:
        return []
    if not isinstance(recording, mne.io.BaseRaw):
        why = "epochs and averages are too short for it; filter before cutting them"
    elif not len(line_harmonics(protocol.notch, sfreq)):
        why = f"the recording is sampled at {sfreq:g} Hz"
    else:
        return []
    return [f"No notch filter of {protocol.notch:g} Hz was applied: {why}."]


def _quiet(values: NDArray[np.float64], types: list[str], protocol: Protocol) -> NDArray[np.bool_]:
    """Which windows stay below the protocol's thresholds; values (window, channel, time)."""
    limit = np.array([protocol.thresholds.get(kind, np.inf) for kind in types])
    return np.asarray((np.ptp(values, axis=-1) <= limit).all(axis=-1))


def _limits(protocol: Protocol) -> str:
    return f"{protocol.reject} uV (EEG) or {protocol.reject_meg} fT, fT/cm (MEG)"


def _noise(
    steps: _Steps,
    info: mne.Info,
    protocol: Protocol,
    noise_cov: mne.Covariance | None,
    operator: SensorOperator,
) -> Noise:
    n_lags = len(_window_times(protocol))
    if steps.baseline is not None:
        good = [info.ch_names.index(name) for name in operator.inputs]
        noise = noise_from_baseline(
            steps.baseline[:, good],
            mne.pick_info(info, good, copy=True, verbose="error"),
            steps.baseline_averages,
            n_lags,
            operator,
        )
    else:
        band = (max(steps.band[0], protocol.l_freq), steps.band[1])
        noise = noise_from_level(info, SPONTANEOUS_NOISE, n_lags, protocol.sfreq, band)
        noise = noise.through(operator)
    if noise_cov is None:
        return noise
    given = noise_from_covariance(
        noise_cov,
        info,
        n_lags,
        autocorrelation=noise.autocorrelation,
        n_averages=steps.n_averages,
    )
    return given.through(operator)
