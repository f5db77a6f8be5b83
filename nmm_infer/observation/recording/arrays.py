"""Recordings that come as arrays of numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import mne
import numpy as np
from numpy.typing import ArrayLike

from nmm_infer.errors import InputError
from nmm_infer.observation.recording.montages import set_montage
from nmm_infer.observation.recording.units import to_si

__all__ = ["recording_from_array"]


def recording_from_array(
    data: ArrayLike,
    channels: Sequence[str],
    sfreq: float,
    *,
    unit: str,
    kind: str = "eeg",
    events: Mapping[str, ArrayLike] | None = None,
    tmin: float = 0.0,
    montage: str | mne.channels.DigMontage | None = None,
) -> mne.io.RawArray | mne.EpochsArray:
    """Make a recording of an array.

    Parameters
    ----------
    data : array_like, shape (channel, time) or (epoch, channel, time)
        Ongoing signals, or epochs.
    channels : sequence of str
        Names, one a row.
    sfreq : float
        Sampling rate in Hz.
    unit : str
        Unit of the numbers: "uV", "mV", "V"; of MEG "fT", "fT/cm" and the like.
    kind : {"eeg", "mag", "grad"}
        Type of the channels.
    events : dict of str to array_like, optional
        Times in s of each kind of events, from the first sample of ongoing signals. Epochs are all
        of one kind: an empty list under its name.
    tmin : float
        Time of the first sample of epochs, s from the event.
    montage : str or mne.channels.DigMontage, optional
        Where the channels are, if their names do not tell: see :func:`set_montage`.

    Returns
    -------
    mne.io.RawArray or mne.EpochsArray
        In V, T or T/m.

    Raises
    ------
    InputError
        If shapes do not fit, a name comes twice, or a number is not possible.

    Examples
    --------
    >>> import numpy as np
    >>> raw = recording_from_array(np.zeros((2, 500)), ["C3", "C4"], 250.0, unit="uV")
    >>> raw.times[-1]
    1.996
    """
    if kind not in ("eeg", "mag", "grad"):
        raise InputError(f"kind is 'eeg', 'mag' or 'grad', not {kind!r}")
    try:
        values = to_si(unit, kind) * np.asarray(data, dtype=float)
        rate = float(sfreq)
    except (TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"data and sfreq are numbers: {error}") from error
    names = [str(name) for name in channels]
    if values.ndim not in (2, 3) or not values.size:
        raise InputError(
            f"data has shape {values.shape}: give (channel, time) or (epoch, channel, time)"
        )
    if values.shape[-2] != len(names):
        turned = " (is it (time, channel)? then transpose it)" * (values.shape[-1] == len(names))
        raise InputError(
            f"data has {values.shape[-2]} rows, but {len(names)} channels are named{turned}"
        )
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"channel {twice!r} is named twice")
    if not (np.isfinite(rate) and rate > 0 and np.isfinite(tmin)):
        raise InputError(f"sfreq is {sfreq:g} Hz, tmin {tmin:g} s: give a rate above 0, finite")
    info = mne.create_info(names, rate, kind, verbose="error")
    made: mne.io.RawArray | mne.EpochsArray
    if values.ndim == 2:
        made = mne.io.RawArray(values, info, verbose="error")
        for name, times in (events or {}).items():
            onsets = np.atleast_1d(np.asarray(times, dtype=float))
            if (
                not np.isfinite(onsets).all()
                or (onsets < 0).any()
                or (onsets > made.times[-1]).any()
            ):
                raise InputError(f"events {name!r}: times are from 0 to {made.times[-1]:g} s, in s")
            made.annotations.append(onsets, np.zeros(len(onsets)), str(name))
    else:
        if len(events or {}) > 1:
            raise InputError("epochs are of one kind of events: name one")
        made = mne.EpochsArray(
            values, info, tmin=tmin, event_id={str(next(iter(events or {"event": ()}))): 1},
            verbose="error",
        )  # fmt: skip
    return made if montage is None else set_montage(made, montage)
