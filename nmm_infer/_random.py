"""One door to randomness: named, independent streams under one seed."""

from __future__ import annotations

import zlib

import numpy as np

__all__ = ["generator", "keys"]


def _sequence(seed: int, stream: str, *counters: int) -> np.random.SeedSequence:
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


def keys(seed: int, stream: str, index: np.ndarray) -> np.ndarray:
    """Return a 64-bit key for each counter-based noise stream of a batch.

    Parameters
    ----------
    seed : int
        The seed of the study.
    stream : str
        The name of the stream.
    index : numpy.ndarray of int, shape (n,)
        Absolute simulation numbers, so that a run has the same key in every batch.

    Returns
    -------
    numpy.ndarray of uint32, shape (2, n)
        The two words of each key.
    """
    state = _sequence(seed, stream).generate_state(1, np.uint64)[0]
    with np.errstate(over="ignore"):
        # SplitMix64 (Steele, Lea and Flood 2014): a bijection, so no two indices share a key.
        z = state + (np.asarray(index, dtype=np.uint64) + np.uint64(1)) * np.uint64(
            0x9E3779B97F4A7C15
        )
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return np.stack([(z & np.uint64(0xFFFFFFFF)), z >> np.uint64(32)]).astype(np.uint32)
