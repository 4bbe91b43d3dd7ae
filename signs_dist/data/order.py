"""The order of the samples of an epoch, as a pure function of (seed, epoch).

No list of an epoch is kept: each position of an order is computed when it is read.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from signs_dist.data.randomness import GOLDEN, Stream, Words, mix, stream_key, stream_keys

Indices = npt.NDArray[np.int64]

NUM_ROUNDS = 8
"""Rounds of the Feistel network; four are enough in theory (Luby and Rackoff, 1988), small sizes need more."""


class Order(Protocol):
    """The order of a data set's samples in each epoch.

    Attributes:
        num_samples: positions of an epoch.
    """

    num_samples: int

    def __call__(self, epoch: int, positions: Indices) -> Indices:
        """The samples at `positions` of an epoch: int64 [N] from int64 [N], each in [0, num_samples)."""
        ...


class ShuffledOrder:
    """Each sample once per epoch, in another random order in each epoch. Needs no memory."""

    def __init__(self, num_samples: int, seed: int) -> None:
        self.num_samples = num_samples
        self._seed = seed

    def __call__(self, epoch: int, positions: Indices) -> Indices:
        """As in Order."""
        return Permutation(self.num_samples, stream_key(self._seed, Stream.ORDER, epoch))(positions)


class BalancedOrder:
    """All classes equally often: samples of small classes repeat, and some samples of large classes are omitted.

    Positions form blocks of C: 0 to C - 1, and so on. A block holds each of the C classes once, in a random order. A
    class uses its samples in rounds, each in a random order, so that all are used equally often. An epoch has as many
    positions as a shuffled one.

    Args:
        labels: class of each sample, int64 [n]; classes without a sample do not count.
        seed: the run's seed.

    Attributes:
        num_samples: n.
        num_classes: C.
    """

    def __init__(self, labels: Indices, seed: int) -> None:
        _, sizes = np.unique(labels, return_counts=True)
        self.num_samples = len(labels)
        self.num_classes = len(sizes)
        self._seed = seed
        self._sizes = sizes.astype(np.int64)  # [C]
        self._starts = np.cumsum(self._sizes) - self._sizes  # [C], of each class in _members
        self._members = np.argsort(labels, kind="stable").astype(np.int64)  # [n], class by class

    def __call__(self, epoch: int, positions: Indices) -> Indices:
        """As in Order."""
        blocks, places = np.divmod(positions, self.num_classes)
        classes = self._classes(epoch, blocks, places)
        sizes = self._sizes[classes]
        # A block uses each class once, so that the block's number counts the uses.
        rounds, uses = np.divmod(blocks, sizes)
        keys = stream_keys(self._seed, Stream.MEMBERS, epoch, classes, rounds)
        samples: Indices = self._members[self._starts[classes] + permute(uses, sizes, keys)]
        return samples

    def _classes(self, epoch: int, blocks: Indices, places: Indices) -> Indices:
        """The class at each place of a block, all int64 [N]."""
        distinct, rows = np.unique(blocks, return_inverse=True)
        keys = stream_keys(self._seed, Stream.ORDER, epoch, distinct)[:, None]
        draws = mix(keys + np.arange(1, self.num_classes + 1, dtype=np.uint64) * GOLDEN)
        classes: Indices = np.argsort(draws, axis=1, kind="stable")[rows, places]
        return classes


class Permutation:
    """A keyed bijection on [0, size) in constant memory; see `permute`."""

    def __init__(self, size: int, key: int) -> None:
        self.size = size
        self.key = key

    def __call__(self, positions: Indices) -> Indices:
        """The images of `positions` (int64 [N], each in [0, size)) under the bijection: int64 [N]."""
        return permute(positions, np.array([self.size]), np.array([self.key], np.uint64))


def permute(positions: Indices, sizes: Indices, keys: Words) -> Indices:
    """Map each position by its own bijection: a Feistel network over two digits, with cycle walking.

    A position is written as two digits of base ceil(sqrt(size)). Each round replaces the pair (a, b) by
    (b, a + hash(b) mod base), which can be undone, so that the whole is a bijection on [0, base²). A result of `size`
    or more is mapped again until it is below `size`: still a bijection, and rare, since base² is barely above `size`.
    (Black and Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002.)

    Args:
        positions: int64 [N], each in [0, size).
        sizes: of the bijections, int64 [N], or [1] for the same everywhere.
        keys: choose the bijections, uint64 [N] or [1].

    Returns:
        int64 [N], each in [0, size).
    """
    # The integer part of a square root in float64 is exact up to 2**52.
    bases = (np.sqrt(np.maximum(sizes, 1) - 1).astype(np.int64) + 1).astype(np.uint64)
    words = _encrypt(positions.astype(np.uint64), bases, keys)
    limits, bases, keys = (np.broadcast_to(part, words.shape) for part in (sizes.astype(np.uint64), bases, keys))
    outside = np.flatnonzero(words >= limits)
    while outside.size:
        words[outside] = _encrypt(words[outside], bases[outside], keys[outside])
        outside = outside[words[outside] >= limits[outside]]
    return words.astype(np.int64)


def _encrypt(words: Words, bases: Words, keys: Words) -> Words:
    left, right = words // bases, words % bases
    for number in np.arange(1, NUM_ROUNDS + 1, dtype=np.uint64)[:, None]:
        round_keys = mix(number * GOLDEN + keys)
        left, right = right, (left + mix(right + round_keys) % bases) % bases
    return left * bases + right
