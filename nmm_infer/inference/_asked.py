"""Turn whatever may be asked about into the sequences that an estimator reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mne
import numpy as np

from nmm_infer.anatomy import Head, SensorOperator
from nmm_infer.errors import InputError
from nmm_infer.observation import Observation, Observer, Protocol, Sequences, observe

__all__ = ["components_of", "read_asked"]


def components_of(observer: Any) -> list[list[float]] | None:
    """Return the map from channels to components, JSON-ready, where there is one for all noise."""
    known = getattr(observer, "components", None)
    return None if known is None else known.matrix.tolist()


def read_asked(
    x: Any,
    protocol: Protocol,
    channels: Sequence[str],
    what: str,
    components: Sequence[Sequence[float]] | None = None,
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
    channels : sequence of str
        Channels of the training data.
    what : str
        Who reads, for the text of errors.
    components : sequence, shape (component, channel), optional
        Map from the channels to the components of the training data, where there is one.
    forward : Head, optional
        Forward model of an MNE object; the template head without.
    events : str, optional
        Events of a Raw.

    Raises
    ------
    InputError
        If the channels are not those of the training data, or if it is nothing that was observed.
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
    if set(x.head.channels) != set(channels):
        raise InputError(
            f"this {what} was trained for {len(channels)} channels ({', '.join(channels[:4])}, "
            f"...), the recording has {len(x.head.channels)}: pick the same or train anew"
        )
    if protocol.components is None:
        return Observer.like(x, protocol).sequences(x)
    if components is None:
        raise InputError(
            f"this {what} was trained on several kinds or levels of noise, and must be told which "
            "this recording has: give the sequences of its observer, "
            "observer.sequences(observation, kind=..., snr=...)"
        )
    names = tuple(f"component {k + 1}" for k in range(len(components)))
    known = SensorOperator(np.array(components), names, tuple(channels), units="1")
    return Observer.like(x, protocol, components=known).sequences(x)
