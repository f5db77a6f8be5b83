"""Events: by which names they are found, and how often a moment counts."""

from __future__ import annotations

import difflib
import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import mne
import numpy as np
from numpy.typing import NDArray

from nmm_infer.errors import InputError

__all__ = ["Events", "Names", "as_names", "choose_names", "find_events", "matching"]

Names: TypeAlias = str | Sequence[str]
"""One name of events, or several that are pooled."""

_BRAINVISION = ("Stimulus/", "Response/", "Comment/", "New Segment/")
_MARKER = re.compile(r"^([A-Za-z]*)\s*(\d+)$")  # "S  2" of BrainVision
_LOW_BITS = 0xFFFF  # BioSemi's Status channel tells its own state above these
_LISTED = 100  # kinds of events in a message
_SAME = 0.002  # s: events that are nearer are one moment, marked twice


@dataclass(frozen=True, eq=False)
class Events:
    """The events of a recording that are averaged over.

    Parameters
    ----------
    samples : numpy.ndarray of int, shape (event,)
        Samples, counted as MNE's events are, ascending and each once.
    names : tuple of str
        Names under which they were found.
    notes : tuple of str
        What is to be said of them.
    """

    samples: NDArray[np.int64]
    names: tuple[str, ...]
    notes: tuple[str, ...] = field(default=())

    @property
    def array(self) -> NDArray[np.int64]:
        """MNE's events, shape (event, 3), all with the number 1."""
        return np.column_stack(
            [self.samples, np.zeros_like(self.samples), np.ones_like(self.samples)]
        )


def as_names(events: Names | None) -> tuple[str, ...]:
    """Return names of events as a tuple: none, one or several.

    Raises
    ------
    InputError
        If a name is empty, or not text.
    """
    if events is None:
        return ()
    names = (events,) if isinstance(events, str) else tuple(events)
    for name in names:
        if not isinstance(name, str) or not name.strip():
            raise InputError(f"events: {name!r} is not the name of events")
    return tuple(dict.fromkeys(names))


def matching(name: str, present: Iterable[str]) -> list[str]:
    """Find what a name of events means among those that are there.

    Tried in this order, until something fits: the name exactly; as tags of MNE ("face" takes
    "face/left"); without the types that MNE puts before BrainVision's markers ("stim" is
    "Comment/stim", "S  2" and "2" are "Stimulus/S  2"; a stimulus before a response).

    Parameters
    ----------
    name : str
        As the user has it.
    present : iterable of str
        Descriptions of annotations, names of epochs or comments of averages.

    Returns
    -------
    list of str
        Those that it means; empty where none does.
    """
    there = list(present)
    if name in there:
        return [name]
    plain = " ".join(name.split())
    exact = [one for one in there if " ".join(one.split()) == plain]
    if exact:
        return exact
    tagged = [o for o in there if not o.startswith(_BRAINVISION) and _same_tags(name, o)]
    if tagged:
        return tagged
    for kind in _BRAINVISION:
        markers = {one: one.removeprefix(kind) for one in there if one.startswith(kind)}
        for fits in (_same_text, _same_tags, _same_marker):
            found = [one for one, marker in markers.items() if fits(name, marker)]
            if found:
                return found
    return [one for one in there if _same_tags(name, one)]  # "Stimulus": all of this type


def _same_text(name: str, marker: str) -> bool:
    return " ".join(name.split()) == " ".join(marker.split())


def _same_tags(name: str, marker: str) -> bool:
    tags = {tag.strip() for tag in name.split("/")}
    return tags <= {tag.strip() for tag in marker.split("/")}


def _same_marker(name: str, marker: str) -> bool:
    """Tell whether "2", "S2" and "S  2" are one marker."""
    ours, theirs = _MARKER.match(name.strip()), _MARKER.match(marker.strip())
    if ours is None or theirs is None:
        return False
    return ours[1] in ("", theirs[1]) and int(ours[2]) == int(theirs[2])


def choose_names(names: Names, counts: dict[str, int], where: str) -> list[str]:
    """Find all that some names mean, or say what is there.

    Parameters
    ----------
    names : str or sequence of str
        As the user has them.
    counts : dict of str to int
        What is there, and how often.
    where : str
        "in the recording", for the message.

    Returns
    -------
    list of str
        Each once.

    Raises
    ------
    InputError
        If a name means nothing that is there; the message lists all, and the nearest.
    """
    found: list[str] = []
    for name in as_names(names):
        fitting = matching(name, counts)
        if not fitting:
            raise InputError(_missing(name, counts, where))
        found += [one for one in fitting if one not in found]
    return found


def _missing(name: str, counts: dict[str, int], where: str) -> str:
    shown = list(counts.items())
    if len(shown) > _LISTED:  # a channel that holds no triggers has thousands of values
        shown = sorted(shown, key=lambda item: -item[1])[:_LISTED]
    listed = ", ".join(f"{one} ({count})" for one, count in shown) or "none at all"
    if len(counts) > _LISTED:
        listed += f" and {len(counts) - _LISTED} more"
    lower = {one.lower(): one for one in counts}
    lower |= {one.lower().split("/", 1)[-1].strip(): one for one in counts if "/" in one}
    near = difflib.get_close_matches(name.lower().strip(), lower, n=1, cutoff=0.4)
    hint = f"; did you mean {lower[near[0]]!r}?" if near else ""
    return f"no event {name!r} {where}; present: {listed}{hint}"


def find_events(raw: mne.io.BaseRaw, names: Names) -> Events:
    """Find events in annotations and on stimulus channels.

    Parameters
    ----------
    raw : mne.io.Raw
        The recording.
    names : str or sequence of str
        Descriptions of annotations or numbers on a stimulus channel, see :func:`matching`;
        several are pooled.

    Returns
    -------
    Events
        A moment that is marked twice (within 2 ms, or one sample) counts once, and a note says so.

    Raises
    ------
    InputError
        If there is no such event; the message lists those present, with their numbers.
    """
    annotated, triggered = _annotated(raw), _triggered(raw)
    counts = {one: len(samples) for one, samples in annotated.items()}
    for code, samples in triggered.items():
        counts.setdefault(code, len(samples))
    found = choose_names(names, counts, "in the recording")
    # One name in both: annotations are what a person has edited.
    samples = np.concatenate(
        [annotated[one] if one in annotated else triggered[one] for one in found]
    )
    both = [one for one in found if one in annotated and one in triggered]
    moments, repeated = _once(np.sort(samples), max(1.0, _SAME * raw.info["sfreq"]))
    notes = []
    if sorted(found) != sorted(as_names(names)):
        notes.append(f"Events taken: {', '.join(f'{one} ({counts[one]})' for one in found)}.")
    for one in both:
        if len(annotated[one]) != len(triggered[one]):
            notes.append(
                f"{one!r} is an annotation ({len(annotated[one])}) and a number on a stimulus "
                f"channel ({len(triggered[one])}): the annotations were taken."
            )
    if repeated:
        notes.append(
            f"{repeated} of {len(samples)} events mark a moment that another one marks already, "
            "and were left out."
        )
    return Events(moments, tuple(found), tuple(notes))


def _annotated(raw: mne.io.BaseRaw) -> dict[str, NDArray[np.int64]]:
    """Find samples of the annotations by description, without those that mark bad spans."""
    if not len(raw.annotations):
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            events, event_id = mne.events_from_annotations(raw, verbose="error")
        except ValueError:  # all of them mark bad spans, or lie outside
            return {}
    codes = {name: code for name, code in event_id.items() if name != "boundary"}
    return {name: events[events[:, 2] == code, 0] for name, code in codes.items()}


def _triggered(raw: mne.io.BaseRaw) -> dict[str, NDArray[np.int64]]:
    """Find samples of the numbers on stimulus channels."""
    channels = [
        n for n, t in zip(raw.ch_names, raw.get_channel_types(), strict=True) if t == "stim"
    ]
    found: dict[str, NDArray[np.int64]] = {}
    # The sum over single lines is on MNE's own choice of channel, where that is there.
    for channel in ["STI101"] if "STI101" in channels else channels:
        status = channel.lower() == "status"
        mask = {"mask": _LOW_BITS, "mask_type": "and"} if status else {}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                events = mne.find_events(
                    raw, channel, shortest_event=1, uint_cast=not status, verbose="error", **mask
                )
        except ValueError:  # values that are not whole numbers: not triggers
            continue
        for code in sorted({int(code) for code in events[:, 2]}):
            found.setdefault(str(code), events[events[:, 2] == code, 0])
    return found


def _once(samples: NDArray[np.int64], apart: float) -> tuple[NDArray[np.int64], int]:
    """Keep the first of moments that are not further apart; return how many were left out."""
    kept: list[int] = []
    for sample in samples.tolist():
        if not kept or sample - kept[-1] > apart:
            kept.append(sample)
    return np.array(kept, np.int64), len(samples) - len(kept)
