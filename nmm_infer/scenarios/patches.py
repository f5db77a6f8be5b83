"""Patches of cortex, grown from a seed along the surface."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components, dijkstra

from nmm_infer._checks import pair
from nmm_infer.anatomy import Head
from nmm_infer.campaign import Variable
from nmm_infer.errors import InputError
from nmm_infer.scenarios.truth import ActiveSource, Draw, Spread

__all__ = ["Patches"]

Decay = Literal["uniform", "gaussian"]

#: nAm/mm²: moment densities of cortex in all species (Murakami and Okada 2015, NeuroImage 111:49).
DENSITY = (0.16, 0.77)

_FACTS: Mapping[str, Variable] = {
    "seed": Variable((), "int32", {"units": "1", "meaning": "source that a patch grew from"}),
    "n_members": Variable((), "int32", {"units": "1", "meaning": "sources of a patch"}),
    "area": Variable((), "float32", {"units": "cm2", "meaning": "area of a patch"}),
    "extent": Variable(
        (), "float32", {"units": "mm", "meaning": "largest distance to the seed along the surface"}
    ),
    "moment": Variable(
        (), "float32", {"units": "nAm", "meaning": "sum of the moments where the waveform is 1"}
    ),
}

_CACHED = 2**23  # members of patches that are remembered: 100 MB


@dataclass(frozen=True)
class Patches:
    """One to some patches of cortex.

    A patch is its seed and the sources nearest to it along the graph of neighbours. Every mm² of
    cortex is equally likely to hold a seed. Moments are along the normals, which point outwards,
    and all of one sign; either sign is equally likely. A source's moment is its area times the
    moment density. Patches may overlap, and their moments then add up.

    Parameters
    ----------
    n_sources : tuple of int
        Fewest and most patches of a window, all numbers equally likely.
    area_cm2 : tuple of float, optional
        Smallest and largest area in cm²; uniform. The patch grows to the number of sources whose
        area is nearest to it. Spikes are seen in the EEG where 10 cm² or more are active (Tao et
        al. 2005, Epilepsia 46:669). 2 to 20 cm² where no extent is given either (chosen here).
    extent_mm : tuple of float, optional
        Smallest and largest distance to the seed in mm; uniform. Give this or the area.
    decay : {"uniform", "gaussian"}
        The density is the same in the whole patch, or falls as a Gaussian of the distance to the
        seed: to a half half-way to the patch's extent, and to 1/16 there.
    separation_mm : float
        Least distance between seeds, in a straight line.
    density : tuple of float
        Smallest and largest moment density at the seed in nAm/mm²; log-uniform. The whole range of
        Murakami and Okada (2015, NeuroImage 111:49-58) without.

    Raises
    ------
    InputError
        If a range is empty or not possible; for a head, if it has no sources with normals or its
        surfaces are smaller than a patch.

    Notes
    -----
    Distances are those of the shortest path over the edges of ``Head.sources.graph``, which are
    not shorter than those along the surface. Surfaces that no edge connects, as those of the
    hemispheres, share no patch.
    """

    n_sources: tuple[int, int] = (1, 5)
    area_cm2: tuple[float, float] | None = None
    extent_mm: tuple[float, float] | None = None
    decay: Decay = "uniform"
    separation_mm: float = 0.0
    density: tuple[float, float] = DENSITY

    def __post_init__(self) -> None:
        check_count("patches", self.n_sources)
        if self.area_cm2 is not None and self.extent_mm is not None:
            raise InputError("patches grow to an area or to an extent: give one of them")
        if self.area_cm2 is not None:
            check_range("area_cm2", self.area_cm2, "cm²")
        if self.extent_mm is not None:
            check_range("extent_mm", self.extent_mm, "mm")
        check_range("density", self.density, "nAm/mm²")
        if self.decay not in ("uniform", "gaussian"):
            raise InputError(f"decay is 'uniform' or 'gaussian', not {self.decay!r}")
        if not (np.isfinite(self.separation_mm) and self.separation_mm >= 0):
            raise InputError(f"separation_mm is {self.separation_mm:g}: it must be 0 or more")

    @property
    def facts(self) -> Mapping[str, Variable]:
        """Seed, number of sources, area, extent and moment of each patch."""
        return _FACTS

    def on(self, head: Head) -> Draw:
        """Return what draws patches in a head."""
        return _Grower(self, head).draw


class _Grower:
    """Draws patches in one head."""

    def __init__(self, patches: Patches, head: Head) -> None:
        sources = head.sources
        self.patches = patches
        self.by_area = patches.extent_mm is None
        area = patches.area_cm2 or (2.0, 20.0)
        self.size = area if patches.extent_mm is None else patches.extent_mm
        self.rows = np.flatnonzero(~np.isnan(sources.normals[:, 0]))
        if not len(self.rows):
            raise InputError(
                "this head has no sources on surfaces, where patches grow: take a head with cortex "
                "or another scenario"
            )
        self.graph = sparse.csr_array(sources.graph)[self.rows][:, self.rows]
        self.places = 1000 * sources.positions[self.rows]
        self.mm2 = sources.sizes[self.rows]
        self.spread = Spread(sources)
        _, piece = connected_components(self.graph, directed=False)
        whole = np.asarray(np.bincount(piece, self.mm2), dtype=float)
        self.surface = whole[piece]  # mm² that a patch can grow to
        self._check(piece, whole)
        self.chances = np.cumsum(self.mm2)
        self.anywhere = not self.by_area or bool((self.surface >= 100 * self.size[1]).all())
        members = max(1.0, len(self.rows) * self._largest() / whole.max())
        self.reach = lru_cache(max(1, int(_CACHED / members)))(self._reach)

    def _largest(self) -> float:
        """Area of the largest patch, mm², roughly."""
        return 100 * self.size[1] if self.by_area else float(np.pi * self.size[1] ** 2)

    def _check(self, piece: NDArray[Any], whole: NDArray[np.float64]) -> None:
        if self.by_area and 100 * self.size[1] > whole.max():
            raise InputError(
                f"a patch of {self.size[1]:g} cm² is larger than any surface of this head: the "
                f"largest has {whole.max() / 100:.3g} cm²"
            )
        if not self.by_area:
            start = int(np.flatnonzero(piece == whole.argmax())[0])
            far = dijkstra(self.graph, indices=start)
            across = float(far[np.isfinite(far)].max())
            if self.size[1] > across:
                raise InputError(
                    f"a patch of {self.size[1]:g} mm is larger than any surface of this head: the "
                    f"largest reaches {across:.3g} mm from source {self.rows[start]}"
                )

    def _reach(self, seed: int) -> tuple[NDArray[np.int32], NDArray[np.float32], Any]:
        """Return what the largest patch may hold: sources, distances [mm], summed areas [mm²]."""
        limit = 1.5 * np.sqrt(100 * self.size[1] / np.pi) if self.by_area else self.size[1]
        while True:
            distance = dijkstra(self.graph, indices=seed, limit=limit)
            members = np.flatnonzero(np.isfinite(distance))
            total = self.mm2[members].sum()
            wanted = min(100 * self.size[1], (1 - 1e-9) * self.surface[seed])
            if not self.by_area or total >= wanted:
                break
            limit *= 1.5
        members = members[np.argsort(distance[members], kind="stable")]
        return (
            members.astype(np.int32),
            distance[members].astype(np.float32),
            np.cumsum(self.mm2[members]).astype(np.float32),
        )

    def draw(self, rng: np.random.Generator) -> list[ActiveSource]:
        """Draw the patches of one window."""
        count = int(rng.integers(*self.patches.n_sources, endpoint=True))
        sizes = rng.uniform(*self.size, count)
        density = log_uniform(rng, self.patches.density, count)
        density *= 1 - 2 * rng.integers(2, size=count)
        result: list[ActiveSource] = []
        away: NDArray[np.bool_] | None = None
        for size, strength in zip(sizes, density, strict=True):
            seed = self._seed(rng, away, size)
            result.append(self._grow(seed, size, strength))
            if self.patches.separation_mm > 0:
                gap = np.linalg.norm(self.places - self.places[seed], axis=1)
                clear = gap >= self.patches.separation_mm
                away = clear if away is None else away & clear
        return result

    def _seed(self, rng: np.random.Generator, away: NDArray[np.bool_] | None, size: float) -> int:
        """Choose a seed by area among those that are far enough and can grow so large."""
        chances = self.chances
        if away is not None or not self.anywhere:
            allowed = np.ones(len(self.rows), bool) if away is None else away
            if self.by_area:
                allowed = allowed & (self.surface >= 100 * size)
            chances = np.cumsum(np.where(allowed, self.mm2, 0.0))
        if not chances[-1] > 0:
            raise InputError(
                f"no source is {self.patches.separation_mm:g} mm away from the seeds of up to "
                f"{self.patches.n_sources[1] - 1} other patches: take fewer, or a smaller "
                "separation_mm"
            )
        return int(np.searchsorted(chances, rng.random() * chances[-1], side="right"))

    def _grow(self, seed: int, size: float, density: float) -> ActiveSource:
        """Return the patch of a seed with its moments."""
        members, distance, area = self.reach(seed)
        if self.by_area:
            n = int(np.searchsorted(area, 100 * size))
            if n == len(area) or (n > 0 and 100 * size - area[n - 1] < area[n] - 100 * size):
                n -= 1
            n += 1
        else:
            n = int(np.searchsorted(distance, size, side="right"))
        members, distance = members[:n], distance[:n]
        extent = float(distance[-1])
        moments = density * self.mm2[members]
        if self.patches.decay == "gaussian" and extent > 0:
            moments *= np.exp2(-((2 * distance / extent) ** 2))
        components, parts = self.spread(self.rows[members], moments)
        facts = {
            "seed": self.rows[seed],
            "n_members": n,
            "area": area[n - 1] / 100,
            "extent": extent,
            "moment": moments.sum(),
        }
        return ActiveSource(components, parts, facts)


def check_count(what: str, counts: tuple[int, int]) -> None:
    """Refuse numbers of sources that make no sense."""
    low, high = pair(f"n_sources of {what}", counts)
    if not (low.is_integer() and high.is_integer() and 1 <= low <= high):
        raise InputError(
            f"n_sources of {what} is {counts}: give the fewest (1 or more) and the most, whole "
            "numbers"
        )


def check_range(name: str, values: tuple[float, float], unit: str) -> None:
    """Refuse a range of positive numbers that is empty."""
    low, high = pair(name, values)
    if not (np.isfinite([low, high]).all() and 0 < low <= high):
        raise InputError(
            f"{name} is {low:g} to {high:g} {unit}: give a lower bound above 0 and an upper one "
            "that is not below it"
        )


def log_uniform(
    rng: np.random.Generator, bounds: tuple[float, float], n: int
) -> NDArray[np.float64]:
    """Draw positive numbers whose logarithm is uniform."""
    low, high = bounds
    return np.asarray(low * (high / low) ** rng.random(n))
