"""Training batches that are read one at a time, beside those of the loaders."""

from __future__ import annotations

import contextlib
import dataclasses

from torch.utils.data import Dataset

from signs_dist.data.batches import Batch
from signs_dist.data.loader import TrainLoader
from signs_dist.data.loader_wait import BatchWait
from signs_dist.data.plan import BatchKey, EpochPlan, Shard
from signs_dist.training.prepare import Prepared


@dataclasses.dataclass(frozen=True)
class SingleBatches:
    """Reads batches in this process, without worker processes.

    Attributes:
        source: gives a batch by its key.
        plan: which samples at which step.
        loader: of this process; what it calls for a read that hangs is called here too.
        timeout_seconds: how long a batch may take.
    """

    source: Dataset[Batch]
    plan: EpochPlan
    loader: TrainLoader
    timeout_seconds: float

    @classmethod
    def of(cls, prepared: Prepared, source: Dataset[Batch], loader: TrainLoader) -> SingleBatches:
        """The batches of a source of a run."""
        return cls(source, prepared.plan, loader, prepared.loading.timeout_seconds)

    def read(self, key: BatchKey) -> Batch:
        """The batch of a key."""
        wait = BatchWait(
            lambda number: f"epoch {key.epoch + 1}, step {key.step + 1}",
            rank=self.loader.rank,
            timeout_seconds=self.timeout_seconds,
            on_stuck=self.loader.on_stuck,
        )
        with contextlib.closing(wait), wait.waiting([]):
            return self.source[key]

    def micro_batch(self, epoch: int, step: int, number: int) -> Batch:
        """Micro-batch `number` of a step, of whichever process. Epoch, step and number count from 0."""
        size = self.plan.micro_batches.size
        samples = self.plan.samples(epoch, step, Shard(0, 1))[number * size : (number + 1) * size]
        return self.read(BatchKey(epoch, step, samples))
