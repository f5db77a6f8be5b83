"""Amplitudes: in which unit they are, and whether any brain could have them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import mne
import numpy as np
from numpy.typing import NDArray

from nmm_infer.errors import InputError
from nmm_infer.observation.recording.kinds import Recording, loaded

__all__ = ["check_amplitude", "in_si", "to_si"]

_PREFIXES = {
    **{"f": 1e-15, "p": 1e-12, "n": 1e-9, "u": 1e-6, "m": 1e-3},
    **{"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9},
}
_UNIT = re.compile(r"^([fpnumkMG]?)(V|T)$")
_PER_LENGTH = re.compile(r"^([fpnumkMG]?)T/(m|cm)$")
_NAMES = {"eeg": "EEG", "mag": "magnetometer", "grad": "gradiometer"}
_WHAT = {"eeg": "V", "mag": "T", "grad": "T/m"}


@dataclass(frozen=True)
class _Range:
    """Standard deviations that the middle one of many channels can have, in V, T or T/m."""

    least: float
    most: float


#: The choice of this package: about a factor of a hundred around what is usual in single trials
#: (EEG of some tens of uV, MEG of some hundreds of fT), so that slow waves, seizures and averages
#: of thousands of trials pass, and a factor of a thousand does not.
_SINGLE = {
    "eeg": _Range(5e-8, 1e-3),
    "mag": _Range(1e-15, 5e-11),
    "grad": _Range(2e-14, 5e-10),
}
_AVERAGE = {
    "eeg": _Range(1e-8, 1e-4),
    "mag": _Range(1e-16, 5e-12),
    "grad": _Range(1e-15, 5e-11),
}

_AGAIN = {
    "k": " (divided by 1,000 once too often)",
    "M": " (divided by 1,000,000 once too often)",
    "G": " (divided by 1e9 once too often)",
}
_FARTHEST = 17.0  # powers of ten: no unit is farther from another
_ENOUGH = 20_000  # samples that tell an amplitude


def to_si(unit: str, kind: str = "eeg") -> float:
    """Return what numbers in a unit are multiplied by to be in V, T or T/m.

    Parameters
    ----------
    unit : str
        "V" or "T" with a prefix ("uV", "mV", "fT"); "fT/cm" and the like for gradiometers, which
        also take "fT" for fT/cm.
    kind : {"eeg", "mag", "grad"}
        Type of the channel.

    Returns
    -------
    float

    Raises
    ------
    InputError
        If this is not a unit of such channels.
    """
    plain = unit.strip().replace("µ", "u").replace("μ", "u") if isinstance(unit, str) else ""
    found, gradient = _UNIT.match(plain), _PER_LENGTH.match(plain)
    if kind == "grad" and gradient:
        return _PREFIXES[gradient[1]] * (100.0 if gradient[2] == "cm" else 1.0)
    if found and found[2] == ("V" if kind == "eeg" else "T"):
        return _PREFIXES[found[1]] * (100.0 if kind == "grad" else 1.0)
    usual = {"eeg": "uV, mV or V", "mag": "fT, pT or T", "grad": "fT/cm, fT or T/m"}[kind]
    known = [prefix + letter for prefix in _PREFIXES for letter in "VT"]
    meant = [one for one in known if one.lower() == plain.lower() and one != plain]
    hint = f" (did you mean {' or '.join(meant)}?)" if meant else ""
    raise InputError(
        f"unit {unit!r} is not a valid unit of {_NAMES[kind]} channels: give {usual}{hint}"
    )


def in_si(recording: Recording, unit: str) -> Recording:
    """Return a recording whose numbers are taken to be in a unit.

    Parameters
    ----------
    recording : mne.io.Raw, mne.Epochs or mne.Evoked
        It is not changed. MNE has taken its numbers for V, T or T/m, or, where the file names a
        unit, for that one.
    unit : str
        The unit that the numbers of the file (or of the array) have; see :func:`to_si`.

    Returns
    -------
    mne.io.Raw, mne.Epochs or mne.Evoked
        A loaded copy in V, T and T/m.

    Raises
    ------
    InputError
        If the unit is not one of the recording's EEG or MEG channels.
    """
    types = dict(zip(recording.ch_names, recording.get_channel_types(), strict=True))
    kinds = [kind for kind in _NAMES if kind in types.values()]
    factors = {}
    for kind in kinds:  # of EEG and MEG in one recording a unit is that of one
        with suppress(InputError):
            factors[kind] = to_si(unit, kind)
    if kinds and not factors:
        to_si(unit, kinds[0])
    taken = _taken(recording)
    result = loaded(recording.copy())
    for k, (name, kind) in enumerate(types.items()):
        if kind in factors:
            factor = factors[kind] / taken.get(name, 1.0)
            if isinstance(result, mne.Evoked):
                result.data[k] *= factor
            else:
                result._data[..., k, :] *= factor
    return result


def _taken(recording: Recording) -> dict[str, float]:
    """Tell what a file's own numbers were multiplied by, where the file names their unit."""
    named = getattr(recording, "_orig_units", None) or {}
    # Other units of other formats MNE takes for volts.
    converted = {"V", "mV", "uV", "µV", "μV"}
    if type(recording).__name__ == "RawBrainVision":
        converted.add("nV")
    return {name: to_si(str(unit)) for name, unit in named.items() if str(unit) in converted}


def check_amplitude(
    values: Mapping[str, NDArray[np.float64]], recording: Recording, *, average: bool
) -> None:
    """Refuse amplitudes that no EEG or MEG has.

    Parameters
    ----------
    values : dict of str to numpy.ndarray, shape (channel, time)
        Signals by channel type, after the filter, without what was not recorded (NaN).
    recording : mne.io.Raw, mne.Epochs or mne.Evoked
        Where they are from: it may know the unit of its file.
    average : bool
        Whether they are an average.

    Raises
    ------
    InputError
        If the middle channel is far too large or small; the message names the likely unit.
    """
    for kind, whole in values.items():
        signals = whole[:, :: max(1, whole.shape[1] // _ENOUGH)]
        limits = (_AVERAGE if average else _SINGLE)[kind]
        signals = signals[np.isfinite(signals).any(axis=1)]
        if not len(signals):
            continue
        centred = signals - np.nanmedian(signals, axis=1, keepdims=True)
        # Bursts of artefacts do not make a recording too large, nor pauses one too small.
        middling = 1.4826 * np.nanmedian(np.abs(centred), axis=1)
        with np.errstate(over="ignore"):
            overall = np.sqrt(np.nanmean(centred**2, axis=1))
        alive = overall > 0
        if not alive.any():
            continue  # flat, which is another fault
        size = float(np.median(overall[alive]))
        if np.median(middling[alive]) > limits.most:
            size = float(np.median(middling[alive]))
        elif size >= limits.least:
            continue
        raise InputError(_unlikely(kind, size, limits, recording))


def _unlikely(kind: str, size: float, limits: _Range, recording: Recording) -> str:
    large = size > limits.most
    said = (
        f"the middle one of the {_NAMES[kind]} channels has a standard deviation of {size:.2g} "
        f"{_WHAT[kind]} after the filter, too {'large' if large else 'small'} for "
        f"{'EEG' if kind == 'eeg' else 'MEG'}"
    )
    usual = np.sqrt(limits.least * limits.most)
    ratio = np.log10(usual / size) if np.isfinite(size) and size > 0 else np.inf
    if not abs(ratio) < _FARTHEST:
        return f"{said} in any unit: check the numbers in the file"
    power = int(3 * np.round(ratio / 3)) or (-3 if large else 3)
    taken = next(iter(_taken(recording).values()), 1.0) if kind == "eeg" else 1.0
    factor = 10.0**power * taken * (0.01 if kind == "grad" else 1.0)
    letter = "V" if kind == "eeg" else "T"
    prefix = min(_PREFIXES, key=lambda p: abs(np.log10(_PREFIXES[p] / factor)))
    both = {"mag", "grad"} <= set(recording.get_channel_types())  # "fT" is then fT and fT/cm
    unit = f"{prefix}{letter}{'/cm' if kind == 'grad' and not both else ''}"
    times = f"{10.0 ** abs(power):g}".replace("e+0", "e")
    return (
        f"{said} by a factor of about {times}: the numbers look like {unit}"
        f"{_AGAIN.get(prefix, '')}, not {_as_taken(taken, kind)}; if so, say it by --unit {unit} "
        f"(unit={unit!r} in Python)"
    )


def _as_taken(taken: float, kind: str) -> str:
    """Name the unit that MNE has taken a file's numbers for."""
    prefix = min(_PREFIXES, key=lambda p: abs(np.log10(_PREFIXES[p] / taken)))
    return f"{prefix}{_WHAT[kind]}"
