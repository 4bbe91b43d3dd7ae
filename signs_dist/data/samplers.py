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
    """Takes the place of torch's DistributedSampler in a DataLoader, and follows an `EpochPlan`.

    It yields the numbers of this shard's samples, step by step. All shards together see the same samples at the same
    step on any number of processes, no sample twice in an epoch, and an epoch can begin at any step. Call
    `set_epoch` before each pass. A pass without it raises RuntimeError; DistributedSampler would repeat the order of
    the last epoch. `plan_loader` also seeds the generators for each sample; a DataLoader does not.

    Args:
        dataset: has `__len__`.
        plan: which samples at which step.
        shard: which of them this process sees: `processes.shard` of `connect`.

    Attributes:
        num_samples: samples that this shard sees in a whole epoch.
        total_size: samples that all shards see in a whole epoch.

    Raises:
        UserError: there are more shards than micro-batches.

    Example:
        >>> import torch, signs_dist as sd
        >>> dataset = torch.utils.data.TensorDataset(torch.arange(10.0))
        >>> plan = sd.EpochPlan(len(dataset), global_batch=4, micro_batch=2, seed=0)
        >>> with sd.connect() as processes:
        ...     sampler = sd.PlanSampler(dataset, plan, processes.shard)
        ...     own = plan.num_own(processes.shard)            # samples of a step on this process
        ...     loader = torch.utils.data.DataLoader(dataset, batch_size=own, sampler=sampler)
        ...     for epoch in range(2):
        ...         sampler.set_epoch(epoch)
        ...         print(len(loader), sum(len(numbers) for numbers, in loader))
        2 8
        2 8
    """

    def __init__(self, dataset: Dataset[Any], plan: EpochPlan, shard: Shard) -> None:
        super().__init__(
            dataset, num_replicas=shard.count, rank=shard.index, shuffle=True, seed=plan.seed, drop_last=True
        )
        self.num_samples, self.total_size = plan.num_steps * plan.num_own(shard), plan.num_steps * plan.global_batch
        self.plan = plan
        self.shard = shard
        self.start_step = 0
        self._epoch_is_set = False

    def set_epoch(self, epoch: int, start_step: int = 0) -> None:
        """Set the epoch of the next pass, and its first step. Raises ValueError if the epoch has no such step."""
        if not 0 <= start_step <= self.plan.num_steps:
            raise ValueError(f"start_step={start_step} is not in 0 to {self.plan.num_steps}, the steps of an epoch.")
        super().set_epoch(epoch)
        self.start_step = start_step
        self._epoch_is_set = True

    def steps(self) -> Iterator[BatchKey]:
        """The batches of the epoch that was set, one a step.

        This is a generator, so that only the first batch uses up the epoch: a DataLoader with workers makes two
        iterators at its start and drops one of them.
        """
        if not self._epoch_is_set:
            raise RuntimeError("PlanSampler: call set_epoch(epoch) before each pass over the data.")
        self._epoch_is_set = False
        # Read here, not at each step: the next epoch may be set while this one is under way.
        epoch, start_step = self.epoch, self.start_step
        # The numbers of several steps at once: hashing a few numbers is mostly overhead.
        # A balanced order draws a number for each class at the positions of each step, own or not.
        per_step = self.plan.num_own(self.shard) if self.plan.order is None else self.plan.global_batch
        steps_per_block = max(1, NUM_AHEAD // per_step)
        for first in range(start_step, self.plan.num_steps, steps_per_block):
            num_steps = min(steps_per_block, self.plan.num_steps - first)
            block = self.plan.block(epoch, first, num_steps, self.shard)
            for step, samples in enumerate(block, first):
                yield BatchKey(epoch, step, samples)

    def __iter__(self) -> Iterator[int]:
        for key in self.steps():
            yield from key.samples.tolist()

    def __len__(self) -> int:
        return (self.plan.num_steps - self.start_step) * self.plan.num_own(self.shard)


class PlanBatchSampler(Sampler[BatchKey]):
    """The batches of a `PlanSampler`, one key each, so that a data set can fetch a whole batch."""

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
