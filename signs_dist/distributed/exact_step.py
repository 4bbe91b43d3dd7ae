"""`ExactStep`: gradients for a user's own training loop, the same bits on any number of processes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn

from signs_dist.checkpointing.tensors import weights_sha256
from signs_dist.data.generators import device_generator_kept, seed_device
from signs_dist.data.plan import EpochPlan
from signs_dist.data.randomness import Stream, stream_key
from signs_dist.distributed.connect import ConnectedProcesses
from signs_dist.distributed.exactness import differing_ranks
from signs_dist.distributed.step_sync import ExactSync, StepShare
from signs_dist.errors import UserError, require_kind
from signs_dist.monitoring.signals import StopRequest


class ExactStep:
    """Computes the gradients of each step, the same bits on any number of processes.

    The loss of a part is the mean over its samples; the gradient of a step is the mean over its parts, the
    micro-batches. BatchNorm's running statistics move once a step, by the mean over the parts. Dropout draws from
    torch's generator, which is seeded for each part from (plan.seed, step, number of the part); after the last part
    the generator is as it was before the first.

    A step begins by dropping the gradients of the step before. After `finish` the gradients of the step are ready for
    clipping and for any optimizer. The first step checks that all processes have the same weights.

    Args:
        model: the plain network, on `processes.device`, not in DistributedDataParallel.
        plan: how a step is cut, and the seed.
        processes: from `connect(exact=True)`.
        stop: this process's request to stop; see `stop_agreed`.

    Attributes:
        steps_done: steps of the run that are done. Dropout depends on it: save it, and set it when you resume.
        stop_agreed: whether some process was asked to stop; all processes see it after the same step.

    Raises:
        UserError: `processes` is not exact, the network is wrapped or has no parameter that trains, or there are more
            processes than parts.

    Example:
        >>> import torch, signs_dist as sd
        >>> dataset = torch.utils.data.TensorDataset(torch.arange(8.0)[:, None], torch.arange(8.0)[:, None])
        >>> with sd.connect(exact=True) as processes:
        ...     plan = sd.EpochPlan(len(dataset), global_batch=4, micro_batch=2, seed=0)
        ...     net = torch.nn.Linear(1, 1)
        ...     optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
        ...     step = sd.ExactStep(net, plan, processes)
        ...     for batch in sd.plan_loader(dataset, plan, processes, epoch=0):
        ...         for part in step.parts(batch):
        ...             inputs, targets = part.data
        ...             part.backward(torch.nn.functional.mse_loss(net(inputs), targets))
        ...         step.finish()
        ...         optimizer.step()
        >>> step.steps_done, part.number, len(inputs)
        (2, 1, 2)
    """

    def __init__(
        self, model: nn.Module, plan: EpochPlan, processes: ConnectedProcesses, *, stop: StopRequest | None = None
    ) -> None:
        require_kind("plan", plan, EpochPlan, "ExactStep(net, plan, processes)")
        require_kind("processes", processes, ConnectedProcesses, "with connect(exact=True) as processes:")
        if not processes.is_exact:
            raise UserError("ExactStep needs exact arithmetic. Type connect(exact=True).")
        if isinstance(model, (nn.parallel.DistributedDataParallel, nn.DataParallel)):
            raise UserError(
                f"ExactStep sums the gradients itself. Give it the plain network, not one in {type(model).__name__}."
            )
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise UserError("no parameter of the network trains: each has requires_grad=False.")
        self.steps_done = 0
        self._model, self._processes, self._seed = model, processes, plan.seed
        share = StepShare(
            model,
            plan.micro_batches,
            processes.shard,
            wants_stop=lambda: stop is not None and stop.is_set,
            prompt=True,
        )
        self._sync = ExactSync(share, group=processes.group)
        self._num_own = plan.num_own(processes.shard)
        self._is_checked = False
        self._open: Part | None = None
        self._num_parts_done = 0

    @property
    def stop_agreed(self) -> bool:
        """Whether some process was asked to stop; known after `finish`, on all processes after the same step."""
        return self._sync.stop_agreed

    def parts(self, batch: Any) -> Iterator[Part]:
        """Cut this process's samples of a step into parts, the micro-batches. Call `backward` of each part.

        Args:
            batch: what the collate function made: a tensor, or dicts, lists and tuples of tensors, each with this
                process's samples along its first dimension. numpy arrays and lists of strings are cut as well; single
                numbers and strings are the same in each part.

        Raises:
            UserError: a tensor has another number of samples, or the processes have different weights.
            RuntimeError: `backward` was not called for the part before, or `finish` for the step before.
        """
        if self._num_parts_done == len(self._sync.passes):
            raise RuntimeError(f"step {self.steps_done + 1} is not finished: call finish() after its last part.")
        if not self._is_checked:
            self._require_same_start()
        for parameter in self._model.parameters():
            parameter.grad = None
        size = self._sync.micro_batches.size
        self._num_parts_done = 0
        with device_generator_kept(self._processes.device):
            for place, numbers in enumerate(self._sync.passes):
                number = numbers.start
                data = cut(batch, place * size, (place + 1) * size, self._num_own)
                self._open = part = Part(number, data, self._backward)
                key = stream_key(self._seed, Stream.DROPOUT, self.steps_done, number)
                seed_device(self._processes.device, key)
                with self._sync.forward(numbers):
                    yield part
                self._require_closed()

    def finish(self) -> None:
        """End the step: sum over all processes. After that each parameter's `grad` is the gradient of the step.

        Raises:
            NonFiniteLossError: the loss of some part is infinite or not a number. All processes raise it in the same
                step, before your optimizer steps; its `found` names the step, from 1, and this process's parts.
            RuntimeError: some part of this step got no `backward`.
        """
        self._require_closed()
        if self._num_parts_done < len(self._sync.passes):
            raise RuntimeError(
                f"finish() after {self._num_parts_done} of {len(self._sync.passes)} parts: call backward(loss) of each "
                f"part of step.parts(batch) first."
            )
        self._num_parts_done = 0
        self._sync.finish()
        self.steps_done += 1

    def _backward(self, part: Part, loss: Tensor) -> None:
        if part is not self._open:
            raise RuntimeError(f"backward() of part {part.number} is called once, before the next part begins.")
        require_kind("loss", loss, Tensor, "part.backward(loss), with the tensor and not loss.item()")
        if loss.dim() != 0:
            raise UserError(
                f"the loss of a part is one number, the mean over its samples, not a tensor of {list(loss.shape)}. "
                f"Type loss.mean()."
            )
        self._open = None
        numbers = range(part.number, part.number + 1)
        with self._sync.backward(numbers, _Place(self.steps_done), loss):
            (loss / self._sync.micro_batches.count).backward()  # type: ignore[no-untyped-call]
        self._num_parts_done += 1

    def _require_closed(self) -> None:
        if self._open is not None:
            number, self._open = self._open.number, None
            raise RuntimeError(f"part {number} got no backward(loss). Every part of a step needs it.")

    def _require_same_start(self) -> None:
        self._is_checked = True
        marks = self._processes.gather((self.steps_done, weights_sha256(self._model)))
        others = differing_ranks(marks)
        if others:
            raise UserError(
                f"rank {', '.join(map(str, others))} begins with other weights or another steps_done than rank 0. Call "
                f"torch.manual_seed before you make the network, and load the same checkpoint on all processes."
            )


class Part:
    """One micro-batch of a step. Made by `ExactStep.parts`.

    Attributes:
        number: of the micro-batch in its step, over all processes, from 0.
        data: this part of the batch, in the structure of the batch. Tensors are views, not copies.
    """

    def __init__(self, number: int, data: Any, backward: Callable[[Part, Tensor], None]) -> None:
        self.number, self.data = number, data
        self._backward = backward

    def backward(self, loss: Tensor) -> None:
        """Compute the gradients from `loss`, the mean over the samples of this part: a tensor of no dimension.

        Raises:
            UserError: the loss is not one number.
            RuntimeError: it was called before, or another part has begun.
        """
        self._backward(self, loss)


@dataclasses.dataclass(frozen=True)
class _Place:
    """A step of the run, from 0, for the report of a loss that is not finite."""

    step: int

    def describe(self) -> dict[str, Any]:
        return {"step": self.step + 1}


def cut(batch: Any, start: int, end: int, num_samples: int) -> Any:
    """Samples `start` up to, not including, `end` of a collated batch, in the same structure.

    Args:
        batch: tensors and numpy arrays [num_samples, …] and lists of `num_samples` plain values, in dicts, lists and
            tuples. Other values are returned as they are.
        start: first sample.
        end: one past the last.
        num_samples: of the batch.

    Raises:
        UserError: a tensor, an array or a list of plain values has another number of samples.
    """
    if isinstance(batch, (Tensor, np.ndarray)):
        return _samples(batch, start, end, num_samples)
    if isinstance(batch, Mapping):
        return {name: cut(value, start, end, num_samples) for name, value in batch.items()}
    if isinstance(batch, (str, bytes)) or not isinstance(batch, Sequence):
        return batch
    if not any(isinstance(value, (Tensor, np.ndarray, Mapping, list, tuple)) for value in batch):
        return _samples(batch, start, end, num_samples)
    values = [cut(value, start, end, num_samples) for value in batch]
    if hasattr(batch, "_fields"):  # a named tuple
        return type(batch)(*values)
    return tuple(values) if isinstance(batch, tuple) else values


def _samples(values: Any, start: int, end: int, num_samples: int) -> Any:
    shape = list(values.shape) if hasattr(values, "shape") else [len(values)]
    if not shape or shape[0] != num_samples:
        raise UserError(
            f"the batch holds a {type(values).__name__} of shape {shape}, and this process has {num_samples} samples "
            f"of each step. Use plan_loader, or a batch size of plan.num_own(processes.shard)."
        )
    return values[start:end]
