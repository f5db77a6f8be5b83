"""Gaussian blobs in the volume."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nmm_infer.anatomy import Head
from nmm_infer.campaign import Variable
from nmm_infer.errors import InputError
from nmm_infer.scenarios.patches import check_count, check_range
from nmm_infer.scenarios.truth import ActiveSource, Draw, Spread

__all__ = ["Blobs", "random_directions"]

_FACTS: Mapping[str, Variable] = {
    "centre": Variable((), "int32", {"units": "1", "meaning": "source at the centre of a blob"}),
    "sigma": Variable((), "float32", {"units": "mm", "meaning": "width of a blob"}),
    "direction": Variable(("axis",), "float32", {"units": "1", "meaning": "of all its moments"}),
    "amplitude": Variable(
        (), "float32", {"units": "nAm", "meaning": "signed Frobenius norm of its moments"}
    ),
}


@dataclass(frozen=True)
class Blobs:
    r"""One to many Gaussian blobs of activity, whatever tissue they lie in.

    A blob has the moment :math:`\alpha \, e^{-d^2 / 2 \sigma^2} / Z` in a source at the distance d
    from its centre, in a straight line, all along one direction. Z makes the root of the sum of
    squares of all moments 1, and :math:`\alpha \sim N(0, 1)` nAm. Centres are uniform over the
    sources, directions over the sphere.

    Parameters
    ----------
    n_sources : tuple of int
        Fewest and most blobs of a window, all numbers equally likely.
    sigma_mm : tuple of float
        Smallest and largest width in mm; uniform.

    Raises
    ------
    InputError
        If a range is empty or not possible; for a head, if it has no sources of free orientation.

    References
    ----------
    Morik M, Hashemi A, Müller K-R, Haufe S, Nakajima S (2025). IEEE Transactions on Medical
    Imaging, doi 10.1109/tmi.2025.3594724: the generator, with its numbers and widths as defaults.
    """

    n_sources: tuple[int, int] = (1, 20)
    sigma_mm: tuple[float, float] = (5.0, 40.0)

    def __post_init__(self) -> None:
        check_count("blobs", self.n_sources)
        check_range("sigma_mm", self.sigma_mm, "mm")

    @property
    def facts(self) -> Mapping[str, Variable]:
        """Centre, width, direction and amplitude of each blob."""
        return _FACTS

    def on(self, head: Head) -> Draw:
        """Return what draws blobs among the free sources of a head."""
        sources = head.sources
        rows = np.flatnonzero(sources.free)
        if not len(rows):
            raise InputError(
                "this head has no sources of free orientation, which blobs are made of: take a "
                "volume head"
            )
        places = (1000 * sources.positions[rows].T).astype(np.float32)
        components, _ = Spread(sources)(rows, np.ones(len(rows)), np.ones(3))

        def draw(rng: np.random.Generator) -> list[ActiveSource]:
            count = int(rng.integers(*self.n_sources, endpoint=True))
            centres = rng.integers(len(rows), size=count)
            sigmas = rng.uniform(*self.sigma_mm, count)
            amplitudes = rng.standard_normal(count)
            directions = random_directions(rng, count)
            square = np.zeros((count, len(rows)), np.float32)
            for axis in places:
                square += np.square(axis - axis[centres, None])
            profiles = np.exp(square * (-0.5 / sigmas**2).astype(np.float32)[:, None])
            sizes = amplitudes / np.linalg.norm(profiles, axis=1)
            along = (sizes[:, None] * directions).astype(np.float32)
            moments = (profiles[:, :, None] * along[:, None]).reshape(count, -1)
            return [
                ActiveSource(
                    components,
                    moments[k],
                    {
                        "centre": rows[centres[k]],
                        "sigma": sigmas[k],
                        "direction": directions[k],
                        "amplitude": amplitudes[k],
                    },
                )
                for k in range(count)
            ]

        return draw


def random_directions(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    """Draw unit vectors, uniform over the sphere, shape (n, 3)."""
    vectors = rng.standard_normal((n, 3))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
