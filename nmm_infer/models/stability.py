"""Whether a column rests by itself or oscillates."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from nmm_infer._threads import n_threads
from nmm_infer.models.base import Model

__all__ = ["growth_rates", "jacobians", "resting_states", "stable_rest"]

_NEWTON_STEPS = 60
_BLOCK = 4096


def _slopes(
    model: Model, states: NDArray[np.float64], values: Mapping[str, NDArray[Any]]
) -> NDArray[np.float64]:
    """Return derivatives, shape (state, n)."""
    known = {**values, **dict(zip(model.state_names, states, strict=True))}
    names = inspect.signature(model.derivative).parameters
    with np.errstate(over="ignore", invalid="ignore"):
        slopes = model.derivative(**{name: known[name] for name in names})
    return np.stack([np.broadcast_to(s, states.shape[1:]) for s in slopes])


def _values(
    model: Model, inputs: Mapping[str, NDArray[Any]], constants: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """Return inputs and constants, those that are not given as published."""
    silent = {target: np.zeros(1) for target in model.targets}
    published = {name: np.full(1, value) for name, value in model.defaults.items()}
    return {**silent, **published, **inputs, **constants}


def jacobians(
    model: Model,
    states: NDArray[np.float64],
    inputs: Mapping[str, NDArray[Any]],
    constants: Mapping[str, NDArray[Any]],
) -> NDArray[np.float64]:
    """Return the Jacobians of a model's equations by central differences.

    Parameters
    ----------
    model : Model
        The model.
    states : numpy.ndarray, shape (state, n)
        Where.
    inputs, constants : mapping of str to numpy.ndarray, shapes that broadcast to (n,)
        Firing rates from outside [1/s] by target, and the model's constants.

    Returns
    -------
    numpy.ndarray, shape (n, state, state)
        Derivative of each slope (row) by each state (column).
    """
    values = _values(model, inputs, constants)
    n_states = len(states)
    # Potentials are of the order of mV, their derivatives larger by a rate.
    step = 1e-5 * np.maximum(1.0, np.abs(states))
    moved = np.tile(states[:, None, None], (1, 2, n_states, 1))
    k = np.arange(n_states)
    moved[k, 0, k] += step
    moved[k, 1, k] -= step
    up, down = np.moveaxis(_slopes(model, moved, values), 1, 0)
    return np.moveaxis((up - down) / (moved[k, 0, k] - moved[k, 1, k]), 2, 0)


def resting_states(
    model: Model, inputs: Mapping[str, NDArray[Any]], constants: Mapping[str, NDArray[Any]], n: int
) -> NDArray[np.float64]:
    """Return an equilibrium of each column, shape (state, n); NaN where none was found.

    The lowest one where the model knows its equilibria; else the one that Newton's method finds
    from zero.
    """
    if model.equilibrium is not None:
        every = {**dict.fromkeys(model.targets, np.zeros(1)), **inputs}
        columns = {**model.defaults, **constants}
        full = [
            {k: np.broadcast_to(np.asarray(v, dtype=float), (n,)) for k, v in part.items()}
            for part in (every, columns)
        ]
        with np.errstate(over="ignore"):
            return np.asarray(model.equilibrium(*full))
    values = _values(model, inputs, constants)
    states = np.zeros((len(model.states), n))
    size = np.zeros(n)
    for _ in range(_NEWTON_STEPS):
        matrix = jacobians(model, states, inputs, constants)
        slopes = _slopes(model, states, values)
        solvable = np.asarray(
            np.isfinite(matrix).all(axis=(1, 2)) & np.isfinite(slopes).all(axis=0)
        )
        solvable[solvable] = np.linalg.cond(matrix[solvable]) < 1e14
        step = np.full_like(states, np.nan)
        step[:, solvable] = np.linalg.solve(matrix[solvable], slopes.T[solvable][..., None])[
            ..., 0
        ].T
        states = states - step
        size = np.abs(step).max(axis=0) / (1.0 + np.abs(states).max(axis=0))
        if not (size > 1e-10).any():
            break
    states[:, ~(size < 1e-6)] = np.nan
    return states


def growth_rates(
    model: Model, inputs: Mapping[str, NDArray[Any]], constants: Mapping[str, NDArray[Any]], n: int
) -> NDArray[np.float64]:
    """Return how fast small departures from rest grow (above 0) or die out, shape (n,), 1/s.

    The largest real part of the eigenvalues at :func:`resting_states`. Above 0 a column leaves its
    rest by itself: it oscillates, or settles elsewhere. Infinite where no rest was found.

    Parameters
    ----------
    model : Model
        The model.
    inputs, constants : mapping of str to numpy.ndarray, shapes that broadcast to (n,)
        Constant firing rates from outside [1/s] by target; the model's constants that differ from
        the published values.
    n : int
        Number of columns.
    """

    def rates(
        states: NDArray[np.float64], matrix: NDArray[np.float64], found: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        result = np.full(len(found), np.inf)
        result[found] = np.linalg.eigvals(matrix[found]).real.max(axis=1)
        return result

    return _blockwise(model, inputs, constants, n, rates)


def stable_rest(
    model: Model, inputs: Mapping[str, NDArray[Any]], constants: Mapping[str, NDArray[Any]], n: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return where columns rest, and which of them stay there.

    What :func:`growth_rates` says of signs, in a fraction of its time: the criterion of Routh and
    Hurwitz on the characteristic polynomial, and eigenvalues where rounding leaves it in doubt.

    Parameters
    ----------
    model, inputs, constants, n
        See :func:`growth_rates`.

    Returns
    -------
    states : numpy.ndarray, shape (state, n)
        Resting states, NaN where there are none.
    stable : numpy.ndarray of bool, shape (n,)
        Whether small departures die out.
    """

    def stable(
        states: NDArray[np.float64], matrix: NDArray[np.float64], found: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        verdict = np.zeros(len(found), np.int8)
        _hurwitz(np.ascontiguousarray(matrix), found, verdict)
        doubt = found & (verdict == 0)
        if doubt.any():
            growth = np.linalg.eigvals(matrix[doubt]).real.max(axis=1)
            verdict[doubt] = np.where(growth < 0, 1, -1)
        return np.concatenate([states, (found & (verdict > 0))[None]]).T

    both = _blockwise(model, inputs, constants, n, stable)
    return np.ascontiguousarray(both[:, :-1].T), both[:, -1] > 0


Verdict = Callable[
    [NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]], NDArray[np.float64]
]


def _blockwise(
    model: Model,
    inputs: Mapping[str, NDArray[Any]],
    constants: Mapping[str, NDArray[Any]],
    n: int,
    verdict: Verdict,
) -> NDArray[np.float64]:
    """Ask ``verdict(states, jacobians, found)`` of some columns at a time."""

    def part(values: Mapping[str, NDArray[Any]], rows: slice) -> dict[str, NDArray[Any]]:
        return {k: v[rows] if np.shape(v) == (n,) else np.asarray(v) for k, v in values.items()}

    def block(start: int) -> NDArray[np.float64]:
        rows = slice(start, min(start + _BLOCK, n))
        own, columns = part(inputs, rows), part(constants, rows)
        states = resting_states(model, own, columns, rows.stop - rows.start)
        found = np.asarray(np.isfinite(states).all(axis=0))
        matrix = jacobians(model, np.nan_to_num(states), own, columns)
        found &= np.isfinite(matrix).all(axis=(1, 2))
        return verdict(states, matrix, found)

    starts = range(0, n, _BLOCK)
    if len(starts) == 1:
        return block(0)
    with ThreadPoolExecutor(n_threads()) as pool:
        return np.concatenate(list(pool.map(block, starts)))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _hurwitz(matrices, chosen, verdict):
    """Set 1 where all eigenvalues have negative real parts, -1 where one has not, 0 in doubt."""
    size = matrices.shape[1]
    a, m, product = np.empty((size, size)), np.empty((size, size)), np.empty((size, size))
    c = np.empty(size + 1)
    rows = np.zeros((3, size // 2 + 2))
    for i in range(len(matrices)):
        if not chosen[i]:
            continue
        a[:] = matrices[i]
        for _ in range(4):  # balanced by a diagonal similarity: rows and columns of like size
            for k in range(size):
                row = column = 0.0
                for j in range(size):
                    if j != k:
                        row += abs(a[k, j])
                        column += abs(a[j, k])
                if row > 0 and column > 0:
                    factor = np.sqrt(row / column)
                    for j in range(size):
                        a[j, k] *= factor
                    for j in range(size):
                        a[k, j] /= factor
        scale = 0.0
        for j in range(size):
            for k in range(size):
                scale = max(scale, abs(a[j, k]))
        a /= scale
        # Faddeev and LeVerrier: coefficients of det(s I - A), the highest first.
        m[:] = 0.0
        c[0] = 1.0
        for k in range(1, size + 1):
            for j in range(size):
                m[j, j] += c[k - 1]
            trace = 0.0
            for p in range(size):
                for q in range(size):
                    total = 0.0
                    for j in range(size):
                        total += a[p, j] * m[j, q]
                    product[p, q] = total
                trace += product[p, p]
            m[:] = product
            c[k] = -trace / k
        # Routh: the first column has one sign if and only if no eigenvalue lies to the right.
        rows[:] = 0.0
        for k in range(size + 1):
            rows[k % 2, k // 2] = c[k]
        answer = 1
        upper, lower, spare = 0, 1, 2
        largest = np.abs(c).max()
        for _ in range(size):
            pivot = rows[lower, 0]
            if abs(pivot) < 1e-9 * largest:
                answer = 0
                break
            if pivot < 0:
                answer = -1
                break
            ratio = rows[upper, 0] / pivot
            for j in range(rows.shape[1] - 1):
                rows[spare, j] = rows[upper, j + 1] - ratio * rows[lower, j + 1]
            rows[spare, rows.shape[1] - 1] = 0.0
            upper, lower, spare = lower, spare, upper
        verdict[i] = answer
