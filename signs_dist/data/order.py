"""The order of the samples of an epoch, as a pure function of (seed, epoch).

Nothing here holds a list of an epoch: any position of an order is computed when it is asked for.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from signs_dist.data.randomness import Stream, Words, mix, stream_key, stream_keys

Indices = npt.NDArray[np.int64]

NUM_ROUNDS = 8
"""Rounds of the Feistel network; four are enough in theory (Luby and Rackoff, 1988), small sizes want more."""
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class Order(Protocol):
    """An endless supply of orders of a data set, one an epoch.

    Attributes:
        num_samples: positions of an epoch.
    """

    num_samples: int

    def __call__(self, epoch: int, positions: Indices) -> Indices:
        """The samples at some positions of an epoch, int64 [N], for int64 [N], each in [0, num_samples)."""
        ...


class ShuffledOrder:
    """Each sample once an epoch, in an order that is drawn for the epoch. Needs no memory."""

    def __init__(self, num_samples: int, seed: int) -> None:
        self.num_samples = num_samples
        self._seed = seed

    def __call__(self, epoch: int, positions: Indices) -> Indices:
        """As in Order."""
        return Permutation(self.num_samples, stream_key(self._seed, Stream.ORDER, epoch))(positions)


class BalancedOrder:
    """Each class as often as every other, small classes repeating and large ones left out in part.

    Every block of C positions, the first being 0 to C - 1, holds each of the C classes once, in an order drawn for the
    block. A class uses its members in rounds, each in an order drawn for the round, so that all are used equally often.
    An epoch is as long as a shuffled one.

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
        # A class is used once a block: the number of its use is the block's.
        rounds, uses = np.divmod(blocks, sizes)
        keys = stream_keys(self._seed, Stream.MEMBERS, epoch, classes, rounds)
        samples: Indices = self._members[self._starts[classes] + permute(uses, sizes, keys)]
        return samples

    def _classes(self, epoch: int, blocks: Indices, places: Indices) -> Indices:
        """The class at each place of a block, all int64 [N]."""
        distinct, rows = np.unique(blocks, return_inverse=True)
        keys = stream_keys(self._seed, Stream.ORDER, epoch, distinct)[:, None]
        draws = mix(keys + np.arange(1, self.num_classes + 1, dtype=np.uint64) * _GOLDEN)
        classes: Indices = np.argsort(draws, axis=1, kind="stable")[rows, places]
        return classes


class Permutation:
    """A keyed bijection on [0, size) in constant memory; see `permute`."""

    def __init__(self, size: int, key: int) -> None:
        self.size = size
        self.key = key

    def __call__(self, positions: Indices) -> Indices:
        """Where each of `positions` (int64 [N], each in [0, size)) is sent: int64 [N]."""
        return permute(positions, np.array([self.size]), np.array([self.key], np.uint64))


def permute(positions: Indices, sizes: Indices, keys: Words) -> Indices:
    """Send each position through a bijection of its own: a Feistel network over two digits, with cycle walking.

    A position is written as two digits of base ceil(sqrt(size)). Each round replaces the pair (a, b) by
    (b, a + hash(b) mod base), which can be undone, so that the whole is a bijection on [0, base²). A result of `size`
    or more is sent through again until it is below: still a bijection, and rare, since base² is barely above `size`.
    (Black and Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002.)

    Args:
        positions: int64 [N], each in [0, size).
        sizes: of the bijections, int64 [N], or [1] for the same everywhere.
        keys: choose the bijections, uint64 [N] or [1].

    Returns:
        int64 [N], each in [0, size).
    """
    # Of a square root in float64 the whole part is right up to 2**52.
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
        round_keys = mix(number * _GOLDEN + keys)
        left, right = right, (left + mix(right + round_keys) % bases) % bases
    return left * bases + right
