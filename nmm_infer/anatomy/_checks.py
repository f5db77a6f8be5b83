"""Mistakes in geometry that would otherwise become wrong numbers."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

import mne
import numpy as np
from numpy.typing import NDArray

from nmm_infer.errors import InputError

__all__ = [
    "AROUND",
    "MAX_RADIUS",
    "MIN_RADIUS",
    "check_inside",
    "check_metres",
    "checked_covariance",
    "fit_sphere",
    "is_number",
    "is_position",
]

# Metres: no head's electrodes lie on a smaller or larger sphere.
MIN_RADIUS, MAX_RADIUS = 0.05, 0.16
AROUND = 2.2  # condition number: caps of 16 to 335 electrodes have 1.3 to 2
_SLACK = 1.25  # of the radius: so far from a sphere is a head, seen by such a cap
_OFF = 0.2  # metres: the origin of head coordinates lies between the ears
_ROUNDING = 1e-6  # of the mean variance of a kind of channels


def is_number(value: Any) -> bool:
    """Say whether this is one finite real number."""
    return isinstance(value, Real) and math.isfinite(value)


def is_position(loc: NDArray[np.float64]) -> bool:
    """Say whether a channel's location is one: finite and not all zero."""
    return bool(np.isfinite(loc).all() and np.any(loc != 0))


def fit_sphere(
    points: NDArray[np.float64], condition: float = 1e4
) -> tuple[NDArray[np.float64], float] | None:
    """Fit a sphere by least squares: centre and radius; None where the points fix none.

    `condition` is the worst condition number of the problem, 1 for points all around.
    """
    if len(points) < 4:
        return None
    mean = points.mean(axis=0)
    centred = points - mean
    size = np.sqrt((centred**2).sum(axis=1).mean())
    if size == 0:
        return None
    design = np.column_stack([2 * centred / size, np.ones(len(points))])
    if np.linalg.cond(design) > condition:
        return None
    solution = np.linalg.lstsq(design, ((centred / size) ** 2).sum(axis=1), rcond=None)[0]
    radius = np.sqrt(solution[3] + solution[:3] @ solution[:3])
    return mean + size * solution[:3], float(size * radius)


def check_metres(points: NDArray[np.float64], what: str, least: float = 0.01) -> None:
    """Refuse places that are plainly not in metres.

    Parameters
    ----------
    points : array, shape (n, 3)
        Places that should be within a head.
    what : str
        Their name in the message, e.g. "electrode positions".
    least : float
        Least median distance from their middle, metres; 0 for sources, which may be one place.
    """
    if not np.isfinite(points).all():
        raise InputError(f"The {what} are not finite.")
    if not len(points):
        return
    spread = float(np.median(np.linalg.norm(points - points.mean(axis=0), axis=1)))
    if least <= spread < 0.3:
        away = float(np.median(np.linalg.norm(points, axis=1)))
        if away > _OFF:
            raise InputError(
                f"The {what} are {away:.3g} m from the origin of head coordinates, which lies "
                "between the ears: metres in head coordinates are needed."
            )
        return
    for factor, unit in ((1e3, "millimetres"), (1e2, "centimetres"), (10.0, "decimetres")):
        if 0.01 < spread / factor < 0.3:
            raise InputError(
                f"The {what} are {spread:.3g} m from their middle: they look like {unit}. Divide "
                f"them by {factor:g}; metres are needed."
            )
    raise InputError(
        f"The {what} are {spread:.3g} m from their middle, which is no head: metres are needed."
    )


def check_inside(positions: NDArray[np.float64], info: mne.Info) -> None:
    """Refuse sources that lie outside the sphere of the EEG electrodes, if these fix it well.

    A few electrodes, or a cap over a part of the head, do not say where the head ends.

    Parameters
    ----------
    positions : array, shape (source, 3)
        Metres, the frame of the electrodes.
    info : mne.Info
        Channels; of others than EEG nothing is asked.
    """
    picks = mne.pick_types(info, meg=False, eeg=True, exclude=[])
    places = np.array([info["chs"][k]["loc"][:3] for k in picks]).reshape(-1, 3)
    places = places[[is_position(place) for place in places]] if len(places) else places
    sphere = fit_sphere(places, AROUND)
    check_metres(positions, "source positions", least=0.0)
    if sphere is None:
        return
    centre, radius = sphere
    reach = np.linalg.norm(positions - centre, axis=1)
    outside = np.flatnonzero(reach > _SLACK * radius)
    if outside.size:
        k = int(outside[0])
        raise InputError(
            f"{outside.size} of {len(positions)} sources lie outside the head, source {k} for one: "
            f"{1000 * reach[k]:.0f} mm from the centre of the electrodes' sphere, whose radius is "
            f"{1000 * radius:.0f} mm. Sources and electrodes must be in one frame, in metres."
        )


def checked_covariance(
    covariance: mne.Covariance, info: mne.Info, what: str = "noise covariance"
) -> mne.Covariance:
    """Pick the channels of a recording from a covariance, and refuse what is none.

    Parameters
    ----------
    covariance : mne.Covariance
        Of these channels or more; it may lack rank.
    info : mne.Info
        The channels.
    what : str
        Its name in messages.

    Returns
    -------
    mne.Covariance
        Of exactly these channels, in their order.

    Raises
    ------
    InputError
        If a channel is missing, or the matrix is not finite, not symmetric, zero, or has a
        negative eigenvalue.
    """
    names = list(info["ch_names"])
    missing = sorted(set(names) - set(covariance.ch_names))
    if missing:
        raise InputError(f"The {what} lacks channel(s) {', '.join(missing[:5])}.")
    picked = covariance.copy().pick_channels(names, ordered=True, verbose="error")
    matrix = np.diag(picked.data) if picked.data.ndim == 1 else np.asarray(picked.data)
    if not np.isfinite(matrix).all():
        raise InputError(f"The {what} is not finite.")
    if not np.any(matrix):
        raise InputError(f"The {what} is zero: it has rank 0.")
    kinds, scale = np.array(info.get_channel_types()), np.ones(len(names))
    for kind in set(kinds):
        scale[kinds == kind] = np.sqrt(np.abs(np.diag(matrix)[kinds == kind]).mean()) or 1.0
    relative = matrix / np.outer(scale, scale)
    if not np.allclose(relative, relative.T, rtol=0.0, atol=_ROUNDING):
        raise InputError(f"The {what} is not symmetric: it is no covariance.")
    if np.linalg.eigvalsh(relative)[0] < -_ROUNDING * len(names):
        raise InputError(f"The {what} has a negative eigenvalue: it is no covariance.")
    return picked
