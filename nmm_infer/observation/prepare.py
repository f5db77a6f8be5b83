"""From a recording to an observation."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import mne
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nmm_infer.anatomy import Head, HeadSettings, place_electrodes, template_head
from nmm_infer.anatomy.derivations import place_of
from nmm_infer.anatomy.settings import TEMPLATE
from nmm_infer.errors import InputError
from nmm_infer.observation.conditioning import line_harmonics, resample_at
from nmm_infer.observation.cutting import Windows, cut_windows, limits, quiet
from nmm_infer.observation.noise import (
    Noise,
    noise_from_baseline,
    noise_from_covariance,
    noise_from_level,
    widening,
)
from nmm_infer.observation.observation import Observation
from nmm_infer.observation.protocol import EvokedProtocol, Protocol, SpontaneousProtocol
from nmm_infer.observation.recording.channels import Chosen, find_candidates
from nmm_infer.observation.recording.events import Names, as_names, find_events
from nmm_infer.observation.recording.kinds import (
    Recording,
    check_recording,
    choose_kinds,
    source_name,
)
from nmm_infer.observation.recording.montages import set_montage
from nmm_infer.observation.recording.signals import condition
from nmm_infer.observation.recording.units import in_si

__all__ = ["observe"]

logger = logging.getLogger(__name__)

#: Level of the sensor noise of ongoing recordings, where no baseline tells it: V, T and T/m. Those
#: of MEG are of the order of MNE's ad hoc covariance (20 fT, 5 fT/cm).
SPONTANEOUS_NOISE = {"eeg": 2e-6, "mag": 20e-15, "grad": 5e-13}
FEW_TRIALS = 10  # an average of fewer says little, and a warning says so
_LEAST_BASELINE = 4  # samples
_WIDE = 1.1  # variance that is widened by more is worth a warning


def observe(
    recording: Recording,
    protocol: Protocol,
    *,
    events: Names | None = None,
    head: Head | HeadSettings | None = None,
    noise_cov: mne.Covariance | None = None,
    unit: str | None = None,
    montage: str | mne.channels.DigMontage | None = None,
) -> Observation:
    """Pass a recording through the protocol.

    Parameters
    ----------
    recording : mne.io.Raw, mne.Epochs or mne.Evoked
        EEG or MEG; it is not changed. Epochs and averages keep the filters they came with (their
        ``info["highpass"]`` and ``info["lowpass"]``) and simulations are given the same ones.
        Projectors (``info["projs"]``) act on data, lead field and noise alike, whether they were
        applied before or not.
    protocol : EvokedProtocol or SpontaneousProtocol
        The steps.
    events : str or sequence of str, optional
        Which events to average over, several pooled; needed for a Raw and an evoked protocol. How
        names are matched: :func:`nmm_infer.observation.recording.events.matching`. Of an Evoked,
        its comment.
    head : Head or HeadSettings, optional
        Forward model that covers the channels (for bipolar ones: their electrodes), or what the
        template head departs in; default: the template head.
    noise_cov : mne.Covariance, optional
        Noise covariance of one sample of a single trial; default: estimated from the baseline
        (evoked) or set to :data:`SPONTANEOUS_NOISE`.
    unit : str, optional
        Unit that the recording's numbers really have, where it is not the one that MNE took them
        for: "uV", "fT" and the like.
    montage : str or mne.channels.DigMontage, optional
        Where EEG channels are whose names do not tell; see
        :func:`~nmm_infer.observation.set_montage`.

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
    names = as_names(events)
    if names and not isinstance(protocol, EvokedProtocol):
        raise InputError(
            f"events {', '.join(map(repr, names))} were named, but the protocol is spontaneous: "
            "leave them out, or take an evoked protocol"
        )
    check_recording(recording)
    if unit is not None:
        recording = in_si(recording, unit)
    if montage is not None:
        recording = set_montage(recording, montage)
    used, steps = _prepare(
        recording, protocol, names, by_name=montage is None, needed=noise_cov is None
    )
    chosen = used.recording.info
    if isinstance(head, Head):
        head = _covering(head, used)
    else:
        settings = head or TEMPLATE
        head = template_head(used.placed, settings=settings, placed=used.electrodes is None)
    head = head.pick(chosen["ch_names"])
    info = _at_rate(chosen, protocol.sfreq, used.projs)
    data = xr.DataArray(
        steps.data,
        dims=("window", "channel", "time"),
        coords={
            "channel": chosen["ch_names"],
            "time": ("time", _window_times(protocol), {"units": "s"}),
        },
        attrs={"units": head.leadfield.attrs["units"].replace("/nAm", "")},
        name="sensors",
    )
    noise = _noise(steps, info, protocol, noise_cov, used)
    warned = (*used.warnings, *steps.warnings, *_of_little_noise(noise))
    for warning in warned:
        logger.warning(warning)
    return Observation(
        data=data,
        head=head,
        noise=noise,
        info=info,
        mask=np.isin(recording.ch_names, chosen["ch_names"]),
        n_averages=steps.n_averages,
        band=steps.band,
        notes=tuple(dict.fromkeys((*warned, *used.notes, *steps.notes, *head.notes))),
        source=source_name(recording),
        operator=used.operator,
        warnings=warned,
        protocol=protocol,
    )


def _covering(head: Head, used: Chosen) -> Head:
    """Look at a given head through bipolar channels, where it has their electrodes only."""
    names = used.recording.ch_names
    if used.electrodes is None or set(names) <= set(head.channels):
        return head
    own = {place: name for name in head.channels if (place := place_of(name)) is not None}
    missing = [name for name in used.electrodes.inputs if name not in own]
    if missing:
        raise InputError(
            f"The head has no electrode {missing[0]}, which bipolar channels of the recording need."
        )
    minus = replace(used.electrodes, inputs=tuple(own[name] for name in used.electrodes.inputs))
    return head.through(minus, used.recording.info)


def _at_rate(info: mne.Info, sfreq: float, projs: list[mne.Projection]) -> mne.Info:
    """Copy the channels, their places and projectors, with another sampling rate."""
    types = info.get_channel_types()
    bare = mne.create_info(list(info["ch_names"]), sfreq, types, verbose="error")
    with bare._unlock():
        bare["dev_head_t"] = info["dev_head_t"]
        for ours, theirs in zip(bare["chs"], info["chs"], strict=True):
            for key in ("loc", "coil_type", "coord_frame", "unit"):
                ours[key] = theirs[key]
        bare["dig"] = info["dig"]
        bare["comps"] = info["comps"]
        bare["projs"] = projs
    return bare


@dataclass(frozen=True, eq=False)
class _Steps:
    """What the protocol makes of the signals, before head and noise."""

    data: NDArray[np.float64]
    baseline: NDArray[np.float64] | None
    n_averages: int
    baseline_averages: int
    band: tuple[float, float]
    notes: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def _prepare(
    recording: Recording,
    protocol: Protocol,
    names: tuple[str, ...],
    *,
    by_name: bool,
    needed: bool,
) -> tuple[Chosen, _Steps]:
    """Do everything that needs no head; what is wrong with a recording is found here.

    A baseline is `needed` where nothing else tells the noise.
    """
    found = None
    if isinstance(protocol, EvokedProtocol) and isinstance(recording, mne.io.BaseRaw):
        if not names:
            raise InputError("an evoked protocol needs the name of the events to average over")
        found = find_events(recording, names)
    if isinstance(protocol, SpontaneousProtocol):
        _check_duration(recording, protocol)
    sfreq = recording.info["sfreq"]
    if protocol.h_freq >= sfreq / 2:
        raise InputError(
            f"h_freq is {protocol.h_freq} Hz, but the recording is sampled at {sfreq:g} Hz: lower "
            f"h_freq below {sfreq / 2:g} Hz"
        )
    candidates = find_candidates(recording, choose_kinds(recording, protocol.sensors))
    if not candidates.names:
        raise InputError("no channel of the recording can be used. " + " ".join(candidates.notes))
    signals = condition(recording, protocol, candidates, found, names)
    windows = cut_windows(signals, protocol, candidates, by_name=by_name)
    if isinstance(protocol, EvokedProtocol):
        steps = _evoked(recording, windows, protocol, signals.around, needed)
    else:
        steps = _spontaneous(recording, windows, protocol)
    return windows.used, replace(steps, notes=(*signals.notes, *steps.notes))


def _check_duration(recording: Recording, protocol: SpontaneousProtocol) -> None:
    if isinstance(recording, mne.Evoked):
        raise InputError("an average holds no spontaneous activity: name its study or events")
    lasts = recording.times[-1] - recording.times[0]
    if isinstance(recording, mne.io.BaseRaw):
        needed = protocol.n_windows * protocol.window
        if lasts < needed:
            raise InputError(f"the recording lasts {lasts:.1f} s, the protocol needs {needed:g} s")
    elif lasts < protocol.window - 1 / protocol.sfreq:
        raise InputError(f"the epochs are shorter than the window of {protocol.window:g} s")


def _window_times(protocol: Protocol) -> NDArray[np.float64]:
    n = len(protocol.times) // protocol.n_windows
    return protocol.times[:n]


def _band(windows: Windows, protocol: Protocol) -> tuple[float, float]:
    """Pass band of the data, filters of the recorder and of earlier processing included."""
    info = windows.used.recording.info
    return float(info["highpass"]), min(protocol.h_freq, info["lowpass"])


def _evoked(
    recording: Recording, windows: Windows, protocol: EvokedProtocol, around: str, needed: bool
) -> _Steps:
    """Average, and take the baseline for the noise; `needed` where nothing else tells it."""
    cut_here = isinstance(recording, mne.io.BaseRaw)
    kept = windows.rejection.kept
    trials, sfreq = windows.values[kept], windows.sfreq
    averages = recording.nave if isinstance(recording, mne.Evoked) else len(trials)
    if averages < 1:
        raise InputError(f"nave of the average is {averages:g}: set it to the number of trials")
    first, last = protocol.times[0], protocol.times[-1]
    if windows.start > first + 1 / sfreq or windows.stop < last - 1 / sfreq:
        raise InputError(
            f"the epochs span {windows.start:.3f} to {windows.stop:.3f} s, the protocol needs "
            f"{first:.3f} to {last:.3f} s: cut longer epochs or shorten tmin and tmax"
        )
    notes: list[str] = []
    if not isinstance(recording, mne.Evoked):
        total = windows.rejection.total
        why = windows.rejection.why()
        if cut_here or why:
            left_out = f" Left out: {why}." if why else ""
            notes.append(f"Averaged {averages} of {total} epochs around {around}.{left_out}")
    if not cut_here:
        high_pass = _band(windows, protocol)[0]
        notes.append(f"Epochs and averages keep their own high-pass filter ({high_pass:g} Hz).")
    notes += _without_notch(recording, protocol)
    warned = list(windows.warnings)
    if averages < FEW_TRIALS:
        trials_ = "1 trial was" if averages == 1 else f"{averages:g} trials were"
        warned.append(
            f"Only {trials_} averaged: fewer than {FEW_TRIALS} leave much noise in an "
            "average, and every estimate is less sure."
        )
    average = resample_at(trials.mean(axis=0), sfreq, windows.start, protocol.times)
    average -= average[:, protocol.in_baseline].mean(axis=1, keepdims=True)
    baseline = _baseline(recording, windows, trials, protocol, needed)
    return _Steps(
        average[None], baseline, int(averages),
        1 if isinstance(recording, mne.Evoked) else int(averages), _band(windows, protocol),
        tuple(notes), tuple(warned),
    )  # fmt: skip


def _baseline(
    recording: Recording,
    windows: Windows,
    trials: NDArray[np.float64],
    protocol: EvokedProtocol,
    needed: bool,
) -> NDArray[np.float64] | None:
    """Stretches before the event, (segment, channel, time); None if too short and not needed."""
    step = 1 / protocol.sfreq
    early = max(windows.start, -protocol.noise_window)
    times = np.asarray(np.arange(np.ceil(early / step - 1e-9), 1) * step, np.float64)
    if len(times) < _LEAST_BASELINE:
        if not needed:
            return None
        raise InputError(
            f"the epochs begin {windows.start:.3f} s from the event: noise needs a longer "
            "baseline; cut longer epochs, or give a noise covariance (noise_cov=)"
        )
    baseline = resample_at(trials, windows.sfreq, windows.start, times)
    if isinstance(recording, mne.Evoked):
        return baseline
    types = windows.used.recording.get_channel_types()
    still = quiet(baseline, types, protocol).all(axis=1)
    if still.any():
        return np.asarray(baseline[still])
    if not needed:
        return None
    raise InputError(
        f"no stretch before the events stays below {limits(protocol, set(types))}, so noise cannot "
        "be estimated: raise `reject` in the protocol, or give a noise covariance (noise_cov=)"
    )


def _spontaneous(recording: Recording, windows: Windows, protocol: SpontaneousProtocol) -> _Steps:
    """Take the middle of the usable windows."""
    length = round(protocol.window * protocol.sfreq)
    values = windows.values[windows.rejection.kept]
    total, why = windows.rejection.total, windows.rejection.why()
    if len(values) < protocol.n_windows:
        kinds = set(windows.used.recording.get_channel_types())
        raise InputError(
            f"only {len(values)} of {total} windows are usable, {protocol.n_windows} are needed: "
            f"{why or 'there are no more'} (limit {limits(protocol, kinds)}); raise "
            "`reject` in the protocol, or mark bad channels"
        )
    resampled = resample_at(values, windows.sfreq, 0.0, np.arange(length) / protocol.sfreq)
    # Away from the beginning and the end of a recording.
    begin = (len(resampled) - protocol.n_windows) // 2
    notes = (
        f"Used {protocol.n_windows} of {total} windows of {protocol.window:g} s "
        f"({total - len(values)} rejected{f': {why}' if why else ''}).",
        *_without_notch(recording, protocol),
    )
    return _Steps(
        resampled[begin : begin + protocol.n_windows], None, 1, 1, _band(windows, protocol),
        notes, windows.warnings,
    )  # fmt: skip


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


def _noise(
    steps: _Steps,
    info: mne.Info,
    protocol: Protocol,
    noise_cov: mne.Covariance | None,
    used: Chosen,
) -> Noise:
    """Noise of the data: from the baseline, of a level, or between channels as given."""
    n_lags, operator = len(_window_times(protocol)), used.operator
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
        low = max(steps.band[0], protocol.l_freq) or 1.0 / n_lags * protocol.sfreq
        band = (low, min(steps.band[1], protocol.sfreq / 2))
        noise = _of_level(info, used, n_lags, protocol.sfreq, band).through(operator)
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


def _of_level(
    info: mne.Info, used: Chosen, n_lags: int, sfreq: float, band: tuple[float, float]
) -> Noise:
    """Noise of an assumed level; that of bipolar channels comes from their electrodes."""
    if used.electrodes is None:
        return noise_from_level(info, SPONTANEOUS_NOISE, n_lags, sfreq, band)
    single = mne.create_info(list(used.electrodes.inputs), sfreq, "eeg", verbose="error")
    single.set_montage(place_electrodes(single).montage, verbose="error")
    noise = noise_from_level(single, SPONTANEOUS_NOISE, n_lags, sfreq, band)
    return noise.through(used.electrodes)


def _of_little_noise(noise: Noise) -> tuple[str, ...]:
    """Warn of noise that few samples tell."""
    if noise.samples is None or widening(noise.samples) < _WIDE:
        return ()
    return (
        f"The noise is estimated from about {noise.samples:.0f} independent samples of a short "
        f"baseline: its variance is widened by a factor of {widening(noise.samples):.2f}. A longer "
        "baseline, or a noise covariance (noise_cov=), makes it more certain.",
    )
