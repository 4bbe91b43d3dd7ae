"""The plan of a run: which samples each process gets at each step, as a pure function of (seed, epoch)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from signs_dist.data.order import Indices, Order, ShuffledOrder
from signs_dist.errors import UserError, require_kind


@dataclasses.dataclass(frozen=True)
class Shard:
    """A process's part of the work: part `index` of `count`. A single process has (0, 1)."""

    index: int = 0
    count: int = 1

    def bounds(self, size: int) -> tuple[int, int]:
        """Start and end (exclusive) of this shard's contiguous part of `size` items.

        Parts differ by at most 1 item, larger parts first: 8 items in 3 parts are 3, 3, 2.
        """
        each, more = divmod(size, self.count)
        first = self.index * each + min(self.index, more)
        return first, first + each + (1 if self.index < more else 0)


@dataclasses.dataclass(frozen=True)
class MicroBatches:
    """How the global batch of each step is cut: `count` micro-batches of `size` samples, which are never split."""

    size: int
    count: int

    @property
    def global_batch(self) -> int:
        """Samples of a step."""
        return self.size * self.count

    def counts(self, world_size: int) -> tuple[int, ...]:
        """Number of micro-batches of each of `world_size` ranks."""
        bounds = [Shard(rank, world_size).bounds(self.count) for rank in range(world_size)]
        return tuple(end - first for first, end in bounds)

    def of(self, shard: Shard) -> range:
        """Numbers of this shard's micro-batches, at least one.

        Raises:
            UserError: there are more shards than micro-batches.
        """
        if shard.count > self.count:
            raise UserError(
                f"{_counted(self.count, 'micro-batch')} of {self.size} cannot be shared by {shard.count} processes: "
                f"each process needs one. Use at most {_counted(self.count, 'process')}, or a smaller micro_batch."
            )
        return range(*shard.bounds(self.count))

    def describe(self, world_size: int) -> str:
        """In words, such as `256 = 8 micro-batches of 32 over 3 ranks (3, 3, 2)`."""
        parts = f"{self.global_batch} = {_counted(self.count, 'micro-batch')} of {self.size}"
        if world_size == 1:
            return f"{parts} on 1 process"
        return f"{parts} over {world_size} ranks ({describe_counts(self.counts(world_size))})"


def describe_counts(counts: Sequence[int]) -> str:
    """The counts of all ranks in words, largest first: `2 each`, `3, 3, 2`, or `2 on 36 ranks, 1 on 28`."""
    most, least = counts[0], counts[-1]
    if most == least:
        return f"{most} each"
    if len(counts) <= 8:
        return ", ".join(map(str, counts))
    return f"{most} on {counts.count(most)} ranks, {least} on {counts.count(least)}"


def cut_global_batch(
    global_batch: int, micro_batch: int | None, world_size: int, *, num_replicas: int = 1
) -> MicroBatches:
    """Cut the global batch into micro-batches, at least one for each process, and for each GPU of nn.DataParallel.

    Args:
        global_batch: samples of a step.
        micro_batch: samples of a micro-batch. None: each process, or GPU of nn.DataParallel, gets one micro-batch.
        world_size: number of processes.
        num_replicas: GPUs of nn.DataParallel in each process.

    Raises:
        UserError: the batch cannot be cut like that. The message names the settings and the nearest values that work.
    """
    num_parts = world_size * num_replicas
    noun = "process" if num_replicas == 1 else "GPU"
    if micro_batch is None:
        if global_batch % num_parts == 0:
            return MicroBatches(global_batch // num_parts, num_parts)
        raise UserError(
            f"train.global_batch={global_batch} does not divide over {_counted(num_parts, noun)}. "
            f"Type {_ways_out(global_batch, num_parts, num_parts, at_least=num_parts)}."
        )
    at_least = num_parts * micro_batch
    count, rest = divmod(global_batch, micro_batch)
    if count == 0:
        raise UserError(
            f"train.micro_batch={micro_batch} is more than train.global_batch={global_batch}. "
            f"Type {_ways_out(global_batch, num_parts, micro_batch, at_least=at_least)}."
        )
    if rest:
        raise UserError(
            f"train.global_batch={global_batch} does not divide into micro-batches of {micro_batch}. "
            f"Nearest: {_nearest_multiples(global_batch, micro_batch, at_least=at_least)}."
        )
    if count < num_parts:
        raise UserError(
            f"train.global_batch={global_batch} is {_counted(count, 'micro-batch')} of {micro_batch}, too few for "
            f"{_counted(num_parts, noun)}. Use at most {_counted(count, noun)}, "
            f"or type {_ways_out(global_batch, num_parts, micro_batch, at_least=at_least)}."
        )
    return MicroBatches(micro_batch, count)


def require_full_step(global_batch: int, num_images: int) -> None:
    """Raise `UserError` if the training images are fewer than the global batch; the message names the setting."""
    if global_batch > num_images:
        raise UserError(
            f"train.global_batch={global_batch} is more than the {num_images} training images. "
            f"Type train.global_batch={num_images} or less."
        )


def largest_micro_batch(global_batch: int, world_size: int) -> int:
    """The largest micro-batch that divides the global batch into `world_size` or more. Raises `UserError`."""
    for size in range(global_batch // world_size, 0, -1):
        if global_batch % size == 0:
            return size
    raise UserError(
        f"train.global_batch={global_batch} cannot be cut into {world_size} micro-batches. "
        f"Type a larger train.global_batch, or use at most {global_batch} processes."
    )


def _ways_out(global_batch: int, num_parts: int, unit: int, *, at_least: int) -> str:
    """What to type instead: a micro-batch for this global batch, or a global batch that is a multiple of `unit`."""
    others = f"train.global_batch={_nearest_multiples(global_batch, unit, at_least=at_least)}"
    if global_batch < num_parts:
        return others
    count = next(count for count in range(num_parts, global_batch + 1) if global_batch % count == 0)
    cut = MicroBatches(global_batch // count, count)
    over = f": {describe_counts(cut.counts(num_parts))}" if num_parts > 1 else ""
    return f"train.micro_batch={cut.size} ({_counted(count, 'micro-batch')}{over}) or {others}"


def _nearest_multiples(value: int, unit: int, *, at_least: int) -> str:
    """The multiples of `unit` around `value`, nearest first, none below `at_least`, which is a multiple too."""
    below = value // unit * unit
    legal = [multiple for multiple in (below, below + unit) if multiple >= at_least] or [at_least]
    return " or ".join(str(multiple) for multiple in sorted(legal, key=lambda multiple: abs(multiple - value)))


def _counted(number: int, noun: str) -> str:
    """`1 process`, `3 processes`, `3 micro-batches`, `3 GPUs`."""
    if number == 1:
        return f"1 {noun}"
    return f"{number} {noun}{'s' if noun == 'GPU' else 'es'}"


@dataclasses.dataclass(frozen=True)
class EpochPlan:
    """The steps of every epoch: step s takes positions s·G to (s+1)·G of that epoch's order, G the global batch.

    Each shard has whole, contiguous micro-batches of a step; the shards, one after the other, are the step. An epoch
    omits the `num_left_out` samples that do not fill a step; each epoch omits others.

    Raises:
        UserError: G is larger than `num_samples`, or `micro_batch` does not divide it.

    Example:
        >>> import signs_dist as sd
        >>> plan = sd.EpochPlan(100, global_batch=32, micro_batch=8, seed=0)
        >>> plan.num_steps, plan.num_left_out, plan.micro_batches.count
        (3, 4, 4)
        >>> with sd.connect() as processes:
        ...     samples = plan.samples(epoch=0, step=2, shard=processes.shard)
        >>> len(samples)                 # of one process; two processes have 16 each
        32

    Attributes:
        num_samples: positions of an epoch.
        global_batch: G.
        seed: the run's seed.
        micro_batch: samples of a micro-batch, a divisor of G. None: G, a single micro-batch.
        order: which sample is at a position. None: shuffled.
        max_steps: an epoch ends after this many steps, even if samples remain. None: no limit.
    """

    num_samples: int
    global_batch: int
    seed: int
    micro_batch: int | None = None
    order: Order | None = None
    max_steps: int | None = None

    def __post_init__(self) -> None:
        for name in ("num_samples", "global_batch", "seed"):
            value = getattr(self, name)
            require_kind(name, value, (int, np.integer), "EpochPlan(len(dataset), global_batch=256, seed=0)")
            least = 0 if name == "seed" else 1
            if value < least:
                raise UserError(f"{name}={value}: type {least} or more.")
        if self.global_batch > self.num_samples:
            raise UserError(
                f"global_batch={self.global_batch} is more than num_samples={self.num_samples}. "
                f"Type global_batch={self.num_samples} or less."
            )
        size = self.micro_batch
        if size is not None and (size < 1 or self.global_batch % size):
            raise UserError(f"micro_batch={size} does not divide global_batch={self.global_batch}.")
        assert self.order is None or self.order.num_samples == self.num_samples

    @property
    def micro_batches(self) -> MicroBatches:
        """How each step is cut."""
        size = self.micro_batch or self.global_batch
        return MicroBatches(size, self.global_batch // size)

    @property
    def num_steps(self) -> int:
        """Optimizer steps in an epoch."""
        all_steps = self.num_samples // self.global_batch
        return all_steps if self.max_steps is None else min(all_steps, self.max_steps)

    @property
    def num_left_out(self) -> int:
        """Positions that an epoch omits."""
        return self.num_samples - self.num_steps * self.global_batch

    def num_own(self, shard: Shard) -> int:
        """How many samples of each step this shard has: a multiple of the micro-batch."""
        return len(self.micro_batches.of(shard)) * self.micro_batches.size

    def samples(self, epoch: int, step: int, shard: Shard) -> Indices:
        """The sample numbers of this shard's micro-batches of a step, one after the other: int64 [at most G]."""
        part: Indices = self.block(epoch, step, 1, shard)[0]
        return part

    def block(self, epoch: int, first_step: int, num_steps: int, shard: Shard) -> Indices:
        """The sample numbers of this shard's micro-batches of several steps: int64 [num_steps, at most G]."""
        numbers, size = self.micro_batches.of(shard), self.micro_batches.size
        starts = np.arange(first_step, first_step + num_steps, dtype=np.int64)[:, None] * self.global_batch
        positions = starts + np.arange(numbers.start * size, numbers.stop * size, dtype=np.int64)[None, :]
        order = self.order or ShuffledOrder(self.num_samples, self.seed)
        return order(epoch, positions.reshape(-1)).reshape(positions.shape)


class BatchKey(NamedTuple):
    """What a dataset needs to fetch one batch. Loader workers get nothing else, so it holds the epoch."""

    epoch: int
    step: int
    samples: Indices
