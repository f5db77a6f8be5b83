"""One door to randomness: named, independent streams under one seed."""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nmm_infer.errors import InputError

__all__ = ["generator", "keys", "uniforms"]


def _sequence(seed: int, stream: str, *counters: int) -> np.random.SeedSequence:
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise InputError(f"seed must be a whole number of at least 0, got {seed}")
    return np.random.SeedSequence(
        entropy=seed, spawn_key=(zlib.crc32(stream.encode()), *(int(c) for c in counters))
    )


def generator(seed: int, stream: str, *counters: int) -> np.random.Generator:
    """Return the generator of one named stream.

    Parameters
    ----------
    seed : int
        The seed of the study, non-negative.
    stream : str
        What the numbers are for, e.g. ``"prior/training"``. Different names are independent.
    *counters : int
        Further non-negative keys, e.g. an epoch or a chunk.

    Returns
    -------
    numpy.random.Generator
        A generator that depends on nothing but the arguments.
    """
    return np.random.default_rng(_sequence(seed, stream, *counters))


def keys(seed: int, stream: str, index: ArrayLike, trial: ArrayLike = 0) -> NDArray[np.uint32]:
    """Return a 64-bit key for each counter-based noise stream of a batch.

    Parameters
    ----------
    seed : int
        The seed of the study.
    stream : str
        The name of the stream.
    index : array_like of int, shape (n,)
        Absolute simulation numbers, so that a run has the same key in every batch.
    trial : array_like of int, shape broadcastable to (n,)
        Numbers of repetitions of one simulation.

    Returns
    -------
    numpy.ndarray of uint32, shape (2, n)
        The two words of each key.
    """
    z = _words(seed, stream, index, trial)
    return np.stack([(z & np.uint64(0xFFFFFFFF)), z >> np.uint64(32)]).astype(np.uint32)


def uniforms(seed: int, stream: str, index: ArrayLike, count: int) -> NDArray[np.float64]:
    """Return some uniform draws for each simulation of a batch.

    Parameters
    ----------
    seed : int
        The seed of the study.
    stream : str
        The name of the stream.
    index : array_like of int, shape (n,)
        Absolute simulation numbers, so that a run has the same draws in every batch.
    count : int
        Draws for each simulation.

    Returns
    -------
    numpy.ndarray of float64, shape (n, count)
        Numbers in [0, 1), with 53 random bits.
    """
    state = _words(seed, stream, index)
    with np.errstate(over="ignore"):
        z = _scramble(state[:, None] + _whole(np.arange(count)) * _GAMMA)
    return np.asarray((z >> np.uint64(11)) * 2.0**-53, dtype=np.float64)


def _words(seed: int, stream: str, index: ArrayLike, trial: ArrayLike = 0) -> NDArray[np.uint64]:
    """Return 64 bits that belong to one simulation and trial."""
    state = _sequence(seed, stream).generate_state(2, np.uint64)
    with np.errstate(over="ignore"):
        z = _scramble(state[0] + _whole(index) * _GAMMA)
        return _scramble((z ^ state[1]) + _whole(np.broadcast_to(trial, z.shape)) * _GAMMA)


_GAMMA = np.uint64(0x9E3779B97F4A7C15)


def _whole(numbers: ArrayLike) -> NDArray[np.uint64]:
    return np.asarray(numbers, dtype=np.uint64) + np.uint64(1)


def _scramble(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Mix 64 bits: SplitMix64 (Steele, Lea and Flood 2014), a bijection."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(z ^ (z >> np.uint64(31)))
