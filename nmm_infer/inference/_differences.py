"""Derivatives of a likelihood's mean by central differences, many points as one batch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nmm_infer.inference._likelihood import Likelihood

__all__ = ["STEP", "in_batches", "jacobians"]

#: Distance of the differences in probit space, where the prior has a standard deviation of 1.
#: Simulations in float32 leave an error of about 1e-6 / STEP, the differences one of STEP**2; along
#: an exact ridge of the Jansen-Rit column the sum of both was least here.
STEP = 3e-3
#: Numbers of a batch of means, m times the points.
_BATCH = 20_000_000

Array = NDArray[np.float64]


def jacobians(
    likelihood: Likelihood, z: Array, step: float = STEP
) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Return means and their derivatives in probit space.

    Parameters
    ----------
    likelihood : Likelihood
        The likelihood.
    z : numpy.ndarray, shape (n, k)
        Where.
    step : float
        Half the distance between the two points of a difference.

    Returns
    -------
    means : numpy.ndarray, shape (n, m)
        In whitened units.
    derivatives : numpy.ndarray, shape (n, m, k)
        By central differences; one-sided where the model holds on one side only, and zero where it
        holds on neither.
    valid : numpy.ndarray of bool, shape (n,)
        Whether the model holds at the point itself.
    """
    z = np.atleast_2d(np.asarray(z, dtype=float))
    n, k = z.shape
    offsets = np.concatenate([np.zeros((1, k)), step * np.eye(k), -step * np.eye(k)])
    means, inside = likelihood.mean((z[:, None] + offsets).reshape(-1, k))
    means = np.asarray(means, dtype=float).reshape(n, 2 * k + 1, -1)
    inside = np.asarray(inside).reshape(n, 2 * k + 1)
    up, down = inside[:, 1 : k + 1, None], inside[:, k + 1 :, None]
    above = np.where(up, means[:, 1 : k + 1], means[:, :1])
    below = np.where(down, means[:, k + 1 :], means[:, :1])
    width = step * (up.astype(float) + down)
    slopes = np.where(width > 0, (above - below) / np.maximum(width, step), 0.0)
    return means[:, 0], np.swapaxes(slopes, 1, 2), inside[:, 0]


def in_batches(n: int, numbers: int) -> list[slice]:
    """Divide ``n`` points, each of which needs so many numbers, into batches."""
    size = max(1, _BATCH // max(numbers, 1))
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]
