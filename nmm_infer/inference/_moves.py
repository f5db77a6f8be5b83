"""Moves of an ensemble of walkers with emcee, and draws from weighted points."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import emcee
import numpy as np
from numpy.typing import NDArray

__all__ = ["Moved", "move", "resample"]

Array = NDArray[np.float64]

#: Differential evolution with the factor of ter Braak (2006), now and then with the factor 1, which
#: jumps between modes, and stretches (Goodman and Weare 2010).
_SHARES = {"within": 0.7, "between": 0.1, "stretch": 0.2}


@dataclass(frozen=True)
class Moved:
    """What became of an ensemble.

    Parameters
    ----------
    kept : numpy.ndarray, shape (snapshot, walker, parameter)
        The ensemble at equal distances in steps; the last is where it ended.
    acceptance : float
        Share of proposals that were accepted.
    """

    kept: Array
    acceptance: float


def move(
    log_prob: Callable[[Array], Array],
    start: Array,
    steps: int,
    rng: np.random.Generator,
    *,
    every: int | None = None,
    moves: list[tuple[Any, float]] | None = None,
) -> Moved:
    """Move an ensemble of walkers, which share one vectorised density.

    Parameters
    ----------
    log_prob : callable
        Log density of points (n, parameter), shape (n,).
    start : numpy.ndarray, shape (walker, parameter)
        Where the walkers are.
    steps : int
        Evaluations for each walker.
    rng : numpy.random.Generator
        Source of a seed for emcee.
    every : int, optional
        Steps from one snapshot to the next; the last one only, without.
    moves : list of (emcee move, weight), optional
        Moves beside the default ones.

    Returns
    -------
    Moved
        Snapshots and acceptance.
    """
    walkers, n = start.shape
    default = [
        (emcee.moves.DEMove(), _SHARES["within"]),
        (emcee.moves.DEMove(gamma0=1.0), _SHARES["between"]),
        (emcee.moves.StretchMove(), _SHARES["stretch"]),
    ]
    sampler = emcee.EnsembleSampler(
        walkers, n, log_prob, vectorize=True, moves=default + (moves or [])
    )
    state = np.random.RandomState(int(rng.integers(2**32))).get_state()  # what emcee takes
    sampler.random_state = state
    every = steps if every is None else every
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        warnings.simplefilter("ignore")  # -inf less -inf, where a walker starts outside
        sampler.run_mcmc(start, steps, skip_initial_state_check=True, progress=False)
    kept = np.asarray(sampler.get_chain()[every - 1 :: every], dtype=float)
    return Moved(kept, float(np.mean(sampler.acceptance_fraction)))


def resample(weights: Array, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return ``n`` positions in proportion to weights, by systematic resampling, shuffled."""
    total = np.cumsum(weights / weights.sum())
    points = (rng.random() + np.arange(n)) / n
    return np.asarray(rng.permutation(np.minimum(np.searchsorted(total, points), len(total) - 1)))
