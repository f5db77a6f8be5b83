"""Equilibria of columns whose balance is one scalar equation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["lowest_balance"]

_BLOCK = 2**14  # columns at a time: calls cost little, and the memory stays small
_RESOLUTION = 1e-2  # mV: two roots closer than this are taken for none


def lowest_balance(
    balance: Callable[..., NDArray[np.float64]], arguments: Mapping[str, NDArray[Any]]
) -> NDArray[np.float64]:
    r"""Return the lowest root v of ``balance(v, v) = v``.

    Parameters
    ----------
    balance : callable
        ``balance(rising, falling, **arguments)``: the potential [mV] at which a column holds
        itself, not decreasing in its first and not increasing in its second argument. Both are
        the same potential where it excites and where it inhibits the column.
    arguments : mapping of str to numpy.ndarray
        Inputs and constants, of shapes that broadcast to (n,).

    Returns
    -------
    numpy.ndarray of float64, shape (n,)
        The lowest root [mV].

    Notes
    -----
    On an interval [l, h] the balance is at least ``balance(l, h)``; where this exceeds h there is
    no root. Intervals are ruled out upwards from a bound of all roots, with steps from a secant,
    until the lowest root is enclosed within .01 mV; secants do the rest. No root is missed unless a
    second one lies within .01 mV.
    """
    shape = np.broadcast_shapes(*(np.shape(v) for v in arguments.values()), (1,))
    (n,) = shape
    roots = np.empty(n)
    for start in range(0, n, _BLOCK):
        part = {
            name: value[start : start + _BLOCK] if np.shape(value) == (n,) else value
            for name, value in arguments.items()
        }
        roots[start : start + _BLOCK] = _lowest(balance, part, min(_BLOCK, n - start))
    return roots


def _lowest(
    balance: Callable[..., NDArray[np.float64]], arguments: Mapping[str, NDArray[Any]], n: int
) -> NDArray[np.float64]:
    # A root is at least balance(-inf, root): below zero that is at least balance(-inf, 0).
    with np.errstate(over="ignore"):
        floor = balance(np.full(n, -1e3), np.zeros(n), **arguments)
    low = np.minimum(floor, 0.0) - _RESOLUTION
    high, f_low, f_high = np.full((3, n), np.nan)
    rows, part, l = np.arange(n), arguments, low
    gap, step = balance(l, l, **part) - l, np.full(n, 0.5)
    for _ in range(100_000):
        top = l + step
        slack = balance(l, top, **part) - top
        over = balance(top, top, **part) - top
        fine = step <= _RESOLUTION
        found = fine & (over <= 0)  # at the finest step the sign decides
        passed = (slack > 0) | (fine & (over > 0))
        high[rows[found]], f_high[rows[found]] = top[found], over[found]
        slope = (gap - slack) / step
        l, gap = np.where(passed, top, l), np.where(passed, over, gap)
        step = np.maximum(0.95 * gap / slope, _RESOLUTION)
        low[rows], f_low[rows] = l, gap
        open_ = np.isnan(high[rows])
        if not open_.any():
            break
        if np.count_nonzero(open_) < 0.6 * len(rows):
            part = {
                k: v[open_] if np.shape(v) == (len(rows),) and len(rows) > 1 else v
                for k, v in part.items()
            }
            rows, l, gap, step = rows[open_], l[open_], gap[open_], step[open_]
    bottom, top, f_bottom, f_top = low, high, f_low, f_high
    for _ in range(4):  # secants within .01 mV of a simple root: the error falls to rounding
        with np.errstate(divide="ignore", invalid="ignore"):
            middle = top - f_top * (top - bottom) / (f_top - f_bottom)
        middle = np.where(np.isfinite(middle), np.clip(middle, low, high), top)
        bottom, f_bottom = top, f_top
        top, f_top = middle, balance(middle, middle, **arguments) - middle
    return np.asarray(top)
