"""Stimuli: what reaches a column from the outside world."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["volley"]


def volley(
    times: NDArray[np.float64],
    onset: ArrayLike,
    amplitude: ArrayLike,
    *,
    width: float = 0.005,
    order: int = 7,
) -> NDArray[np.float32]:
    r"""Return the firing rate of a short afferent volley.

    .. math:: p(t) = q \, (t / n w)^n \, e^{n - t / w}, \quad t > 0

    with its peak, ``amplitude`` q, reached ``order`` x ``width`` after the onset.

    Parameters
    ----------
    times : numpy.ndarray, shape (times,)
        Times in s.
    onset : array_like, shape (n,)
        Time in s at which the volley arrives.
    amplitude : array_like, shape (n,)
        Peak rate in 1/s.
    width : float
        Time constant w in s.
    order : int
        Exponent n.

    Returns
    -------
    numpy.ndarray of float32, shape (n, times)
        Rates in 1/s.

    References
    ----------
    Jansen BH, Rit VG (1995), Biological Cybernetics 73:357-366, section 4: the transient that
    models a visual stimulus, with n = 7 and w = 5 ms.
    """
    t = np.maximum(times[None, :] - np.atleast_1d(onset)[:, None], 0.0) / (order * width)
    shape = t**order * np.exp(order * (1 - t))
    return np.asarray(np.atleast_1d(amplitude)[:, None] * shape, dtype=np.float32)
