"""Whole regions, and zones of the thalamus with and without active cortex."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray

from nmm_infer.anatomy import Head
from nmm_infer.campaign import Variable
from nmm_infer.errors import InputError
from nmm_infer.scenarios.blobs import random_directions
from nmm_infer.scenarios.patches import Patches, check_count, check_range, log_uniform
from nmm_infer.scenarios.truth import ActiveSource, Draw, Scenario, Spread

__all__ = ["Regions", "Zones"]

_REGION_FACTS: Mapping[str, Variable] = {
    "region": Variable(
        (), "int16", {"units": "1", "meaning": "position among the regions of the head"}
    ),
    "n_members": Variable((), "int32", {"units": "1", "meaning": "sources that are active"}),
    "direction": Variable(
        ("axis",), "float32", {"units": "1", "meaning": "of the moment, where not along normals"}
    ),
    "moment": Variable(
        (), "float32", {"units": "nAm", "meaning": "sum of the moments where the waveform is 1"}
    ),
}
_PART = Variable((), "int8", {"units": "1", "meaning": "0 a zone, 1 cortex"})


@dataclass(frozen=True)
class Regions:
    """One to some whole regions of the head, each at most once.

    A region's moment is spread over it with uniform density: along the normals, with either sign,
    on surfaces; elsewhere along one direction, uniform over the sphere and new in each window.

    Parameters
    ----------
    names : str or tuple of str
        Names of regions; ``*`` stands for anything.
    n_sources : tuple of int
        Fewest and most regions of a window, all numbers equally likely.
    moment : tuple of float
        Smallest and largest moment in nAm; log-uniform. Without, that of the default patches:
        2 cm² at .16 nAm/mm² to 20 cm² at .77 nAm/mm² (chosen here, also for the thalamus, so that
        its depth and not its strength sets it apart).

    Raises
    ------
    InputError
        If a range is not possible; for a head, if it has fewer regions of such names.
    """

    names: str | tuple[str, ...] = "*"
    n_sources: tuple[int, int] = (1, 1)
    moment: tuple[float, float] = (32.0, 1540.0)

    def __post_init__(self) -> None:
        check_count("regions", self.n_sources)
        check_range("moment", self.moment, "nAm")

    @property
    def facts(self) -> Mapping[str, Variable]:
        """Region, number of sources, direction and moment of each."""
        return _REGION_FACTS

    def on(self, head: Head) -> Draw:
        """Return what draws regions of a head."""
        patterns = (self.names,) if isinstance(self.names, str) else self.names
        chosen = [n for n in head.regions if any(fnmatchcase(n, p) for p in patterns)]
        if len(chosen) < self.n_sources[1]:
            raise InputError(
                f"this head has {len(chosen)} regions named {', '.join(patterns)}, but "
                f"{self.n_sources[1]} were asked for; it has {', '.join(head.regions[:3])}, ... "
                "(template_head(info, 'cortex+subcortex') has the thalamus)"
            )
        spread, known = Spread(head.sources), []
        for name in chosen:
            rows = head.members[name]
            on_surface = ~np.isnan(head.sources.normals[rows, 0])
            if on_surface.any() and not on_surface.all():
                raise InputError(f"region {name!r} lies partly on a surface: choose others")
            sizes = head.sources.sizes[rows]
            shares: NDArray[np.float64] = sizes / sizes.sum()
            known.append((head.regions.index(name), rows, shares, bool(on_surface[0])))

        def draw(rng: np.random.Generator) -> list[ActiveSource]:
            count = int(rng.integers(*self.n_sources, endpoint=True))
            places = rng.permutation(len(known))[:count]
            moments = log_uniform(rng, self.moment, count)
            signs = 1.0 - 2.0 * rng.integers(2, size=count)
            directions = random_directions(rng, count)
            result = []
            for k, moment, sign, direction in zip(places, moments, signs, directions, strict=True):
                region, rows, shares, on_surface = known[k]
                facts = {"region": region, "n_members": len(rows), "moment": moment}
                if on_surface:
                    facts["moment"] = moment * sign
                    parts = spread(rows, moment * sign * shares)
                else:
                    facts["direction"] = direction
                    parts = spread(rows, moment * shares, direction)
                result.append(ActiveSource(*parts, facts))
            return result

        return draw


@dataclass(frozen=True)
class Zones:
    """Thalamic zones alone, with cortex, and cortex alone: the control.

    Parameters
    ----------
    zones : Regions
        One of the thalamic zones of the template head without.
    cortex : Patches or Regions
        One patch without.
    chances : tuple of float
        Probabilities of zones alone, zones and cortex, and cortex alone (a third each is chosen
        here).

    Raises
    ------
    InputError
        If the chances are not those of a whole; for a head, if it has no such zones or no cortex.

    Examples
    --------
    >>> Zones(chances=(0.0, 0.0, 1.0)).facts["part"].attrs["meaning"]
    '0 a zone, 1 cortex'
    """

    zones: Regions = field(default_factory=lambda: Regions("thalamus-*"))
    cortex: Scenario = field(default_factory=lambda: Patches(n_sources=(1, 1)))
    chances: tuple[float, float, float] = (1 / 3, 1 / 3, 1 / 3)

    def __post_init__(self) -> None:
        if len(self.chances) != 3 or min(self.chances) < 0 or not np.isclose(sum(self.chances), 1):
            raise InputError(
                f"chances are {self.chances}: give those of zones alone, zones and cortex, and "
                "cortex alone, which sum to 1"
            )

    @property
    def facts(self) -> Mapping[str, Variable]:
        """Zone or cortex, and what both tell of themselves."""
        return {"part": _PART, **self.zones.facts, **self.cortex.facts}

    def on(self, head: Head) -> Draw:
        """Return what draws zones and cortex of a head."""
        alone, both, control = self.chances
        parts: dict[int, Draw] = {}
        if alone + both > 0:
            parts[0] = self.zones.on(head)
        if both + control > 0:
            parts[1] = self.cortex.on(head)
        steps = np.cumsum(self.chances)

        def draw(rng: np.random.Generator) -> list[ActiveSource]:
            case = int(np.searchsorted(steps, rng.random() * steps[-1], side="right"))
            present = ((0,), (0, 1), (1,))[case]
            return [
                replace(source, facts={**source.facts, "part": part})
                for part in present
                for source in parts[part](rng)
            ]

        return draw
