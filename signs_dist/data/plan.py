"""The plan of a run: which sample is seen at which step by whom, as a pure function of (seed, epoch).

Nothing here holds a list of all samples: any position of an epoch's order is computed when it is asked for.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset, Sampler
from torch.utils.data.distributed import DistributedSampler

from signs_dist.data.randomness import Stream, mix, stream_key
from signs_dist.errors import UserError

Indices = npt.NDArray[np.int64]

NUM_AHEAD = 4096
"""Positions of an epoch's order that are computed at once."""
NUM_ROUNDS = 8
"""Rounds of the Feistel network; four are enough in theory (Luby and Rackoff, 1988), small sizes want more."""


@dataclasses.dataclass(frozen=True)
class Shard:
    """The part of the work that is this process's: number `index` of `count`. One process has (0, 1)."""

    index: int = 0
    count: int = 1

    def bounds(self, size: int) -> tuple[int, int]:
        """First and one past the last of this shard's contiguous part of `size` things; parts differ by at most 1."""
        return size * self.index // self.count, size * (self.index + 1) // self.count


class Permutation:
    """A keyed bijection on [0, size) in constant memory: a Feistel network over two digits, with cycle walking.

    A position is written as two digits of base ceil(sqrt(size)). Each round replaces the pair (a, b) by
    (b, a + hash(b) mod base), which can be undone, so that the whole is a bijection on [0, base²). A result of `size`
    or more is sent through again until it is below: still a bijection, and rare, since base² is barely above `size`.
    (Black and Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002.)
    """

    def __init__(self, size: int, key: int) -> None:
        self.size = size
        self._base = np.uint64(max(1, math.isqrt(max(0, size - 1)) + 1))
        rounds = np.arange(1, NUM_ROUNDS + 1, dtype=np.uint64)
        self._round_keys = mix(rounds * np.uint64(0x9E3779B97F4A7C15) + np.uint64(key))

    def __call__(self, positions: Indices) -> Indices:
        """Where each of `positions` (int64 [N], each in [0, size)) is sent: int64 [N]."""
        words = self._encrypt(positions.astype(np.uint64))
        outside = words >= self.size
        while outside.any():
            words[outside] = self._encrypt(words[outside])
            outside = words >= self.size
        return words.astype(np.int64)

    def _encrypt(self, words: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        left, right = words // self._base, words % self._base
        for round_key in self._round_keys:
            left, right = right, (left + mix(right + round_key) % self._base) % self._base
        result: npt.NDArray[np.uint64] = left * self._base + right
        return result


@dataclasses.dataclass(frozen=True)
class EpochPlan:
    """The steps of every epoch: step s takes positions s·G to (s+1)·G of that epoch's order, G the global batch.

    What is left over at an epoch's end (`num_left_out` samples) is left out; another epoch leaves out others.
    """

    num_samples: int
    global_batch: int
    seed: int

    def __post_init__(self) -> None:
        if self.global_batch > self.num_samples:
            raise UserError(
                f"train.global_batch={self.global_batch} is more than the {self.num_samples} training images. "
                f"Type train.global_batch={self.num_samples} or less."
            )

    @property
    def num_steps(self) -> int:
        """Optimizer steps in an epoch."""
        return self.num_samples // self.global_batch

    @property
    def num_left_out(self) -> int:
        """Samples that an epoch leaves out."""
        return self.num_samples % self.global_batch

    def samples(self, epoch: int, step: int, shard: Shard) -> Indices:
        """The sample numbers of this shard's part of a step, int64 [at most global_batch]."""
        part: Indices = self.block(epoch, step, 1, shard)[0]
        return part

    def block(self, epoch: int, first_step: int, num_steps: int, shard: Shard) -> Indices:
        """The sample numbers of this shard's part of several steps: int64 [num_steps, at most global_batch]."""
        first, end = shard.bounds(self.global_batch)
        starts = np.arange(first_step, first_step + num_steps, dtype=np.int64)[:, None] * self.global_batch
        positions = starts + np.arange(first, end, dtype=np.int64)[None, :]
        order = Permutation(self.num_samples, stream_key(self.seed, Stream.ORDER, epoch))
        return order(positions.reshape(-1)).reshape(positions.shape)


class BatchKey(NamedTuple):
    """What a data set needs to fetch one batch: it crosses into loader workers, so it carries the epoch with it."""

    epoch: int
    step: int
    samples: Indices


class PlanSampler(DistributedSampler[int]):
    """A DistributedSampler that follows an `EpochPlan`: the same order whatever the number of processes.

    It yields sample numbers, this shard's of each step in turn, and can take the place of PyTorch's own. Unlike there,
    an epoch must be set before each pass: iterating without is an error, not the same order again.
    """

    def __init__(self, dataset: Dataset[Any], plan: EpochPlan, shard: Shard) -> None:
        super().__init__(
            dataset, num_replicas=shard.count, rank=shard.index, shuffle=True, seed=plan.seed, drop_last=True
        )
        self.plan = plan
        self.shard = shard
        self.start_step = 0
        self._epoch_is_set = False

    def set_epoch(self, epoch: int, start_step: int = 0) -> None:
        """Say which epoch the next pass is, and at which of its steps it starts."""
        if not 0 <= start_step <= self.plan.num_steps:
            raise ValueError(f"start_step={start_step} is not in an epoch of {self.plan.num_steps} steps.")
        super().set_epoch(epoch)
        self.start_step = start_step
        self._epoch_is_set = True

    def steps(self) -> Iterator[BatchKey]:
        """The batches of the epoch that was set, one a step.

        A generator, so that the epoch is used up by the first batch: a DataLoader with workers asks twice for an
        iterator at its start and drops one of them.
        """
        if not self._epoch_is_set:
            raise RuntimeError("PlanSampler: call set_epoch(epoch) before each pass over the data.")
        self._epoch_is_set = False
        # Read here, not at each step: the next epoch may be set while this one is under way.
        epoch, start_step = self.epoch, self.start_step
        # Several steps' numbers in one go: the hashing of a few is all overhead.
        steps_per_block = max(1, NUM_AHEAD // self.plan.global_batch)
        for first in range(start_step, self.plan.num_steps, steps_per_block):
            num_steps = min(steps_per_block, self.plan.num_steps - first)
            block = self.plan.block(epoch, first, num_steps, self.shard)
            for step, samples in enumerate(block, first):
                yield BatchKey(epoch, step, samples)

    def __iter__(self) -> Iterator[int]:
        for key in self.steps():
            yield from key.samples.tolist()

    def __len__(self) -> int:
        first, end = self.shard.bounds(self.plan.global_batch)
        return (self.plan.num_steps - self.start_step) * (end - first)


class PlanBatchSampler(Sampler[BatchKey]):
    """The batches of a `PlanSampler`, each as one key, so that a data set can fetch it whole."""

    def __init__(self, sampler: PlanSampler) -> None:
        self.sampler = sampler

    def __iter__(self) -> Iterator[BatchKey]:
        return self.sampler.steps()

    def __len__(self) -> int:
        return self.sampler.plan.num_steps - self.sampler.start_step


class EvaluationSampler(Sampler[BatchKey]):
    """Every sample exactly once over all shards, in order, without padding; a shard may have none."""

    def __init__(self, num_samples: int, batch: int, shard: Shard) -> None:
        self.first, self.end = shard.bounds(num_samples)
        self.batch = batch

    def __iter__(self) -> Iterator[BatchKey]:
        for step, start in enumerate(range(self.first, self.end, self.batch)):
            yield BatchKey(0, step, np.arange(start, min(start + self.batch, self.end), dtype=np.int64))

    def __len__(self) -> int:
        return -(-(self.end - self.first) // self.batch)
