"""Processes of an exact run as threads, some of which compute something else on purpose."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from signs_dist.checkpointing.store import Cursor
from signs_dist.checkpointing.tensors import weights_sha256
from signs_dist.distributed.strategy import DistributedProcesses
from signs_dist.errors import WrongResultError
from signs_dist.training.stepper import Stepper
from tests.distributed.thread_group import ThreadGroup, in_threads
from tests.training.parts import make_process, make_stepper

SETTINGS = (
    *("exact=true", "train.micro_batch=2", "model.name=signs_net", "model.args={channels: 4, dropout: 0.0}"),
    *("check.recompute_every=2", "train.precision=float32", "optim.name=sgd", "ema.decay=0.9"),
)
"""A step has 4 micro-batches, an epoch 4 steps. Threads share torch's generator, so there is no dropout."""


@dataclasses.dataclass
class Outcome:
    """What a rank found: the error of a check, the newest clean place, the bits of its weights."""

    error: WrongResultError | None
    clean: Cursor | None
    sha256: str


Fault = Callable[[Stepper, int], Any]
"""Called before each step with (the stepper of the rank, steps of the run done)."""


def train_ranks(
    folder: Path,
    world_size: int,
    *settings: str,
    faults: dict[int, Fault] | None = None,
    num_epochs: int = 2,
) -> list[Outcome]:
    """Train on threads; `faults` by rank."""
    process = make_process()
    devices = [dataclasses.replace(process, devices=f"device {rank}") for rank in range(world_size)]
    groups: list[Stepper] = []
    names = {setting.partition("=")[0] for setting in settings}
    common = [each for each in SETTINGS if each.partition("=")[0] not in names]

    def make(rank: int) -> Stepper:
        """One after the other: making a network draws from the generator that all threads share."""
        strategy = DistributedProcesses(torch.device("cpu"), _Standing(rank, world_size))  # type: ignore[arg-type]
        context = dataclasses.replace(process.context, rank=rank, world_size=world_size, host=f"host{rank}")
        own = dataclasses.replace(devices[rank], strategy=strategy, context=context)
        stepper, _ = make_stepper(folder, *common, *settings, process=own)
        return stepper

    groups = [make(rank) for rank in range(world_size)]

    def work(group: ThreadGroup) -> Outcome:
        stepper = groups[group.rank]
        standing = stepper._strategy.group  # type: ignore[attr-defined]
        standing.group = group
        error = None
        try:
            _train(stepper, num_epochs, (faults or {}).get(group.rank))
        except WrongResultError as found:
            error = found.with_traceback(None)
        clean = stepper.check.clean if stepper.check is not None else None
        return Outcome(error, clean, weights_sha256(stepper.state.model))

    return in_threads(world_size, work)


def _train(stepper: Stepper, num_epochs: int, fault: Fault | None) -> None:
    if fault is not None:
        plain = stepper._do_step

        def do_step(*arguments: Any, **places: Any) -> None:
            fault(stepper, places["run_step"])
            plain(*arguments, **places)

        stepper._do_step = do_step
    for epoch in range(num_epochs):
        for _ in stepper.steps(Cursor(epoch, 0)):
            pass
    stepper.settle()


class _Standing:
    """The group of a rank before its thread runs."""

    def __init__(self, rank: int, world_size: int) -> None:
        self.rank, self.world_size = rank, world_size
        self.group: ThreadGroup | None = None

    def open_channel(self) -> _Standing:
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self.group, name)


def flip_bit(tensor: Tensor, bit: int = 12, number: int = 0) -> None:
    """Flip a bit of an element, in place."""
    flat = tensor.detach().view(-1) if tensor.is_contiguous() else tensor.detach().permute(0, 2, 3, 1).reshape(-1)
    assert flat.data_ptr() == tensor.data_ptr()
    words = flat[number : number + 1].view({2: torch.int16, 4: torch.int32, 8: torch.int64}[flat.element_size()])
    words ^= 1 << bit


def at_step(run_step: int, act: Callable[[Stepper], Any]) -> Fault:
    """A fault before the step with so many steps done."""

    def fault(stepper: Stepper, done: int) -> None:
        if done == run_step:
            act(stepper)

    return fault


def in_weight(stepper: Stepper) -> None:
    flip_bit(next(stepper.state.model.parameters()))


def in_buffer(stepper: Stepper) -> None:
    flip_bit(next(each for each in stepper.state.model.buffers() if each.is_floating_point()))


def in_momentum(stepper: Stepper) -> None:
    parameter = next(stepper.state.model.parameters())
    flip_bit(stepper.state.optimizer.state[parameter]["momentum_buffer"])


def in_average(stepper: Stepper) -> None:
    assert stepper.state.average is not None
    flip_bit(next(iter(stepper.state.average.weights().values())))


def in_gradient_of(number: int, run_step: int, value: float | None = None) -> Fault:
    """In the pass of a micro-batch of a step, a bit of the gradient of the first parameter, or all of it: `value`."""

    def act(stepper: Stepper) -> None:
        parameter = next(stepper.state.model.parameters())

        def hook(gradient: Tensor) -> Tensor:
            changed = gradient.clone(memory_format=torch.contiguous_format)
            if value is None:
                flip_bit(changed)
            else:
                changed.fill_(value)
            return changed

        _around_pass(stepper, number, lambda: parameter.register_hook(hook), "backward")

    return at_step(run_step, act)


def in_activation_of(number: int, run_step: int) -> Fault:
    """In the pass of a micro-batch of a step, a bit of what the first layer computes."""

    return at_step(run_step, lambda stepper: around_forward(stepper, number, lambda output: flip_bit(output, 20)))


def around_forward(stepper: Stepper, number: int, change: Callable[[Tensor], Any]) -> None:
    """Change what the first layer computes in the next pass of a micro-batch."""
    layer = next(each for each in stepper.state.model.modules() if isinstance(each, torch.nn.Conv2d))

    def hook(module: Any, inputs: Any, output: Tensor) -> Tensor:
        changed = output.clone(memory_format=torch.contiguous_format)
        change(changed)
        return changed

    _around_pass(stepper, number, lambda: layer.register_forward_hook(hook), "forward")


def _around_pass(stepper: Stepper, number: int, begin: Callable[[], Any], name: str) -> None:
    """Let `begin` act during the forward or backward pass of one micro-batch, and no longer."""
    sync, entered = stepper.state.sync, getattr(stepper.state.sync, name)

    @contextlib.contextmanager
    def enter(numbers: range, *arguments: Any) -> Iterator[None]:
        with entered(numbers, *arguments):
            if number not in numbers:
                yield
                return
            handle = begin()
            try:
                yield
            finally:
                handle.remove()
                setattr(sync, name, entered)

    setattr(sync, name, enter)


def always_in_gradient(stepper: Stepper, run_step: int) -> None:
    """A lasting fault: every gradient of the first parameter, whoever asked for it."""
    if run_step:
        return

    def hook(gradient: Tensor) -> Tensor:
        changed = gradient.clone(memory_format=torch.contiguous_format)
        flip_bit(changed)
        return changed

    next(stepper.state.model.parameters()).register_hook(hook)


def ranks_of(error: WrongResultError | None) -> Sequence[int]:
    """The ranks that are named."""
    assert error is not None
    return [each.rank for each in error.suspects]
