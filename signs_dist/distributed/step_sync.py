"""What the micro-batches of a step have in common: gradients, moving buffers, and whether all is well.

Three ways to bring them together, with the same methods: one process, DistributedDataParallel, exact mode.
"""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from signs_dist.data.batches import Batch
from signs_dist.data.plan import MicroBatches, Shard
from signs_dist.distributed.gradient_tree import GradientTree
from signs_dist.distributed.group import Group, Pending
from signs_dist.errors import NonFiniteLossError

_BAD, _STOP, _SAVE = range(3)
_NUM_FLAGS = 3


class StepSync:
    """The micro-batches of one process on one device, and what the other ways share.

    A step calls `forward` and `backward` around these two of each of its `passes`, then `finish`.

    BatchNorm's running statistics, and every other floating-point buffer, move once a step: by the mean of what the
    micro-batches, each starting from the step's beginning, would have moved them by. Counters move once as well.

    Args:
        model: the plain model, whose buffers these are.
        micro_batches: of a step over all processes.
        shard: which of them are this process's.
        wants_stop: asked once a step; whether this process would like to stop.
        wants_save: asked once a step; whether this process would like all that there is to be saved.

    Attributes:
        passes: the numbers of the micro-batches that go through the model together: one each, but for DataParallel.
        loss_factor: what the loss is multiplied with before the backward pass.
        waits: whether `finish` waits for other processes; `waits_in_backward`: whether the backward pass does.
        stop_agreed: whether some process wanted to stop; the same on all of them, a step late on a GPU.
        save_agreed: whether some process wanted to save, likewise.
    """

    loss_factor = 1.0
    waits = False
    waits_in_backward = False

    def __init__(
        self,
        model: nn.Module,
        micro_batches: MicroBatches,
        shard: Shard,
        wants_stop: Callable[[], bool],
        wants_save: Callable[[], bool] = lambda: False,
    ) -> None:
        self.micro_batches = micro_batches
        self.passes = split_passes(micro_batches.of(shard), 1)
        self.stop_agreed = self.save_agreed = False
        self._wants_stop, self._wants_save = wants_stop, wants_save
        self._device = next(model.parameters()).device
        self._buffers = Buffers(model) if micro_batches.count > 1 else None
        self._flags = LateFlags() if self._device.type == "cuda" else PromptFlags()
        self._flag_sums = torch.zeros(_NUM_FLAGS, device=self._device)
        # The step before is kept too: on a GPU its flags are read a step late.
        self._seen: collections.deque[list[tuple[int, Batch, Tensor]]] = collections.deque(maxlen=2)

    @property
    def num_extras(self) -> int:
        """Numbers that are summed over processes beside the gradients: flags and buffers."""
        return _NUM_FLAGS + (self._buffers.size if self._buffers is not None else 0)

    @contextlib.contextmanager
    def forward(self, numbers: range) -> Iterator[None]:
        """Around the forward pass of the micro-batches `numbers`, one of `passes`."""
        if numbers == self.passes[0]:
            self._flag_sums = torch.zeros(_NUM_FLAGS, device=self._device)
            self._seen.append([])
        if self._buffers is not None:
            self._buffers.before(is_first=numbers == self.passes[0])
        yield

    @contextlib.contextmanager
    def backward(self, numbers: range, batch: Batch, loss: Tensor) -> Iterator[None]:
        """Around the backward pass from `loss`, which is that of `batch`."""
        self._collect(numbers, batch, loss)
        if numbers == self.passes[-1]:
            self._begin_sum()
        yield

    def finish(self) -> None:
        """Bring the step's sums together: the gradients are ready for the optimizer.

        Raises:
            NonFiniteLossError: on all processes alike, if the loss of a micro-batch of any is not a number.
        """
        extras = self._end_sum()
        if self._buffers is not None:
            self._buffers.move(extras[_NUM_FLAGS:] / self.micro_batches.count)
        bad, stop, save = self._flags.publish(extras[:_NUM_FLAGS])
        self.stop_agreed, self.save_agreed = stop > 0, save > 0
        if bad > 0:
            self._raise_bad()

    def guard(self, optimizer: torch.optim.Optimizer) -> None:
        """On a GPU, let the optimizer's kernel skip the step if the loss is not finite: the host has not looked yet."""
        if self._device.type == "cuda" and optimizer.defaults.get("fused"):
            holder: Any = optimizer
            holder.grad_scale, holder.found_inf = None, (self._flag_sums[_BAD] > 0).float()

    def settle(self) -> None:
        """Look at flags that have not been read yet, before anything is saved. Raises as `finish` does."""
        bad, stop, save = self._flags.flush()
        self.stop_agreed, self.save_agreed = self.stop_agreed or stop > 0, self.save_agreed or save > 0
        if bad > 0:
            self._raise_bad()

    def _collect(self, numbers: range, batch: Batch, loss: Tensor) -> None:
        loss = loss.detach()
        self._seen[-1].append((numbers.start, batch, loss))
        self._flag_sums[_BAD] += (~torch.isfinite(loss)).float()
        if numbers == self.passes[-1]:
            self._flag_sums[_STOP] += float(self._wants_stop())
            self._flag_sums[_SAVE] += float(self._wants_save())
        if self._buffers is not None:
            self._buffers.after(self._replicas_buffers())

    def _replicas_buffers(self) -> Tensor | None:
        """Of DataParallel's replicas, float32 [replicas, size], whose buffers are not the model's."""
        return None

    def _begin_sum(self) -> None:
        """Called when all of this process's forward passes are done."""

    def _end_sum(self) -> Tensor:
        """The extras, float32 [num_extras], summed over processes."""
        return self._own_extras()

    def _own_extras(self) -> Tensor:
        return torch.cat([self._flag_sums, self._buffers.moved]) if self._buffers is not None else self._flag_sums

    def _raise_bad(self) -> None:
        found = [
            {
                "epoch": batch.epoch + 1,
                "step": batch.step + 1,
                "micro_batch": number,
                "samples": batch.samples.tolist(),
            }
            for step in self._seen
            for number, batch, loss in step
            if not bool(torch.isfinite(loss))
        ]
        raise NonFiniteLossError(found)


class ReplicatedSync(StepSync):
    """With DataParallel: as many micro-batches a pass as there are replicas."""

    def __init__(
        self,
        model: nn.Module,
        micro_batches: MicroBatches,
        shard: Shard,
        wants_stop: Callable[[], bool],
        wants_save: Callable[[], bool] = lambda: False,
        *,
        num_replicas: int,
        replicas_buffers: Callable[[], Tensor],
    ) -> None:
        super().__init__(model, micro_batches, shard, wants_stop, wants_save)
        self.passes = split_passes(micro_batches.of(shard), num_replicas)
        self._find_buffers = replicas_buffers

    def _replicas_buffers(self) -> Tensor | None:
        return self._find_buffers()


class DistributedSync(StepSync):
    """With DistributedDataParallel, which averages gradients over processes while the last backward pass runs."""

    waits = True
    waits_in_backward = True

    def __init__(
        self,
        model: nn.Module,
        micro_batches: MicroBatches,
        shard: Shard,
        wants_stop: Callable[[], bool],
        wants_save: Callable[[], bool] = lambda: False,
        *,
        group: Group,
        wrapper: nn.parallel.DistributedDataParallel,
    ) -> None:
        super().__init__(model, micro_batches, shard, wants_stop, wants_save)
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
        # Before the backward pass, so that it travels while that runs, and in the same order on all processes.
        self._pending = self._group.start_sum(self._own_extras())

    def _end_sum(self) -> Tensor:
        assert self._pending is not None
        extras = self._pending.wait()
        self._flag_sums = extras[:_NUM_FLAGS]
        return extras


class ExactSync(StepSync):
    """Gradients, buffers and flags summed in one fixed tree over micro-batches, on any number of processes."""

    def __init__(
        self,
        model: nn.Module,
        micro_batches: MicroBatches,
        shard: Shard,
        wants_stop: Callable[[], bool],
        wants_save: Callable[[], bool] = lambda: False,
        *,
        group: Group | None,
    ) -> None:
        super().__init__(model, micro_batches, shard, wants_stop, wants_save)
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.waits = group is not None
        self._tree = GradientTree(parameters, self.num_extras, micro_batches, shard, group)

    @contextlib.contextmanager
    def backward(self, numbers: range, batch: Batch, loss: Tensor) -> Iterator[None]:
        """As in StepSync; each micro-batch's gradient is a leaf of the tree."""
        self._collect(numbers, batch, loss)
        self._tree.begin(numbers.start, self._own_extras(), is_last=numbers == self.passes[-1])
        self._flag_sums = torch.zeros_like(self._flag_sums)
        if self._buffers is not None:
            self._buffers.moved.zero_()
        yield
        self._tree.end()

    def _end_sum(self) -> Tensor:
        extras = self._tree.finish()
        self._flag_sums = extras[:_NUM_FLAGS]
        return extras


def split_passes(numbers: range, size: int) -> list[range]:
    """`numbers` in contiguous parts of `size`, the last perhaps smaller."""
    return [numbers[start : start + size] for start in range(0, len(numbers), size)]


def flat_buffers(model: nn.Module, device: torch.device) -> Tensor:
    """All floating-point buffers of a model in one vector on `device`, float32 [size], in the order of `Buffers`."""
    parts = [buffer.reshape(-1) for buffer in dict.fromkeys(model.buffers()) if buffer.is_floating_point()]
    return torch.cat(parts) if parts else torch.zeros(0, device=device)


class Buffers:
    """A model's buffers over the micro-batches of a step: floating-point ones move by the mean, others once.

    Attributes:
        size: numbers in all floating-point buffers.
        moved: float32 [size], the sum of what this process's micro-batches moved them by.
    """

    def __init__(self, model: nn.Module) -> None:
        buffers = list(dict.fromkeys(model.buffers()))
        self._floating = [buffer for buffer in buffers if buffer.is_floating_point()]
        self._counters = [buffer for buffer in buffers if not buffer.is_floating_point()]
        self.size = sum(buffer.numel() for buffer in self._floating)
        device = next(model.parameters()).device
        self._before: list[Tensor] = []
        self._counters_before: list[Tensor] = []
        self.moved = torch.zeros(self.size, device=device)

    @torch.no_grad()
    def before(self, *, is_first: bool) -> None:
        """Before a forward pass: remember the buffers, or put them back to where the step began."""
        if is_first:
            self._before = [buffer.clone() for buffer in self._floating]
            self._counters_before = [buffer.clone() for buffer in self._counters]
            self.moved = torch.zeros_like(self.moved)
        else:
            self._restore()
            if self._counters:
                torch._foreach_copy_(self._counters, self._counters_before)

    @torch.no_grad()
    def after(self, replicas: Tensor | None) -> None:
        """After a forward pass: add up how far the buffers went, the model's or those of replicas [replicas, size]."""
        if replicas is not None:
            if self._floating:
                self.moved += (replicas - torch.cat([buffer.reshape(-1) for buffer in self._before])).sum(dim=0)
        elif self._floating:
            moves = torch._foreach_sub(self._floating, self._before)
            self.moved += torch.cat([move.reshape(-1) for move in moves])

    @torch.no_grad()
    def move(self, by: Tensor) -> None:
        """End the step: move the buffers from where it began, by float32 [size]."""
        if self._floating:
            self._restore()
            parts = torch.split(by, [buffer.numel() for buffer in self._floating])
            moves = [part.view_as(buffer) for part, buffer in zip(parts, self._floating, strict=True)]
            torch._foreach_add_(self._floating, moves)

    def _restore(self) -> None:
        if self._floating:
            torch._foreach_copy_(self._floating, self._before)


class Flags(Protocol):
    """Brings a few numbers of each step to the host."""

    def publish(self, flags: Tensor) -> list[float]:
        """Take a step's flags; returns the newest that are known."""
        ...

    def flush(self) -> list[float]:
        """Those that `publish` has not returned yet; zeros without any."""
        ...


class PromptFlags:
    """On the CPU numbers are on the host already."""

    def publish(self, flags: Tensor) -> list[float]:
        """The flags of this very step."""
        values: list[float] = flags.tolist()
        return values

    def flush(self) -> list[float]:
        """Nothing is ever late."""
        return [0.0] * _NUM_FLAGS


class LateFlags:
    """On a GPU each step's flags are read when the next step has been queued, so that the GPU is never idle for it.

    All processes read the flags of the same step at the same place, so they decide alike.
    """

    def __init__(self) -> None:
        self._under_way: tuple[Tensor, torch.cuda.Event] | None = None

    def publish(self, flags: Tensor) -> list[float]:
        """The flags of the step before."""
        before = self.flush()
        on_host = torch.empty(_NUM_FLAGS, pin_memory=True)
        on_host.copy_(flags, non_blocking=True)
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        self._under_way = (on_host, event)
        return before

    def flush(self) -> list[float]:
        """Those of the last step, if they have not been read."""
        if self._under_way is None:
            return [0.0] * _NUM_FLAGS
        on_host, event = self._under_way
        self._under_way = None
        event.synchronize()
        values: list[float] = on_host.tolist()
        return values
