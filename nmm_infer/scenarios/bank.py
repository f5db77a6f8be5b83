"""A bank of waveforms: simulated once, held in memory, cut into as many windows as asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from nmm_infer._checks import check_whole
from nmm_infer.campaign import Campaign, run
from nmm_infer.errors import InputError
from nmm_infer.scenarios.waveforms import SEIZURE, WaveformTask

__all__ = ["Bank", "Norm", "Picks"]

Norm = Literal["peak", "rms"]

_MARGIN = 0.05  # s between an event and either end of its window, where the window is long enough


class Picks(NamedTuple):
    """Where waveforms are cut from.

    Attributes
    ----------
    run : numpy.ndarray of int, shape (n,)
        Positions in the bank.
    start : numpy.ndarray of int, shape (n,)
        Their first samples.
    """

    run: NDArray[np.int64]
    start: NDArray[np.int64]


class Bank:
    """The valid runs of some campaigns of waveforms, in memory as float32.

    Banks of different streams or seeds share nothing: train with one and test with another.

    Parameters
    ----------
    *campaigns : Campaign
        Finished campaigns of :class:`WaveformTask`, of one sampling rate and one duration; of
        different kinds for a mixture, in which every run has the same probability.

    Attributes
    ----------
    sfreq : float
        Sampling rate in Hz.
    kind : numpy.ndarray of str, shape (run,)
        Kind of each run.
    number : numpy.ndarray of int, shape (run,)
        Number of each run in its campaign.
    accepted : dict of str to float
        Share of the runs that were valid, by kind.

    Raises
    ------
    InputError
        If a campaign holds no waveforms or no valid one, or sampling rates or durations differ.

    Examples
    --------
    >>> bank = Bank.simulate("spontaneous", 64, seed=0, stream="training")
    >>> bank.sample(np.random.default_rng(0), 3, n_times=500).shape
    (3, 500)
    """

    def __init__(self, *campaigns: Campaign) -> None:
        if not campaigns:
            raise InputError("a bank needs a campaign of waveforms")
        values, kinds, numbers, events = [], [], [], []
        counts: dict[str, list[int]] = {}
        axes = set()
        for campaign in campaigns:
            told = json.loads(campaign.dataset.attrs.get("task", "{}"))
            if told.get("task") != "waveform":
                raise InputError("a bank is made of campaigns of WaveformTask; this is another one")
            kind = str(told["kind"])
            valid = campaign.valid[campaign.dataset["valid"].values[campaign.valid]]
            if not len(valid):
                raise InputError(
                    f"none of {len(campaign)} runs of {kind!r} is valid: simulate more, or closer "
                    "to the kind's own prior"
                )
            data = campaign.dataset.isel(simulation=valid)
            axes.add((float(told["sfreq"]), data.sizes["time"]))
            values.append(data["potential"].values.astype(np.float32, copy=False))
            events.append(data["event"].values.astype(np.int64))
            numbers.append(data["simulation"].values.astype(np.int64))
            kinds.append(np.full(len(valid), kind))
            count = counts.setdefault(kind, [0, 0])
            count[0] += len(valid)
            count[1] += len(campaign)
        if len(axes) > 1:
            told = " and ".join(f"{n} samples at {sfreq:g} Hz" for sfreq, n in sorted(axes))
            raise InputError(f"the campaigns of a bank hold {told}: simulate them alike")
        ((self.sfreq, _),) = axes
        self.accepted: Mapping[str, float] = {k: good / n for k, (good, n) in counts.items()}
        self.kind = np.concatenate(kinds)
        self.number = np.concatenate(numbers)
        self._event = np.concatenate(events)
        self._known: dict[int, tuple[NDArray[np.int64], NDArray[np.int64]]] = {}
        self._values = np.concatenate(values)
        # An event stands out of a level; what is ongoing has its mean taken, window by window.
        level = np.median(self._values, axis=1)
        self._values -= np.where(self._event >= 0, level, 0.0)[:, None].astype(np.float32)

    @classmethod
    def simulate(
        cls,
        kinds: str | Sequence[str],
        n: int,
        *,
        seed: int,
        stream: str,
        duration: float = 2.0,
        sfreq: float = 500.0,
        store: str | Path | None = None,
    ) -> Bank:
        """Simulate the campaigns of a bank.

        Parameters
        ----------
        kinds : str or sequence of str
            Names in :data:`WAVEFORMS`; ``"seizure"`` stands for :data:`SEIZURE`.
        n : int
            Runs of each kind; those that are not valid are not used.
        seed, stream, duration, sfreq
            See :class:`WaveformTask`.
        store : path, optional
            A folder for one Zarr store a kind; they resume, and the next call reads them. Without,
            all is simulated in memory.

        Returns
        -------
        Bank
        """
        check_whole("n", n, 1)
        names = [kinds] if isinstance(kinds, str) else kinds
        names = [one for name in names for one in (SEIZURE if name == "seizure" else (name,))]
        tasks = [WaveformTask(name, seed, stream, duration, sfreq) for name in names]
        return cls(
            *(
                run(
                    task,
                    task.design(n),
                    None if store is None else Path(store) / f"{task.kind.replace(' ', '-')}.zarr",
                    description=f"Simulating waveforms ({task.kind})",
                )
                for task in tasks
            )
        )

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        kinds = ", ".join(f"{(self.kind == k).sum()} {k}" for k in self.accepted)
        return f"<Bank: {kinds}; {self.n_samples / self.sfreq:g} s at {self.sfreq:g} Hz>"

    @property
    def n_samples(self) -> int:
        """Samples of each run, the longest window."""
        return int(self._values.shape[1])

    @property
    def nbytes(self) -> int:
        """Bytes that the waveforms take."""
        return int(self._values.nbytes)

    def check(self, n_times: int) -> None:
        """Refuse windows that cannot be cut from the runs."""
        check_whole("n_times", n_times, 1)
        if not 2 <= n_times <= self.n_samples:
            raise InputError(
                f"windows of {n_times} samples cannot be cut from runs of {self.n_samples}: take 2 "
                f"to {self.n_samples}, or simulate longer runs"
            )

    def pick(self, rng: np.random.Generator, n: int, n_times: int) -> Picks:
        """Choose runs, and where their windows begin.

        Ongoing activity begins anywhere. Where there is an event its peak lies anywhere in the
        window, .05 s or more from both ends if that can be.

        Parameters
        ----------
        rng : numpy.random.Generator
            What chooses.
        n, n_times : int, int
            Number of waveforms and samples of each.

        Returns
        -------
        Picks
        """
        first, count = self._starts(n_times)
        run = rng.integers(len(self), size=n)
        return Picks(run, first[run] + (rng.random(n) * count[run]).astype(np.int64))

    def _starts(self, n_times: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return where windows of each run may begin first, and in how many places."""
        if n_times not in self._known:
            latest = self.n_samples - n_times
            margin = min(round(_MARGIN * self.sfreq), (n_times - 1) // 2)
            ongoing = self._event < 0
            first = np.clip(self._event - (n_times - 1 - margin), 0, latest)
            last = np.clip(self._event - margin, 0, latest)
            first, last = np.where(ongoing, 0, first), np.where(ongoing, latest, last)
            self._known[n_times] = first, last - first + 1
        return self._known[n_times]

    def cut(self, picks: Picks, n_times: int, norm: Norm = "peak") -> NDArray[np.float32]:
        """Cut waveforms and scale them.

        Parameters
        ----------
        picks : Picks
            Where from.
        n_times : int
            Samples of each.
        norm : {"peak", "rms"}
            Whether the largest magnitude of a waveform is 1, or its root mean square. That of
            Wendling's spikes is mostly in the slow wave that follows the spike.

        Returns
        -------
        numpy.ndarray, shape (n, n_times)
            Waveforms without unit, less the median of their run (spikes and responses) or their
            own mean (ongoing activity).
        """
        self.check(n_times)
        windows = sliding_window_view(self._values, n_times, axis=1)
        waveforms = windows[picks.run, picks.start]
        ongoing = self._event[picks.run] < 0
        waveforms[ongoing] -= waveforms[ongoing].mean(axis=1, keepdims=True)
        return scaled(waveforms, norm)

    def sample(
        self, rng: np.random.Generator, n: int, n_times: int, norm: Norm = "peak"
    ) -> NDArray[np.float32]:
        """Draw waveforms, shape (n, n_times), without unit; see :meth:`pick` and :meth:`cut`.

        Raises
        ------
        InputError
            If the runs are shorter.
        """
        self.check(n_times)
        return self.cut(self.pick(rng, n, n_times), n_times, norm)


def scaled(waveforms: NDArray[np.float32], norm: Norm) -> NDArray[np.float32]:
    """Scale each waveform to a largest magnitude, or a root mean square, of 1."""
    if norm == "peak":
        size = np.abs(waveforms).max(axis=-1, keepdims=True)
    elif norm == "rms":
        size = np.sqrt(np.square(waveforms).mean(axis=-1, keepdims=True))
    else:
        raise InputError(f"norm is 'peak' or 'rms', not {norm!r}")
    return np.asarray(waveforms / np.where(size > 0, size, 1), np.float32)
