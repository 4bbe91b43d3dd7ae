from __future__ import annotations

import numpy as np
import pytest

from signs_dist.data.randomness import Stream, mix, stream_key, uniform
from tests.data.chi_square import chi_square, chi_square_limit, pair_table

GOLDEN, FIRST, SECOND, WORD = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 2**64


def mix_one(word: int) -> int:
    """The finaliser in whole numbers, to compare with."""
    word = (word ^ (word >> 30)) * FIRST % WORD
    word = (word ^ (word >> 27)) * SECOND % WORD
    return word ^ (word >> 31)


def test_mix_gives_the_published_first_numbers_of_splitmix64() -> None:
    words = np.array([GOLDEN, 2 * GOLDEN % WORD, 3 * GOLDEN % WORD], np.uint64)
    assert [hex(word) for word in mix(words).tolist()] == [
        "0xe220a8397b1dcdaf",
        "0x6e789e6aa1b965f4",
        "0x6c45d188009454f",
    ]


def test_keys_and_draws_are_what_whole_numbers_give() -> None:
    word = 0
    for number in (7, int(Stream.AUGMENT), 3):
        word = mix_one((word + GOLDEN) % WORD ^ mix_one((number * GOLDEN + FIRST) % WORD))
    key = stream_key(7, Stream.AUGMENT, 3)
    assert key == word >> 1
    row = mix_one((11 * GOLDEN + key) % WORD)
    expected = [(mix_one((row + column * SECOND) % WORD) >> 40) / 2**24 for column in (1, 2, 3)]
    assert uniform(key, np.array([11]), 3).tolist() == [expected]


def test_a_key_is_other_for_each_seed_stream_and_counter() -> None:
    keys = {
        stream_key(seed, stream, *counters)
        for seed in (0, 1, 2, 2**63 - 1)
        for stream in Stream
        for counters in ((), (0,), (1,), (0, 0), (0, 1), (1, 0), (2**40, 5))
    }
    assert len(keys) == 4 * len(Stream) * 7
    assert all(0 <= key < 2**63 for key in keys)


def test_a_samples_draws_do_not_depend_on_the_others_or_on_their_number() -> None:
    key = stream_key(0, Stream.AUGMENT, 0)
    together = uniform(key, np.array([5, 9, 2, 9]), 4)
    assert together.dtype == np.float32
    assert together[1].tolist() == together[3].tolist() == uniform(key, np.array([9]), 4)[0].tolist()
    assert uniform(key, np.array([9]), 2)[0].tolist() == together[1, :2].tolist()
    assert uniform(key, np.array([], np.int64), 4).shape == (0, 4)
    assert uniform(key, np.array([2**62]), 1).shape == (1, 1)


@pytest.mark.parametrize("weak", [False, True])
def test_draws_are_uniform_and_independent_of_the_sample_before_and_of_each_other(weak: bool) -> None:
    samples = np.arange(40_000)
    draws = uniform(stream_key(1, Stream.AUGMENT, 0), samples, 3).astype(np.float64)
    next_epoch = uniform(stream_key(1, Stream.AUGMENT, 1), samples, 3).astype(np.float64)
    if weak:  # a generator without mixing: uniform, and nothing else
        draws = np.stack([(samples * 0.618034 + column * 0.1) % 1 for column in range(3)], axis=1)
        next_epoch = (draws + 0.3) % 1
    assert draws.min() >= 0
    assert draws.max() < 1
    pairs = {
        "samples side by side": (draws[:-1, 0], draws[1:, 0]),
        "samples 32 apart": (draws[:-32, 0], draws[32:, 0]),
        "draws of a sample": (draws[:, 0], draws[:, 1]),
        "last and first draw of a sample": (draws[:, 2], draws[:, 0]),
        "epochs": (draws[:, 1], next_epoch[:, 1]),
    }
    limit = chi_square_limit(16 * 16 - 1)
    fails = {name for name, (a, b) in pairs.items() if chi_square(pair_table(a, b, 16), len(a) / 256) > limit}
    assert fails == (set(pairs) if weak else set())
    counts = np.bincount((draws[:, 0] * 256).astype(np.int64), minlength=256)
    assert chi_square(counts, len(samples) / 256) < chi_square_limit(255)
