"""Turn whatever may be asked about into the sequences that an estimator reads."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import mne
import numpy as np

from nmm_infer.anatomy import Head, SensorOperator
from nmm_infer.errors import InputError
from nmm_infer.observation import Observation, Observer, Protocol, Sequences, observe

__all__ = ["describe_observer", "read_asked"]


#: Filters of a recording may differ by so much of those of training, in Hz (high-pass) and as a
#: share (low-pass); its components by so much of their length.
_BAND, _COMPONENTS = (0.1, 0.1), 0.01


def describe_observer(observer: Observer) -> dict[str, Any]:
    """Return what must be known of an observer to read recordings as it does, JSON-ready.

    ``components`` maps the channels, after reference and interpolation, to components; ``sensors``
    maps those of ``sensor_names``, before it. Both have a row for each component, in 1/V.
    """
    known = getattr(observer, "components", None)
    return {
        "channels": list(observer.head.channels),
        "band": list(getattr(observer, "band", ())),
        "components": None if known is None else known.matrix.tolist(),
        "sensors": None if known is None else (known @ observer.operator).matrix.tolist(),
        "sensor_names": None if known is None else list(observer.operator.inputs),
        "noise": observer.noise.source,
        "context": list(getattr(observer, "context_names", ())),
    }


def _compare(observer: Observer, training: Mapping[str, Any]) -> None:
    """Warn where a recording went through other filters or another mending of channels."""
    low, high = observer.band
    told = training["band"]
    if abs(low - told[0]) > _BAND[0] or abs(high - told[1]) > _BAND[1] * told[1]:
        warnings.warn(
            f"this recording was filtered to {low:g} to {high:g} Hz, the training data to "
            f"{told[0]:g} to {told[1]:g} Hz: answers are biased. Train with an observer of the "
            "recording (Observer.like, or column_observer(study, observation))",
            UserWarning,
            stacklevel=2,
        )
    if training["components"] is None or observer.components is None:
        return
    now = observer.components @ observer.operator
    names = sorted({*now.inputs, *training["sensor_names"]})
    here, then = np.zeros((2, len(now.matrix), len(names)))
    here[:, [names.index(n) for n in now.inputs]] = now.matrix
    then[:, [names.index(n) for n in training["sensor_names"]]] = training["sensors"]
    if np.linalg.norm(here - then) > _COMPONENTS * np.linalg.norm(then):
        warnings.warn(
            "channels of this recording were interpolated or referenced otherwise than the "
            "training data: answers are biased. Train with an observer of the recording "
            "(Observer.like, or column_observer(study, observation))",
            UserWarning,
            stacklevel=2,
        )


def read_asked(
    x: Any,
    protocol: Protocol,
    training: Mapping[str, Any],
    what: str,
    *,
    forward: Head | None = None,
    events: str | None = None,
) -> Sequences:
    """Return the sequences of a view, an observation or a recording; sequences as they are.

    Parameters
    ----------
    x : View, JoinedView, Sequences, Observation or MNE object
        What was observed.
    protocol : EvokedProtocol or SpontaneousProtocol
        How it is read.
    training : mapping
        What :func:`describe_observer` tells of the training data.
    what : str
        Who reads, for the text of errors.
    forward : Head, optional
        Forward model of an MNE object; the template head without.
    events : str, optional
        Events of a Raw.

    Raises
    ------
    InputError
        If the channels are not those of the training data, if it is nothing that was observed, or
        if its noise must be told.

    Warns
    -----
    UserWarning
        If filters, interpolated channels or the noise of components are not those of training.
    """
    if isinstance(x, Sequences):
        return x
    if isinstance(x, (mne.io.BaseRaw, mne.BaseEpochs, mne.Evoked)):
        x = observe(x, protocol, events=events, head=forward)
    if not isinstance(x, Observation):
        if not callable(getattr(x, "sequences", None)):
            raise InputError(
                f"this {what} reads views, sequences, observations and MNE objects, not a "
                f"{type(x).__name__}"
            )
        return x.sequences()
    channels, components = training["channels"], training.get("components")
    if set(x.head.channels) != set(channels):
        raise InputError(
            f"this {what} was trained for {len(channels)} channels ({', '.join(channels[:4])}, "
            f"...), the recording has {len(x.head.channels)}: pick the same or train anew"
        )
    if "sensors" not in training:
        raise InputError(f"this {what} was saved by an earlier version: train anew")
    known = None
    if protocol.components is not None:
        if components is None:
            raise InputError(
                f"this {what} was trained on several kinds or levels of noise, and must be told "
                "which this recording has: give the sequences of its observer, "
                "observer.sequences(observation, kind=..., snr=...)"
            )
        names = tuple(f"component {k + 1}" for k in range(len(components)))
        known = SensorOperator(np.array(components), names, tuple(channels), units="1")
    observer = Observer.like(x, protocol, components=known)
    _compare(observer, training)
    return observer.sequences(x)
