"""Stretches without data: what they cost, and how a filter gets past them."""

from __future__ import annotations

from dataclasses import dataclass

import mne
import numpy as np
from numpy.typing import NDArray

__all__ = ["APART", "MOST", "Gaps", "counted", "mark_boundaries", "mend_gaps", "spans"]

#: Annotations at which a filter begins anew: MNE's own, EEGLAB's cuts, and pauses found here.
APART = ("edge", "bad_acq_skip", "BAD boundary", "BAD_pause")
_PAUSE = 0.1  # s: over a longer one without any channel a filter does not go on
MOST = 0.5  # a channel that lacks more of the recording is left out


def counted(n: int, one: str, many: str | None = None) -> str:
    """Put a number and its noun together."""
    return f"{n} {one if n == 1 else many or one + 's'}"


@dataclass(frozen=True, eq=False)
class Gaps:
    """Where channels of a raw recording hold no numbers.

    Parameters
    ----------
    missing : numpy.ndarray of bool, shape (channel, time), optional
        Where; none if all is there.
    channels : tuple of str
        The channels.
    lost : tuple of str
        Those that lack most of the recording.
    notes : tuple of str
        What is to be said.
    """

    missing: NDArray[np.bool_] | None
    channels: tuple[str, ...]
    lost: tuple[str, ...]
    notes: tuple[str, ...]

    def touched(
        self, channels: list[str], starts: NDArray[np.int64], length: int
    ) -> NDArray[np.bool_]:
        """Tell which windows a gap touches, shape (window, channel); starts from sample 0."""
        result = np.zeros((len(starts), len(channels)), bool)
        if self.missing is None:
            return result
        rows = [self.channels.index(name) for name in channels]
        for window, start in zip(result, starts.tolist(), strict=True):
            window[:] = self.missing[rows, max(0, start) : start + length].any(axis=1)
        return result


def mend_gaps(raw: mne.io.BaseRaw, names: list[str]) -> Gaps:
    """Find what is not a number in a loaded recording, and put straight lines there, in place.

    The lines only let the filter pass: windows that a gap touches are not used.

    Parameters
    ----------
    raw : mne.io.Raw
        Loaded; samples that are NaN or infinite are replaced, and pauses of all channels get an
        annotation ``BAD_pause``.
    names : list of str
        Channels that count.

    Returns
    -------
    Gaps
    """
    rows = [raw.ch_names.index(name) for name in names]
    missing = np.array([~np.isfinite(raw._data[row]) for row in rows])
    if not missing.any():
        return Gaps(None, tuple(names), (), ())
    share = missing.mean(axis=1)
    lost = tuple(name for name, part in zip(names, share, strict=True) if part > MOST)
    times = np.arange(missing.shape[1])
    for row, holes in zip(rows, missing, strict=True):
        if holes.all():
            raw._data[row] = 0.0
        elif holes.any():
            raw._data[row, holes] = np.interp(times[holes], times[~holes], raw._data[row, ~holes])
    kept = share <= MOST
    notes: tuple[str, ...] = ()
    hit = missing[kept].any(axis=0)
    if hit.any():
        stretches, sfreq = spans(hit), raw.info["sfreq"]
        affected = [n for n, m in zip(names, missing, strict=True) if m.any() and n not in lost]
        who = ", ".join(affected[:4]) + (", ..." if len(affected) > 4 else "")
        notes = (
            f"NaN or infinite values in {counted(len(stretches), 'stretch', 'stretches')} of "
            f"{counted(len(affected), 'channel')} ({who}), {hit.sum() / sfreq:.2f} s in all: what "
            "they touch was left out.",
        )
        pauses = spans(missing[kept].all(axis=0))
        pauses = [(a, b) for a, b in pauses if b - a > _PAUSE * sfreq]
        if pauses:
            start = raw.first_time if raw.annotations.orig_time is not None else 0.0
            raw.annotations.append(
                [start + a / sfreq for a, _ in pauses],
                [(b - a) / sfreq for a, b in pauses],
                "BAD_pause",
            )
    return Gaps(missing, tuple(names), lost, notes)


def spans(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return first sample and sample after the last of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def mark_boundaries(raw: mne.io.BaseRaw) -> int:
    """Make bad spans of EEGLAB's cuts ("boundary"), in place; return how many.

    The duration of such an event is that of what was cut out, which is not in the recording: the
    span is the sample at which the halves meet.
    """
    cuts = [k for k, name in enumerate(raw.annotations.description) if name == "boundary"]
    if cuts:
        annotations = raw.annotations.copy()
        annotations.description = np.array(
            ["BAD boundary" if n == "boundary" else n for n in annotations.description]
        )
        annotations.duration[cuts] = 1.0 / raw.info["sfreq"]
        raw.set_annotations(annotations, verbose="error")
    return len(cuts)
