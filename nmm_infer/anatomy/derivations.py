"""Channels that are differences of two electrodes: which, and of which electrodes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import mne
import numpy as np
from mne.io.constants import FIFF

from nmm_infer.anatomy._template_places import template_positions
from nmm_infer.anatomy.channel_names import COMMON, electrode_pair, second_name, standard_name
from nmm_infer.anatomy.sensors import SensorOperator
from nmm_infer.errors import InputError

__all__ = [
    "Derivations",
    "bipolar_names",
    "differences",
    "mark_bipolar",
    "named_references",
    "place_of",
    "read_derivations",
]


_SOME_REFERENCE = re.compile(r"\bREF\d*\s*$", re.IGNORECASE)


@dataclass(frozen=True)
class Derivations:
    """How the EEG channels of a recording are derived from electrodes.

    Parameters
    ----------
    referential : tuple of str
        Channels that share their reference, whichever it is.
    bipolar : dict of str to tuple of str
        Channels that are differences, with the places of their two electrodes: first less second.
    unknown : tuple of str
        Channels that are differences, of electrodes that cannot be read from their names.
    """

    referential: tuple[str, ...]
    bipolar: dict[str, tuple[str, str]]
    unknown: tuple[str, ...] = ()


@cache
def _places() -> dict[str, str]:
    return {name.lower(): name for name in template_positions()}


def read_derivations(channels: Sequence[str], coils: Sequence[int] = ()) -> Derivations:
    """Tell referential from bipolar channels.

    A channel is bipolar if MNE typed it so (coil type ``EEG_BIPOLAR``), or if its name holds two
    electrodes and the second is not the common reference of the recording. It is common if all
    second names in the recording agree and at least half of the channels have it ("C3-M2" and
    "C4-M2", but not "C3-M2" and "C4-M1").

    Parameters
    ----------
    channels : sequence of str
        Names of the EEG channels.
    coils : sequence of int, optional
        Their coil types.

    Returns
    -------
    Derivations
    """
    typed = {
        name
        for name, coil in zip(channels, coils, strict=False)
        if coil == FIFF.FIFFV_COIL_EEG_BIPOLAR
    }
    seconds = {name: second_name(name, _places()) for name in channels if name not in typed}
    counts = Counter(second for second in seconds.values() if second not in (None, COMMON))
    shared = set()
    if len(counts) == 1 and not typed:
        (only, count), words = counts.popitem(), COMMON in seconds.values()
        if 2 * count >= len(channels) and not words:
            shared = {only}
    referential, bipolar, unknown = [], {}, []
    for name in channels:
        second = seconds.get(name)
        if name not in typed and (second is None or second == COMMON or second in shared):
            referential.append(name)
            continue
        pair = electrode_pair(name, _places())
        if pair is None:
            unknown.append(name)
        else:
            bipolar[name] = pair
    return Derivations(tuple(referential), bipolar, tuple(unknown))


def mark_bipolar(info: mne.Info, channels: Sequence[str]) -> None:
    """Give channels MNE's coil type of bipolar ones, in place."""
    for channel in info["chs"]:
        if channel["ch_name"] in channels:
            channel["coil_type"] = FIFF.FIFFV_COIL_EEG_BIPOLAR


def place_of(channel: str) -> str | None:
    """Return the place of the 10-05 system that a channel's name stands for, if it does."""
    return standard_name(channel, _places())


def named_references(channels: Sequence[str]) -> set[str] | None:
    """Return the places of the references that referential channels name.

    Parameters
    ----------
    channels : sequence of str
        Names of EEG channels.

    Returns
    -------
    set of str or None
        Places of the 10-05 system; empty where the names give a reference that is not one
        electrode ("-AVG"); None where they give none, or only say that there is one
        ("-REF").
    """
    seconds = {second_name(name, _places()) for name in channels} - {None}
    vague = all(_SOME_REFERENCE.search(name) for name in channels)
    if not seconds or (seconds == {COMMON} and vague):
        return None
    pairs = [electrode_pair(f"Fpz-{second}", _places()) for second in seconds if second != COMMON]
    return {pair[1] for pair in pairs if pair is not None}


def bipolar_names(info: mne.Info) -> list[str]:
    """List the EEG channels that are bipolar, by type or by name."""
    picks = mne.pick_types(info, meg=False, eeg=True, exclude=[])
    names = [info["ch_names"][k] for k in picks]
    found = read_derivations(names, [info["chs"][k]["coil_type"] for k in picks])
    return [name for name in names if name not in found.referential]


def differences(channels: Sequence[str]) -> SensorOperator:
    """Make the map from electrodes to bipolar channels: first less second.

    Parameters
    ----------
    channels : sequence of str
        Names of bipolar channels, such as "Fp1-F7".

    Returns
    -------
    SensorOperator
        From the places of the 10-05 system to the channels.

    Raises
    ------
    InputError
        If a name does not hold two electrodes.
    """
    pairs = {}
    for name in channels:
        pair = electrode_pair(name, _places())
        if pair is None:
            raise InputError(
                f"Channel {name!r} is bipolar, and its two electrodes cannot be read from its "
                "name: rename it to two names of the 10-05 system, as Fp1-F7."
            )
        pairs[name] = pair
    electrodes = list(dict.fromkeys(place for pair in pairs.values() for place in pair))
    matrix = np.zeros((len(pairs), len(electrodes)))
    for row, (first, second) in zip(matrix, pairs.values(), strict=True):
        row[electrodes.index(first)], row[electrodes.index(second)] = 1.0, -1.0
    return SensorOperator(matrix, tuple(pairs), tuple(electrodes))
