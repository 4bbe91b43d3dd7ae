"""Looking into the steps of a run while they are trained again: numbers of each layer, images, losses, gradients."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from signs_dist.data.batches import Batch
from signs_dist.data.plan import BatchKey
from signs_dist.replaying.records import IMAGES, LOSS, Event, MicroBatch
from signs_dist.retraining.layers import LayerWatch
from signs_dist.training.loop import ForwardWithLoss
from signs_dist.training.stepper import Stepper


class StepWatch:
    """Looks into one step of a stepper, which is trained within `with StepWatch(…) as watch:`.

    Args:
        stepper: trains the step.
        only: the number of the micro-batch that is looked at; None: all of this process.
        keeps_gradients: whether the gradients of the micro-batches are kept.

    Attributes:
        batches: what the loader gave, by the numbers of the micro-batches.
        unclipped_norm: the 2-norm of the step's gradient before it is clipped; None before the gradients are summed.
    """

    def __init__(self, stepper: Stepper, *, only: int | None = None, keeps_gradients: bool = False) -> None:
        self._stepper, self._only, self._keeps_gradients = stepper, only, keeps_gradients
        self.batches: dict[int, Batch] = {}
        self.unclipped_norm: float | None = None
        self._passes: list[_Pass] = []
        self._scale = float(stepper.state.scaler.get_scale())  # of float16; it may change with the step
        self._cleanup = contextlib.ExitStack()

    def __enter__(self) -> StepWatch:
        state, part = self._stepper.state, self._stepper.prepared.trained_part
        with contextlib.ExitStack() as cleanup:
            cleanup.callback(setattr, state, "observe", state.observe)
            state.observe = self._note_batch
            cleanup.callback(setattr, state, "observe_sums", state.observe_sums)
            state.observe_sums = self._note_norm
            # Of all modules: at a thaw, within the step, the stepper makes another ForwardWithLoss.
            cleanup.callback(register_module_forward_pre_hook(self._before_forward).remove)
            cleanup.callback(register_module_forward_hook(self._after_forward).remove)
            cleanup.enter_context(LayerWatch(state.model, self._note, part=part))
            self._cleanup = cleanup.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._cleanup.close()

    def micro_batches(self) -> list[MicroBatch]:
        """The micro-batches that were looked at, as far as the step went."""
        sync = self._stepper.state.sync
        share = 1.0 / (sync.loss_factor * self._scale)
        whole = share * sync.micro_batches.global_batch / sync.micro_batches.size
        found = [
            each.finish(share=share, whole=whole)
            for each in self._passes
            if each.number in self.batches and self._is_wanted(each.number)
        ]
        return [self._with_images(each) for each in found] if self._stepper.prepared.features is not None else found

    def _with_images(self, micro_batch: MicroBatch) -> MicroBatch:
        """The micro-batch with the images whose features are stored."""
        batch = self.batches[micro_batch.number]
        key = BatchKey(batch.epoch, batch.step, batch.samples.numpy())
        images, _ = self._stepper.prepare_evaluation(self._stepper.prepared.sources["train"][key])
        return dataclasses.replace(micro_batch, images=images.cpu(), features=micro_batch.images)

    def _is_wanted(self, number: int) -> bool:
        return self._only is None or number == self._only

    def _before_forward(self, module: nn.Module, inputs: Any) -> None:
        if isinstance(module, ForwardWithLoss):
            number = self._stepper.state.sync.passes[len(self._passes)].start
            images, targets = inputs[:2]
            self._passes.append(_Pass(number))
            if self._is_wanted(number):
                self._passes[-1].keep_inputs(images, targets)
            self._note(0, IMAGES, "forward", images)

    def _after_forward(self, module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(module, ForwardWithLoss):
            current, (losses, logits) = self._passes[-1], output
            self._note(0, LOSS, "forward", losses)
            current.losses, current.logits = losses.detach().float().cpu(), logits.detach().cpu()

    def _note_batch(self, numbers: range, batch: Batch, images: Tensor, loss: Tensor) -> None:
        self.batches[numbers.start] = self._passes[-1].batch = batch

    def _note_norm(self) -> None:
        gradients = gradients_of(self._stepper.state.model)
        self.unclipped_norm = norm_of(gradients.values()) / self._scale

    def _note(self, place: int, name: str, direction: str, tensor: Tensor) -> None:
        current = self._passes[-1]
        if self._is_wanted(current.number):
            current.note(name, direction, tensor, keeps_gradients=self._keeps_gradients)


class _Pass:
    """What is seen of one micro-batch. Numbers of its layers stay on the device until the end."""

    batch: Batch
    _images: Tensor
    _targets: Tensor
    losses: Tensor
    logits: Tensor

    def __init__(self, number: int) -> None:
        self.number = number
        self._noted: list[tuple[str, str, tuple[int, ...]]] = []
        self._numbers: list[Tensor] = []  # float64 [3] each: largest, number of bad values, sum of squares
        self._gradients: dict[str, Tensor] = {}

    def keep_inputs(self, images: Tensor, targets: Tensor) -> None:
        # Copies: a network may change its input in place.
        self._images, self._targets = images.detach().to("cpu", copy=True), targets.to("cpu", copy=True)

    def note(self, name: str, direction: str, tensor: Tensor, *, keeps_gradients: bool) -> None:
        self._noted.append((name, direction, tuple(tensor.shape)))
        self._numbers.append(_describe(tensor, with_squares=direction == "gradient"))
        if direction == "gradient" and keeps_gradients:
            self._gradients[name] = tensor.detach().clone()

    def finish(self, *, share: float, whole: float) -> MicroBatch:
        """As values, on the CPU.

        Args:
            share: the factor from the gradients that were seen to this micro-batch's part of the step's gradient.
            whole: the factor to the gradient of the mean loss of this micro-batch.
        """
        numbers = torch.stack(self._numbers).cpu().tolist()
        events = [
            Event(name, direction, shape, largest * (1 if direction == "forward" else whole), int(num_bad))
            for (name, direction, shape), (largest, num_bad, _) in zip(self._noted, numbers, strict=True)
        ]
        squares = sum(row[2] for row in numbers)
        return MicroBatch(
            number=self.number,
            samples=self.batch.samples.tolist(),
            labels=self.batch.labels.tolist(),
            images=self._images,
            targets=self._targets,
            logits=self.logits,
            losses=self.losses,
            events=events,
            gradient_norm=float(squares**0.5) * whole,
            gradients={name: (each * share).cpu() for name, each in self._gradients.items()} or None,
        )


def _describe(tensor: Tensor, *, with_squares: bool) -> Tensor:
    """float64 [3]: the largest finite absolute value, how many values are not finite, the sum of squares."""
    values = tensor.detach()
    values = values.float() if values.is_floating_point() else values.double()
    is_finite = torch.isfinite(values)
    largest = values.abs().where(is_finite, 0).amax() if values.numel() else values.new_zeros(())
    squares = torch.linalg.vector_norm(values, dtype=torch.float64).square() if with_squares else values.new_zeros(())
    return torch.stack([largest.double(), (~is_finite).sum().double(), squares.double()])


def gradients_of(model: nn.Module) -> dict[str, Tensor]:
    """The gradients of the parameters that have one, by name."""
    return {name: each.grad for name, each in model.named_parameters() if each.grad is not None}


def norm_of(gradients: Iterable[Tensor]) -> float:
    """The 2-norm of all gradients together, computed in float64."""
    norms = [torch.linalg.vector_norm(each.detach(), dtype=torch.float64) for each in gradients]
    return float(torch.linalg.vector_norm(torch.stack(norms))) if norms else 0.0


def find_bad_weights(model: nn.Module) -> list[str]:
    """The parameters and buffers that hold values that are not finite."""
    named = [*model.named_parameters(), *model.named_buffers()]
    named = [(name, tensor) for name, tensor in named if tensor.is_floating_point()]
    if not named:
        return []
    are_bad = torch.stack([(~torch.isfinite(tensor.detach())).any() for _, tensor in named]).cpu().tolist()
    return [name for (name, _), is_bad in zip(named, are_bad, strict=True) if is_bad]
