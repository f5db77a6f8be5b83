"""Streams and keys, against SplitMix64 in Python integers."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from nmm_infer._random import generator, keys

WORD = 2**64 - 1


def splitmix64(state: int, number: int) -> int:
    """Return output ``number`` of SplitMix64 (Steele, Lea and Flood 2014), counted from 0."""
    z = (state + (number + 1) * 0x9E3779B97F4A7C15) & WORD
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & WORD
    return z ^ (z >> 31)


def joined(words: np.ndarray) -> np.ndarray:
    return words[0].astype(np.uint64) | (words[1].astype(np.uint64) << np.uint64(32))


def test_oracle_gives_the_published_first_output():
    assert splitmix64(0, 0) == 0xE220A8397B1DCDAF


@pytest.mark.parametrize(("seed", "stream"), [(0, "noise"), (7, "noise"), (0, "noise/test")])
def test_keys_are_splitmix64_of_the_stream(seed, stream):
    index = np.array([0, 1, 2, 999_999, 2**40])
    spawn = np.random.SeedSequence(seed, spawn_key=(zlib.crc32(stream.encode()),))
    state = int(spawn.generate_state(1, np.uint64)[0])
    expected = [splitmix64(state, int(i)) for i in index]
    words = keys(seed, stream, index)
    assert words.dtype == np.uint32
    assert joined(words).tolist() == expected


def test_keys_of_a_million_runs_are_unique():
    assert np.unique(joined(keys(3, "noise", np.arange(1_000_000)))).size == 1_000_000


def test_keys_depend_on_seed_stream_and_index_only():
    index = np.arange(1000)
    words = keys(3, "noise", index)
    np.testing.assert_array_equal(words, keys(3, "noise", index))
    np.testing.assert_array_equal(words[:, 500:510], keys(3, "noise", index[500:510]))
    np.testing.assert_array_equal(words[:, ::-1], keys(3, "noise", index[::-1]))
    for other in (keys(4, "noise", index), keys(3, "noise/test", index)):
        assert not np.isin(joined(other), joined(words)).any()


def test_generator_is_repeatable():
    first = generator(5, "prior/training", 2).random(1000)
    np.testing.assert_array_equal(first, generator(5, "prior/training", 2).random(1000))


@pytest.mark.parametrize(
    "other",
    [
        (6, "prior/training", 2),
        (5, "prior/test", 2),
        (5, "prior/training", 3),
        (5, "prior/training"),
    ],
)
def test_generators_of_other_streams_are_uncorrelated(other):
    first = generator(5, "prior/training", 2).standard_normal(100_000)
    second = generator(*other).standard_normal(100_000)
    assert not np.isin(second, first).any()
    assert abs(np.corrcoef(first, second)[0, 1]) < 4 / np.sqrt(100_000)
