"""What is true of a window: which sources are active, how strongly, and when."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import sparse

from nmm_infer.anatomy import Head, Sources
from nmm_infer.campaign import Variable
from nmm_infer.errors import InputError

__all__ = ["ActiveSource", "Draw", "Scenario", "Spread", "Truth", "first_components"]


@dataclass(frozen=True, eq=False)
class ActiveSource:
    """A patch, a blob or a zone: all its moments follow one waveform.

    Parameters
    ----------
    components : numpy.ndarray of int, shape (member,)
        Components of ``Head.gain``.
    moments : numpy.ndarray of float32, shape (member,)
        Their moments in nAm where the waveform is 1.
    facts : mapping
        What the scenario tells of it, by the names of :attr:`Scenario.facts`.
    """

    components: NDArray[np.int64]
    moments: NDArray[np.float32]
    facts: Mapping[str, Any]


Draw: TypeAlias = Callable[[np.random.Generator], list[ActiveSource]]
"""What draws the active sources of one window."""


class Scenario(Protocol):
    """Where activity is, as settings that know no head."""

    @property
    def facts(self) -> Mapping[str, Variable]:
        """What is told of each active source."""
        ...

    def on(self, head: Head) -> Draw:
        """Return what draws active sources in a head; refuse a head that does not fit."""
        ...


class Spread:
    """Give moments to sources.

    Parameters
    ----------
    sources : Sources
        All sources of a head.
    """

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._first = first_components(sources.free)

    def __call__(
        self,
        rows: NDArray[np.integer],
        moments: NDArray[np.floating],
        direction: NDArray[np.float64] | None = None,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return components of ``Head.gain`` and their moments in nAm.

        Parameters
        ----------
        rows : numpy.ndarray of int, shape (n,)
            Numbers of the sources; all have free orientation or all have not.
        moments : numpy.ndarray, shape (n,)
            Moments in nAm.
        direction : numpy.ndarray, shape (3,), optional
            Direction of all sources of free orientation; the normal of each without.
        """
        first = self._first[rows]
        if not self._sources.free[rows[0]]:
            return first, moments.astype(np.float32)
        along = self._sources.normals[rows] if direction is None else direction
        parts = moments[:, None] * np.broadcast_to(along, (len(rows), 3))
        return (first[:, None] + np.arange(3)).ravel(), parts.ravel().astype(np.float32)


def first_components(free: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the first component of each source: fixed ones have one, free ones three."""
    counts = np.where(free, 3, 1)
    return np.asarray(np.cumsum(counts) - counts)


@dataclass(frozen=True, eq=False)
class Truth:
    """The exact moments behind some windows.

    Parameters
    ----------
    head : Head
        Head whose sources are active.
    windows : numpy.ndarray of int, shape (window,)
        Numbers of the windows.
    active : sequence of list of ActiveSource
        Active sources of each window.
    waveforms : numpy.ndarray of float32, shape (active source, time)
        Waveforms of all active sources, window after window.
    times : numpy.ndarray, shape (time,)
        Times in s from the beginning of a window.
    """

    head: Head
    windows: NDArray[np.int64]
    active: Sequence[list[ActiveSource]]
    waveforms: NDArray[np.float32]
    times: NDArray[np.float64]

    @property
    def window(self) -> NDArray[np.int64]:
        """Position of the window that each active source belongs to, shape (active source,)."""
        return np.repeat(np.arange(len(self.active)), [len(some) for some in self.active])

    @cached_property
    def footprints(self) -> sparse.csr_array:
        """Moments in nAm where the waveform is 1, shape (active source, component).

        Rows are in the order of ``waveforms``; times these they are the moments of all components,
        so a network can be given both instead of dense targets.
        """
        every = [source for some in self.active for source in some]
        starts = np.cumsum([0, *(len(source.components) for source in every)])
        empty = np.zeros(0)
        columns = np.concatenate([empty.astype(int), *(s.components for s in every)])
        values = np.concatenate([empty.astype(np.float32), *(s.moments for s in every)])
        shape = (len(every), self.head.gain.sizes["component"])
        return sparse.csr_array((values, columns, starts), shape=shape)

    def activity(self, by: Literal["component", "region"] = "component") -> xr.DataArray:
        """Return all moments.

        Parameters
        ----------
        by : {"component", "region"}
            Moments of the components of ``Head.gain``: one along the normal of a fixed source, x,
            y and z of a free one. Or the sums of these over each region: its net moment. What lies
            in no region is then left out.

        Returns
        -------
        xarray.DataArray, dims (window, component, time), float32
            Moments in nAm. Coordinates ``source`` or ``region``, and ``orientation``, say what a
            component is. 5,000 sources take 10 MB a window of 500 samples.
        """
        coords: dict[str, Any]
        if by == "component":
            footprints = self.footprints
            coords = {str(k): v for k, v in self.head.sources.components.coords.items()}
        elif by == "region":
            sums, coords = _region_sums(self.head)
            footprints = sparse.csr_array(self.footprints @ sums.T)
        else:
            raise InputError(f"activity by 'component' or 'region', not {by!r}")
        shape = (len(self.active), footprints.shape[1], len(self.times))
        moments = np.zeros(shape, np.float32)
        for row, window in enumerate(self.window):
            part = slice(footprints.indptr[row], footprints.indptr[row + 1])
            where = footprints.indices[part]
            moments[window, where] += footprints.data[part, None] * self.waveforms[row]
        return xr.DataArray(
            moments,
            dims=("window", "component", "time"),
            coords={"window": self.windows, "time": self.times, **coords},
            name="activity",
            attrs={"units": "nAm"},
        )


def _region_sums(head: Head) -> tuple[sparse.csr_array, dict[str, Any]]:
    """Return sums over the sources of regions, shape (region component, component), and names."""
    free = head.sources.free
    first = first_components(free)
    rows: list[NDArray[np.int64]] = []
    columns: list[NDArray[np.int64]] = []
    names: list[str] = []
    axes: list[str] = []
    for name, members in head.members.items():
        if free[members].any() and not free[members].all():
            raise InputError(
                f"region {name!r} has sources of fixed and of free orientation: it has no net "
                "moment"
            )
        own = ("x", "y", "z") if free[members[0]] else ("normal",)
        for k, axis in enumerate(own):
            rows.append(np.full(len(members), len(names)))
            columns.append(first[members] + k)
            names.append(name)
            axes.append(axis)
    place = (np.concatenate(rows), np.concatenate(columns))
    shape = (len(names), head.gain.sizes["component"])
    ones = np.ones(len(place[0]), np.float32)
    sums = sparse.coo_array((ones, place), shape=shape).tocsr()
    return sums, {"region": ("component", names), "orientation": ("component", axes)}
