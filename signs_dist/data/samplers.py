"""Samplers for PyTorch's DataLoader that follow the plan."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch.utils.data import Dataset, Sampler
from torch.utils.data.distributed import DistributedSampler

from signs_dist.data.plan import BatchKey, EpochPlan, Shard

NUM_AHEAD = 4096
"""Positions of an epoch's order that are computed at once."""


class PlanSampler(DistributedSampler[int]):
    """A DistributedSampler that follows an `EpochPlan`: the same order whatever the number of processes.

    It yields the sample numbers of its shard, step by step, and can replace PyTorch's DistributedSampler. Unlike there,
    each pass needs a call of `set_epoch` before it: without one, iterating is an error, not the same order again.
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
        """Set the epoch of the next pass, and the step at which it starts.

        Raises:
            ValueError: the epoch has no such step.
        """
        if not 0 <= start_step <= self.plan.num_steps:
            raise ValueError(f"start_step={start_step} is not in 0 to {self.plan.num_steps}, the steps of an epoch.")
        super().set_epoch(epoch)
        self.start_step = start_step
        self._epoch_is_set = True

    def steps(self) -> Iterator[BatchKey]:
        """The batches of the epoch that was set, one a step.

        A generator: the first batch, not the call, uses up the epoch that was set. A DataLoader with workers calls
        twice at its start and drops one of the iterators.
        """
        if not self._epoch_is_set:
            raise RuntimeError("PlanSampler: call set_epoch(epoch) before each pass over the data.")
        self._epoch_is_set = False
        # Read here, not at each step: the next epoch may be set while this one is under way.
        epoch, start_step = self.epoch, self.start_step
        # The numbers of several steps at once: hashing a few numbers is mostly overhead.
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
        micro_batches = self.plan.micro_batches
        return (self.plan.num_steps - self.start_step) * len(micro_batches.of(self.shard)) * micro_batches.size


class PlanBatchSampler(Sampler[BatchKey]):
    """The batches of a `PlanSampler`, each as one key, so that a data set can fetch it whole."""

    def __init__(self, sampler: PlanSampler) -> None:
        self.sampler = sampler

    def __iter__(self) -> Iterator[BatchKey]:
        return self.sampler.steps()

    def __len__(self) -> int:
        return self.sampler.plan.num_steps - self.sampler.start_step


class EvaluationSampler(Sampler[BatchKey]):
    """Every sample exactly once over all shards, in order, without padding; a shard may have none.

    Batch k is samples k·B to (k+1)·B, cut at n, and shards take contiguous whole batches. So the batch of a sample, and
    with it the rounding, does not depend on the number of processes.

    Args:
        num_samples: n.
        batch: B.
        shard: which of the batches are this process's.
    """

    def __init__(self, num_samples: int, batch: int, shard: Shard) -> None:
        self.num_samples = num_samples
        self.batch = batch
        self.numbers = range(*shard.bounds(-(-num_samples // batch)))

    def __iter__(self) -> Iterator[BatchKey]:
        for number in self.numbers:
            start = number * self.batch
            end = min(start + self.batch, self.num_samples)
            yield BatchKey(0, number, np.arange(start, end, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.numbers)
