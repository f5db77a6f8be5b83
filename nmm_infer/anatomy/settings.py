"""What may differ from one head to another: conductivities, size, shape and electrodes."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral

import numpy as np
from numpy.typing import NDArray

from nmm_infer import _random
from nmm_infer.anatomy._checks import is_number
from nmm_infer.errors import InputError

__all__ = ["TEMPLATE", "HeadSettings"]

_POSITIVE = ("brain", "skull", "scalp", "size")
_MILLIMETRES = ("deformation", "electrode_shift")
_RADIUS_MM = 90.0  # about that of a head; enough to see whether a map folds


@dataclass(frozen=True)
class HeadSettings:
    """How a head departs from the template, and what it is made of.

    Parameters
    ----------
    brain, skull, scalp : float
        Conductivities, S/m. The defaults .3, .006 and .3 are MNE-Python's. Skulls of .004 to
        .015 are 75 to 20 times less conductive than this brain, between the ratios of Rush and
        Driscoll (1968, Anesth. Analg. 47:717-723; 80) and of Oostendorp et al. (2000, IEEE Trans.
        Biomed. Eng. 47:1487-1492; 15).
    size : float
        Every length over the template's; electrodes move along.
    deformation : float
        Root-mean-square displacement of the outer skin, mm, by a smooth quadratic map of the whole
        head, electrodes included: another head geometry, drawn from ``seed`` and **made here**, no
        person's anatomy. Points keep their numbers, so source k is the same place in every head.
    electrode_shift : float
        Root-mean-square shift of each electrode along the scalp, mm, independently drawn from
        ``seed``.
    cap_shift : tuple of float
        Shift of the whole cap along the scalp: forward and to the right, mm at the vertex.
    mesh : {3, 4}
        Fineness of the boundary elements: 642 vertices a layer (half a minute), or 2,562 (minutes
        and 2.5 GB). Either is extrapolated from the next coarser one.
    seed : int
        Seed of deformation and electrode shifts.

    Raises
    ------
    InputError
        If a conductivity or the size is not positive, a length is negative or not finite, or the
        seed is negative or not whole.
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - what a study reads it with

    brain: float = 0.3
    skull: float = 0.006
    scalp: float = 0.3
    size: float = 1.0
    deformation: float = 0.0
    electrode_shift: float = 0.0
    cap_shift: tuple[float, float] = (0.0, 0.0)
    mesh: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        for name in _POSITIVE:
            value = getattr(self, name)
            if not (is_number(value) and value > 0):
                raise InputError(f"{name} must be positive, not {value}.")
        for name in ("brain", "skull", "scalp"):
            value = getattr(self, name)
            if value > 10:
                raise InputError(f"{name}: {value} S/m is more than any tissue has; give S/m.")
        if not 0.5 <= self.size <= 2.0:
            raise InputError(
                f"size is a factor between .5 and 2 of the template's, not {self.size}."
            )
        for name in _MILLIMETRES:
            value = getattr(self, name)
            if not (is_number(value) and 0 <= value <= 50):
                raise InputError(f"{name} must be between 0 and 50 mm, not {value}.")
        shift = np.ravel(self.cap_shift).tolist()
        if len(shift) != 2 or not all(is_number(k) and abs(k) <= 50 for k in shift):
            raise InputError(f"cap_shift is two numbers up to 50 mm, not {self.cap_shift}.")
        if not isinstance(self.seed, Integral) or self.seed < 0:
            raise InputError(f"seed must not be negative, and whole, not {self.seed!r}.")
        if self.mesh not in (3, 4):
            raise InputError(f"mesh is 3 or 4, not {self.mesh}.")

    @property
    def conductivity(self) -> tuple[float, float, float]:
        """Conductivities of brain, skull and scalp, S/m."""
        return self.brain, self.skull, self.scalp

    @property
    def same_shape(self) -> bool:
        """Whether the surfaces are the template's own."""
        return self.size == 1.0 and not self.deformation

    @property
    def same_places(self) -> bool:
        """Whether the electrodes are where the template has them."""
        return self.same_shape and not self.electrode_shift and not any(self.cap_shift)

    @classmethod
    def draw(
        cls,
        n: int,
        *,
        seed: int = 0,
        skull: tuple[float, float] = (0.004, 0.015),
        size: tuple[float, float] = (0.95, 1.05),
        deformation: float = 5.0,
        electrode_shift: float = 5.0,
    ) -> list[HeadSettings]:
        """Draw heads at random, for training and testing on heads that were not seen.

        Parameters
        ----------
        n : int
            Number of heads.
        seed : int
            Seed of the draws; each head has a seed of its own for what is drawn inside it.
        skull : tuple of float
            Range of the skull's conductivity, S/m, uniform in its logarithm.
        size : tuple of float
            Range of the size, uniform.
        deformation, electrode_shift : float
            Root-mean-square displacements, mm.

        Returns
        -------
        list of HeadSettings
        """
        if not isinstance(n, Integral) or n < 0:
            raise InputError(f"n is a number of heads, 0 or more, not {n!r}.")
        for name, (low, high) in {"skull": skull, "size": size}.items():
            if not 0 < low <= high:
                raise InputError(f"{name} is a range of positive numbers, not {low} to {high}.")
        rng = _random.generator(seed, "heads")
        heads = []
        for number in range(n):
            conductivity = float(np.exp(rng.uniform(*np.log(skull))))
            heads.append(
                cls(
                    skull=conductivity,
                    size=float(rng.uniform(*size)),
                    deformation=deformation,
                    electrode_shift=electrode_shift,
                    seed=int(_random.generator(seed, "heads/seeds", number).integers(2**31)),
                )
            )
        return heads

    def describe(self) -> str:
        """Say in a sentence what differs from the template; empty where nothing does."""
        parts = []
        if self.conductivity != TEMPLATE.conductivity:
            parts.append("conductivities {:g}, {:g}, {:g} S/m".format(*self.conductivity))
        if self.size != 1.0:
            parts.append(f"{self.size:g} times the template's size")
        if self.deformation:
            parts.append(
                f"smoothly deformed by {self.deformation:g} mm (a geometry made by this package, "
                "no person's)"
            )
        if self.electrode_shift:
            parts.append(f"electrodes shifted by {self.electrode_shift:g} mm each")
        if any(self.cap_shift):
            parts.append("cap shifted by {:g} mm forward, {:g} mm right".format(*self.cap_shift))
        return f"Departs from the template: {'; '.join(parts)}." if parts else ""

    def warp(self, points: NDArray[np.float64], skin: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map places of the template to this head.

        Parameters
        ----------
        points : array, shape (n, 3)
            Places in the template, mm, "mri" frame.
        skin : array, shape (n_skin, 3)
            The template's outer skin, mm: its mean is where scaling starts from, and `deformation`
            is the root-mean-square displacement over it.

        Returns
        -------
        array, shape (n, 3)
            The same places in this head, mm.

        Raises
        ------
        InputError
            If the deformation would fold the head.
        """
        centre = skin.mean(axis=0)
        radius = np.linalg.norm(skin - centre, axis=1).mean()
        moved = np.asarray(points, np.float64) - centre
        if self.deformation:
            moved = moved + _displacement(self, moved / radius, (skin - centre) / radius)
        return centre + self.size * moved


def _displacement(
    settings: HeadSettings, points: NDArray[np.float64], skin: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Give the smooth displacement of points, mm; lengths are radii of the head.

    All quadratic polynomials without constant part and rotation, with standard normal
    coefficients, less their mean over the skin, scaled to the root mean square that was asked for.
    """
    rng = _random.generator(settings.seed, "heads/deformation")
    stretch = rng.standard_normal((3, 3))
    bend = rng.standard_normal((6, 3))

    def shape(q: NDArray[np.float64]) -> NDArray[np.float64]:
        return q @ (stretch + stretch.T) / 2 + _quadratic(q) @ bend

    mean = shape(skin).mean(axis=0)
    amount = settings.deformation / np.sqrt(((shape(skin) - mean) ** 2).sum(axis=1).mean())
    # The map does not fold where its Jacobian is positive.
    step, radius = 1e-4, _RADIUS_MM
    slopes = [(shape(skin + d) - shape(skin - d)) / (2 * step) for d in step * np.eye(3)]
    jacobian = np.eye(3) + amount / radius * np.stack(slopes, axis=1)
    if np.linalg.det(jacobian).min() < 0.3:
        raise InputError(
            f"deformation {settings.deformation:g} mm folds the head: take a smaller one"
        )
    return np.asarray(amount * (shape(points) - mean))


def _quadratic(q: NDArray[np.float64]) -> NDArray[np.float64]:
    x, y, z = q.T
    return np.stack([x * x, y * y, z * z, x * y, y * z, z * x], axis=1)


TEMPLATE = HeadSettings()
