"""Random numbers as pure functions: the same arguments give the same number on any machine, in any order.

A counter-based generator: 64-bit integers are hashed with the finaliser of SplitMix64 (Steele, Lea and Flood, "Fast
splittable pseudorandom number generators", OOPSLA 2014). It has no state, so draws do not depend on workers, ranks
or resumes.
"""

from __future__ import annotations

import enum

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
"""2**64 divided by the golden ratio, made odd: SplitMix64's increment."""
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_MASK = 2**64 - 1


class Stream(enum.IntEnum):
    """What a random number is for; two uses never share a stream."""

    ORDER = 1
    AUGMENT = 2
    DROPOUT = 3
    WEIGHTS = 4
    MEMBERS = 5
    CROP = 11
    POLICY = 12
    ERASE = 13
    MIX = 14


def mix(words: Words) -> Words:
    """Hash each 64-bit word of any shape to a 64-bit word; a bijection."""
    words = (words ^ (words >> np.uint64(30))) * _FIRST
    words = (words ^ (words >> np.uint64(27))) * _SECOND
    result: Words = words ^ (words >> np.uint64(31))
    return result


def stream_key(seed: int, stream: Stream, *counters: int) -> int:
    """A 63-bit key for one use of randomness, such as `stream_key(seed, Stream.DROPOUT, step, micro_batch)`."""
    word = 0
    for number in (seed, int(stream), *counters):
        word = _mix_one((word + int(GOLDEN)) & _MASK ^ _mix_one((number * int(GOLDEN) + int(_FIRST)) & _MASK))
    return word >> 1


def stream_keys(seed: int, stream: Stream, *counters: int | npt.NDArray[np.int64]) -> Words:
    """`stream_key` for arrays of counters, which are broadcast: uint64 [N], the same keys as one by one."""
    words = np.zeros(1, np.uint64)
    for number in (seed, int(stream), *counters):
        numbers = np.atleast_1d(np.asarray(number)).astype(np.uint64)
        words = mix((words + GOLDEN) ^ mix(numbers * GOLDEN + _FIRST))
    keys: Words = words >> np.uint64(1)
    return keys


def _mix_one(word: int) -> int:
    """`mix` of one word: for one, Python's integers are ten times as fast as an array."""
    word = (word ^ (word >> 30)) * int(_FIRST) & _MASK
    word = (word ^ (word >> 27)) * int(_SECOND) & _MASK
    return word ^ (word >> 31)


def uniform(key: int, samples: npt.NDArray[np.int64], num_draws: int) -> npt.NDArray[np.float32]:
    """Draws for each sample of a batch.

    Args:
        key: the stream, from `stream_key`.
        samples: sample numbers, int64 [N].
        num_draws: draws for each sample.

    Returns:
        float32 [N, num_draws], uniform in [0, 1): multiples of 2**-24.
    """
    rows = mix(samples.astype(np.uint64) * GOLDEN + np.uint64(key))[:, None]
    columns = np.arange(1, num_draws + 1, dtype=np.uint64)[None, :] * _SECOND
    words = mix(rows + columns)
    draws: npt.NDArray[np.float32] = (words >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)
    return draws
