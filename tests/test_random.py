"""Streams and keys, against SplitMix64 in Python integers."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from nmm_infer._random import generator, keys

WORD = 2**64 - 1
GAMMA = 0x9E3779B97F4A7C15


def scramble(z: int) -> int:
    z &= WORD
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & WORD
    return z ^ (z >> 31)


def splitmix64(state: int, number: int) -> int:
    """Return output ``number`` of SplitMix64 (Steele, Lea and Flood 2014), counted from 0."""
    return scramble(state + (number + 1) * GAMMA)


def joined(words: np.ndarray) -> np.ndarray:
    return words[0].astype(np.uint64) | (words[1].astype(np.uint64) << np.uint64(32))


def test_oracle_gives_the_published_first_output():
    assert splitmix64(0, 0) == 0xE220A8397B1DCDAF


@pytest.mark.parametrize(("seed", "stream"), [(0, "noise"), (7, "noise"), (0, "noise/test")])
def test_keys_are_splitmix64_of_index_then_trial(seed, stream):
    index = np.array([0, 1, 2, 999_999, 2**40])
    trial = np.array([0, 5, 1, 2**31, 3])
    spawn = np.random.SeedSequence(seed, spawn_key=(zlib.crc32(stream.encode()),))
    first, second = (int(s) for s in spawn.generate_state(2, np.uint64))
    expected = [
        splitmix64(splitmix64(first, int(i)) ^ second, int(t))
        for i, t in zip(index, trial, strict=True)
    ]
    words = keys(seed, stream, index, trial)
    assert words.dtype == np.uint32
    assert words.shape == (2, 5)
    assert joined(words).tolist() == expected


def test_keys_of_a_million_runs_and_trials_are_unique():
    index, trial = np.divmod(np.arange(1_000_000), 20)
    for words in (keys(3, "noise", index, trial), keys(3, "noise", np.arange(1_000_000))):
        assert (np.diff(np.sort(joined(words))) > 0).all()


def test_words_of_keys_are_random_bits():
    many = np.arange(100_000)
    for words in (keys(3, "noise", many), keys(3, "noise", np.full(100_000, 5), many)):
        for word in words:
            bits = (word[:, None] >> np.arange(32, dtype=np.uint32)) & np.uint32(1)
            # Five standard errors; neighbours differ in half of their bits.
            assert np.abs(bits.mean(axis=0) - 0.5).max() < 5 * 0.5 / np.sqrt(100_000)
            changed = (bits[1:] != bits[:-1]).mean(axis=0)
            assert np.abs(changed - 0.5).max() < 5 * 0.5 / np.sqrt(100_000)


def test_keys_depend_on_seed_stream_index_and_trial_only():
    index = np.arange(1000)
    words = keys(3, "noise", index, 2)
    np.testing.assert_array_equal(words, keys(3, "noise", index, 2))
    np.testing.assert_array_equal(words[:, 500:510], keys(3, "noise", index[500:510], 2))
    np.testing.assert_array_equal(words[:, ::-1], keys(3, "noise", index[::-1], np.full(1000, 2)))
    others = [
        keys(4, "noise", index, 2),
        keys(3, "noise/test", index, 2),
        keys(3, "noise", index, 1),
        keys(3, "noise", index),
        keys(3, "noise", index + 1000, 2),
        keys(3, "noise", np.full(997, 2), index[3:]),  # index and trial are not exchangeable
    ]
    for other in others:
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
