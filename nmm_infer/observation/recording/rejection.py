"""Which windows are not used, and which channels cost too many of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Rejection", "costly_channels"]

MOST_WINDOWS = 1 / 3  # a channel that alone costs more is left out
_MOST_CHANNELS = 1 / 4  # more channels than these are not bad channels but bad data
_LISTED = 4


@dataclass(frozen=True, eq=False)
class Rejection:
    """Why windows (epochs, or stretches of ongoing activity) are left out.

    Parameters
    ----------
    large, missing : numpy.ndarray of bool, shape (window, channel)
        Where a channel is beyond the limit, and where it holds what is not a number.
    channels : tuple of str
        The channels.
    spans : int
        Further windows that touch a span marked bad, or an end of the recording.
    """

    large: NDArray[np.bool_]
    missing: NDArray[np.bool_]
    channels: tuple[str, ...]
    spans: int = 0

    @property
    def total(self) -> int:
        """All windows that there were."""
        return len(self.large) + self.spans

    @property
    def kept(self) -> NDArray[np.bool_]:
        """Which of the windows (without those of `spans`) are used."""
        return np.asarray(~self._lost.any(axis=1))

    @property
    def _lost(self) -> NDArray[np.bool_]:
        return self.large | self.missing

    def why(self) -> str:
        """Say what windows were left out for; empty where none was."""
        parts = []
        if self.spans:
            parts.append(f"{self.spans} touch a span marked bad or an end of the recording")
        gaps = self.missing.any(axis=1)
        if gaps.any():
            parts.append(f"{gaps.sum()} hold NaN or infinite values")
        large = self.large.any(axis=1) & ~gaps
        if large.any():
            sums = self.large.sum(axis=0)
            order = np.argsort(-sums, kind="stable")[:_LISTED]
            worst = ", ".join(f"{sums[k]} by {self.channels[k]}" for k in order if sums[k])
            parts.append(f"{large.sum()} are beyond the limit ({worst})")
        return "; ".join(parts)

    def culprits(self) -> list[str]:
        """Few channels without which at least half of the lost windows would be kept, or none."""
        left = self._lost.copy()
        total, found = int(left.any(axis=1).sum()), list[str]()
        for _ in range(max(1, int(_MOST_CHANNELS * len(self.channels)))):
            if not left.any():
                return []
            worst = int(left.sum(axis=0).argmax())
            found.append(self.channels[worst])
            left[:, worst] = False
            if 2 * left.any(axis=1).sum() <= total:
                return found
        return []


def costly_channels(rejection: Rejection) -> list[str]:
    """Find few channels that alone cost more than a third of the windows.

    Those count that are beyond the limit (or not a number) in more than a third of the windows, if
    in more than a third no other channel is: a blink that all frontal electrodes see is not their
    fault.

    Returns
    -------
    list of str
        At most a quarter of the channels.
    """
    lost = rejection.large | rejection.missing
    if not len(lost):
        return []
    often = lost.mean(axis=0) > MOST_WINDOWS
    if not often.any() or often.mean() > _MOST_CHANNELS:
        return []
    alone = lost[:, often].any(axis=1) & ~lost[:, ~often].any(axis=1)
    if alone.mean() <= MOST_WINDOWS:
        return []
    return [name for name, bad in zip(rejection.channels, often, strict=True) if bad]
