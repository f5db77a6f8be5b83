"""Turn whatever may be asked about into the sequences that an estimator reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mne

from nmm_infer.anatomy import Head
from nmm_infer.errors import InputError
from nmm_infer.observation import Observation, Observer, Protocol, Sequences, observe

__all__ = ["read_asked"]


def read_asked(
    x: Any,
    protocol: Protocol,
    channels: Sequence[str],
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
    channels : sequence of str
        Channels of the training data.
    what : str
        Who reads, for the text of errors.
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
    return Observer.like(x, protocol).sequences(x)
