"""Combines the micro-batches of a step: their gradients, their buffers, and whether every loss is finite.

`StepSync` is for one process, `ReplicatedSync` for nn.DataParallel, `DistributedSync` for
DistributedDataParallel, `ExactSync` for exact mode. All have the same methods.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from signs_dist.data.plan import MicroBatches, Shard
from signs_dist.distributed.gradient_tree import GradientTree, OnLeaf
from signs_dist.distributed.group import Group, Pending
from signs_dist.distributed.moving_buffers import Buffers
from signs_dist.distributed.sharded_tree import ShardedTree
from signs_dist.distributed.step_flags import BAD, NUM_FLAGS, SAVE, STOP, make_flags
from signs_dist.errors import NonFiniteLossError
from signs_dist.learning.optim import clip_gradients


class Described(Protocol):
    """Anything that can describe itself in an error, such as a `Batch`."""

    def describe(self) -> dict[str, Any]:
        """Plain values for the report of a loss that is not finite, such as epoch, step and samples."""
        ...


def _never() -> bool:
    return False


@dataclasses.dataclass(frozen=True)
class StepShare:
    """What one process contributes to every step.

    Attributes:
        model: the plain network, whose gradients and buffers are combined.
        micro_batches: of a step, over all processes.
        shard: which of them this process computes.
        wants_stop: called once a step; whether this process wants to stop.
        wants_save: called once a step; whether this process wants the state to be saved.
        prompt: whether the host learns in the same step of a loss that is not finite. If False, on a GPU it learns one
            step later and never waits for the GPU. On the CPU it always learns in the same step.
    """

    model: nn.Module
    micro_batches: MicroBatches
    shard: Shard
    wants_stop: Callable[[], bool] = _never
    wants_save: Callable[[], bool] = _never
    prompt: bool = False


@dataclasses.dataclass(frozen=True)
class Replayed:
    """What the host notes of a step that the device has replayed, in a run of one process.

    Attributes:
        flags: what `StepSync.combine` returned while the step was recorded.
        seen: the first number, the batch and the loss of each pass. The losses are copies: a replay overwrites its own,
            and the flags may be read a step late.
    """

    flags: Tensor
    seen: list[tuple[int, Described, Tensor]]


class StepSync:
    """The micro-batches of one process on one device; the base of the other classes.

    A step enters `forward` and `backward` for each of its `passes`, then calls `finish`.

    BatchNorm's running statistics, and all other floating-point buffers, move once a step. Each micro-batch starts from
    the buffers of the step's beginning; the buffers move by the mean of the micro-batches' changes. Counters (integer
    buffers) count once a step.

    Attributes:
        micro_batches: of a step, over all processes.
        passes: numbers of the micro-batches that go through the network together: one each, except in nn.DataParallel.
        loss_factor: the loss is multiplied by it before the backward pass.
        waits_in: where it waits for other processes: "backward", the pass, and "sum", in `finish`.
        stop_agreed: whether some process wanted to stop; the same on all processes.
        save_agreed: whether some process wanted to save; the same on all processes.
        recording: whether the passes are recorded, to be replayed on the device without Python. What the host notes of
            a step is then given to `finish`, after `combine` was recorded in its place.
    """

    loss_factor = 1.0
    waits_in: frozenset[str] = frozenset()
    recording = False

    def __init__(self, share: StepShare) -> None:
        self.micro_batches = share.micro_batches
        self.passes = split_passes(share.micro_batches.of(share.shard), 1)
        self.stop_agreed = self.save_agreed = False
        self._share = share
        self._device = next(share.model.parameters()).device
        self._buffers = Buffers(share.model) if share.micro_batches.count > 1 else None
        self._flags = make_flags(self._device, prompt=share.prompt)
        self._flag_sums = torch.zeros(NUM_FLAGS, device=self._device)
        # Two steps are kept: on a GPU the flags of a step are read one step late.
        self._seen: collections.deque[list[tuple[int, Described, Tensor]]] = collections.deque(maxlen=2)

    @property
    def num_extras(self) -> int:
        """How many float32 numbers are summed over processes beside the gradients: flags and buffers."""
        return NUM_FLAGS + (self._buffers.size if self._buffers is not None else 0)

    @contextlib.contextmanager
    def forward(self, numbers: range) -> Iterator[None]:
        """Enter it for the forward pass of the micro-batches `numbers`, one of `passes`."""
        if numbers == self.passes[0]:
            self._flag_sums = torch.zeros(NUM_FLAGS, device=self._device)
            if not self.recording:
                self._seen.append([])
        if self._buffers is not None:
            self._buffers.before(is_first=numbers == self.passes[0])
        yield

    @contextlib.contextmanager
    def backward(self, numbers: range, batch: Described, loss: Tensor) -> Iterator[None]:
        """Enter it for the backward pass from `loss`, the loss of `batch`."""
        self._collect(numbers, batch, loss)
        if numbers == self.passes[-1]:
            self._begin_sum()
        yield

    def finish(self, replayed: Replayed | None = None) -> None:
        """Complete the sums of the step; then the gradients are ready for the optimizer.

        Args:
            replayed: what the host notes of a step that the device has replayed; None: Python has done this step.

        Raises:
            NonFiniteLossError: the loss of some micro-batch is not finite. All processes raise it in the same step.
        """
        if replayed is None:
            bad, stop, save = self._flags.publish(self.combine())
        else:
            self._seen.append(replayed.seen)
            self._flag_sums = replayed.flags  # for `guard`: those of Python are of the last step that it did
            bad, _, _ = self._flags.publish(replayed.flags)
            stop, save = self._share.wants_stop(), self._share.wants_save()
        self.stop_agreed, self.save_agreed = stop > 0, save > 0
        if bad > 0:
            self._raise_bad()

    def clip(self, max_norm: float) -> None:
        """Scale the gradients of the step down so that their total 2-norm is at most `max_norm`."""
        clip_gradients(self._share.model.parameters(), max_norm)

    def combine(self) -> Tensor:
        """The part of `finish` that the device does. Returns the flags of the step, float32 [NUM_FLAGS]."""
        extras = self._end_sum()
        if self._buffers is not None:
            self._buffers.move(extras[NUM_FLAGS:] / self.micro_batches.count)
        return extras[:NUM_FLAGS]

    def guard(self, optimizer: torch.optim.Optimizer) -> None:
        """On a GPU, let the optimizer's fused kernel skip a step whose loss is not finite: the host learns it late."""
        if self._device.type == "cuda" and optimizer.defaults.get("fused"):
            holder: Any = getattr(optimizer, "optim", optimizer)  # of a ZeroRedundancyOptimizer the one that steps
            holder.grad_scale, holder.found_inf = None, (self._flag_sums[BAD] > 0).float()

    def settle(self) -> None:
        """Read the flags that have not been read yet. Call it before a save. Raises NonFiniteLossError, as `finish`."""
        bad, stop, save = self._flags.flush()
        self.stop_agreed, self.save_agreed = self.stop_agreed or stop > 0, self.save_agreed or save > 0
        if bad > 0:
            self._raise_bad()

    def _collect(self, numbers: range, batch: Described, loss: Tensor) -> None:
        loss = loss.detach()
        self._flag_sums[BAD] += (~torch.isfinite(loss)).float()
        if not self.recording:
            self._seen[-1].append((numbers.start, batch, loss))
        if numbers == self.passes[-1] and not self.recording:
            self._flag_sums[STOP] += float(self._share.wants_stop())
            self._flag_sums[SAVE] += float(self._share.wants_save())
        if self._buffers is not None:
            self._buffers.after(self._replicas_buffers())

    def _replicas_buffers(self) -> Tensor | None:
        """The buffers of nn.DataParallel's replicas, float32 [replicas, size]; None: those of the network itself."""
        return None

    def _begin_sum(self) -> None:
        """Called when this process has done all its forward passes of the step."""

    def _end_sum(self) -> Tensor:
        """The extras, float32 [num_extras], summed over processes."""
        return self._own_extras()

    def _own_extras(self) -> Tensor:
        return torch.cat([self._flag_sums, self._buffers.moved]) if self._buffers is not None else self._flag_sums

    def _raise_bad(self) -> None:
        raise NonFiniteLossError(
            [
                batch.describe() | {"micro_batch": number}
                for step in self._seen
                for number, batch, loss in step
                if not bool(torch.isfinite(loss))
            ]
        )


class ReplicatedSync(StepSync):
    """For nn.DataParallel: a pass has as many micro-batches as there are replicas.

    Args:
        share: what this process contributes.
        num_replicas: GPUs that nn.DataParallel uses.
        replicas_buffers: returns the replicas' buffers after the last pass, float32 [replicas, size].
    """

    def __init__(self, share: StepShare, *, num_replicas: int, replicas_buffers: Callable[[], Tensor]) -> None:
        super().__init__(share)
        self.passes = split_passes(share.micro_batches.of(share.shard), num_replicas)
        self._find_buffers = replicas_buffers

    def _replicas_buffers(self) -> Tensor | None:
        return self._find_buffers()


class DistributedSync(StepSync):
    """For DistributedDataParallel, which averages gradients over processes during the last backward pass of a step.

    Args:
        share: what this process contributes.
        group: all processes.
        wrapper: the DistributedDataParallel module around the network.
    """

    waits_in = frozenset({"backward", "sum"})

    def __init__(self, share: StepShare, *, group: Group, wrapper: nn.parallel.DistributedDataParallel) -> None:
        super().__init__(share)
        self.loss_factor = float(group.world_size)  # DDP divides by it
        self._group, self._wrapper = group, wrapper
        self._pending: Pending | None = None

    @contextlib.contextmanager
    def forward(self, numbers: range) -> Iterator[None]:
        """As in StepSync. Only the last backward pass of a step sums over processes."""
        silent = numbers != self.passes[-1]
        with super().forward(numbers), self._wrapper.no_sync() if silent else contextlib.nullcontext():
            yield

    def _begin_sum(self) -> None:
        # Begun before the backward pass, so that all processes start their collectives in the same order.
        self._pending = self._group.start_sum(self._own_extras())

    def _end_sum(self) -> Tensor:
        assert self._pending is not None
        extras = self._pending.wait()
        self._flag_sums = extras[:NUM_FLAGS]
        return extras


class ExactSync(StepSync):
    """For exact mode: sums gradients, buffers and flags in one fixed tree over the numbers of the micro-batches.

    Args:
        share: what this process contributes.
        group: all processes; None for one process.
        shards_optimizer: whether each process steps a part of the weights; see `ShardedTree`. One process steps all.

    Attributes:
        sharded: the tree that says who steps which part; None if each process steps all.
    """

    def __init__(self, share: StepShare, *, group: Group | None, shards_optimizer: bool = False) -> None:
        super().__init__(share)
        parameters = [parameter for parameter in share.model.parameters() if parameter.requires_grad]
        self.waits_in = frozenset({"sum"} if group is not None else ())
        common = (parameters, self.num_extras, share.micro_batches, share.shard)
        self.sharded = ShardedTree(*common, group) if shards_optimizer and group is not None else None
        self._tree = self.sharded or GradientTree(*common, group)

    @contextlib.contextmanager
    def backward(self, numbers: range, batch: Described, loss: Tensor) -> Iterator[None]:
        """As in StepSync; the gradient of each micro-batch is a leaf of the tree."""
        self._collect(numbers, batch, loss)
        self._tree.begin(numbers.start, self._own_extras(), is_last=numbers == self.passes[-1])
        self._flag_sums = torch.zeros_like(self._flag_sums)
        if self._buffers is not None:
            self._buffers.moved.zero_()
        yield
        self._tree.end()

    @contextlib.contextmanager
    def watched(self, on_leaf: OnLeaf) -> Iterator[None]:
        """Within the block, `on_leaf` is called with the gradients of each micro-batch; see `GradientTree.on_leaf`."""
        self._tree.on_leaf = on_leaf
        try:
            yield
        finally:
            self._tree.on_leaf = None

    def aside(self, number: int) -> contextlib.AbstractContextManager[None]:
        """Enter it, before a step, for a backward pass of micro-batch `number` that is in no sum."""
        return self._tree.aside(number)

    def clip(self, max_norm: float) -> None:
        """As in StepSync, with the same bits on any number of processes."""
        self._tree.clip(max_norm)

    def _end_sum(self) -> Tensor:
        extras = self._tree.finish()
        self._flag_sums = extras[:NUM_FLAGS]
        return extras


def split_passes(numbers: range, size: int) -> list[range]:
    """Cut `numbers` into contiguous parts of `size`; the last part may be smaller."""
    return [numbers[start : start + size] for start in range(0, len(numbers), size)]
