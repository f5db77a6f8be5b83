"""What noise needs to know of channels: types, units, places."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import mne
import numpy as np
from numpy.typing import NDArray

from nmm_infer.errors import InputError

__all__ = ["Level", "channel_types", "device_to_head", "levels", "positions"]

Level: TypeAlias = float | Mapping[str, float] | NDArray[np.float64]
"""One level, one for each channel type, or one for each channel."""

_UNITS = {"eeg": "V", "mag": "T", "grad": "T/m"}


def channel_types(info: mne.Info) -> list[str]:
    """Return the type of each channel; only EEG and MEG channels have noise here."""
    types = list(info.get_channel_types())
    others = [f"{n} ({t})" for n, t in zip(info.ch_names, types, strict=True) if t not in _UNITS]
    if others:
        raise InputError(
            f"noise is known for EEG and MEG channels only, not for {', '.join(others)}: "
            "pick the others first"
        )
    return types


def levels(info: mne.Info, level: Level) -> NDArray[np.float64]:
    """Return one level for each channel, shape (channel,), in the channel's unit."""
    types = channel_types(info)
    if isinstance(level, Mapping):
        missing = sorted(set(types) - set(level))
        if missing:
            raise InputError(f"no level is given for channels of type {', '.join(missing)}")
        result = np.array([level[kind] for kind in types], dtype=float)
    else:
        result = np.asarray(level, dtype=float)
        if result.ndim == 0 and len(set(types)) > 1:
            raise InputError(
                f"one level cannot hold for channels of types {', '.join(sorted(set(types)))}, "
                "whose units differ: give one for each type, as {'eeg': ..., 'mag': ...}"
            )
        if result.ndim not in (0, 1) or result.shape not in ((), (len(types),)):
            raise InputError(
                f"the levels have shape {result.shape}, but there are {len(types)} channels"
            )
        result = np.broadcast_to(result, len(types)).copy()
    wrong = np.flatnonzero(~np.isfinite(result) | (result < 0))
    if len(wrong):
        k = int(wrong[0])
        raise InputError(
            f"the level of channel {info.ch_names[k]} is {result[k]:g} {_UNITS[types[k]]}: "
            "a level is a finite number of 0 or more"
        )
    return result


def device_to_head(info: mne.Info) -> mne.transforms.Transform:
    """Return the transform from the MEG device to the head."""
    if info["dev_head_t"] is None:
        raise InputError(
            "the place of the head in the MEG device is unknown: set info['dev_head_t']"
        )
    return info["dev_head_t"]


def positions(info: mne.Info) -> NDArray[np.float64]:
    """Return the places of the channels in the head frame, shape (channel, 3), in m."""
    meg = np.array([kind != "eeg" for kind in channel_types(info)])
    places = np.array([channel["loc"][:3] for channel in info["chs"]], dtype=float)
    unknown = [
        name
        for name, place in zip(info.ch_names, places, strict=True)
        if not np.isfinite(place).all() or not place.any()
    ]
    if unknown:
        raise InputError(f"no position of channel {', '.join(unknown)}: set a montage")
    if meg.any():
        places[meg] = mne.transforms.apply_trans(device_to_head(info), places[meg])
    return places
