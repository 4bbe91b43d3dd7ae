"""A training step, done and written down: as digests of each micro-batch, and once more as digests of each layer."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from signs_dist.data.batches import Batch
from signs_dist.diverging import digests
from signs_dist.diverging.facts import Detail, Digests, Event, Part, Step
from signs_dist.errors import NonFiniteLossError
from signs_dist.learning.metrics import RunningSums
from signs_dist.models.weights import plain_name
from signs_dist.retraining.layers import LayerWatch
from signs_dist.training.image_preparer import Preparer
from signs_dist.training.loop import StepFunction, TrainingState


@dataclasses.dataclass
class StepCall:
    """A call of a step function.

    Attributes:
        do: the function.
        state, batch, prepare, step, run_step, sums: its arguments, as `train_step` takes them.
    """

    do: StepFunction
    state: TrainingState
    batch: Batch
    prepare: Preparer
    step: int
    run_step: int
    sums: RunningSums

    def again(self) -> StepCall:
        """The same step with other sums: those of the epoch have it already."""
        return dataclasses.replace(self, sums=RunningSums(self.state.num_classes, self.prepare.device))


class Observation:
    """Does one training step and notes what it computes.

    Args:
        call: the step.
        rank: of this process.
        layers: the part of the network that a pass calls, whose layers are noted.
        micro_batch: whose layers are noted; None: only the gradient of each micro-batch is.
    """

    def __init__(self, call: StepCall, rank: int, layers: nn.Module, micro_batch: int | None = None) -> None:
        self._call, self._rank, self._layers, self._micro_batch = call, rank, layers, micro_batch
        self._passes = [numbers.start for numbers in call.state.sync.passes]
        self._inputs: list[tuple[list[int], list[str]]] = []
        self._targets: list[str] = []
        self._losses: list[float] = []
        self._gradients: list[Digests] = [{} for _ in self._passes]
        self._events: list[Event] = []
        self._summed: Digests = {}
        self._clipped: Digests = {}
        self._entries: list[dict[str, Any]] = []
        self._error = ""

    def run(self) -> None:
        """Do the step. A loss that is not finite ends it, and is noted."""
        call, state = self._call, self._call.state
        with self._watching(state):
            try:
                call.do(*(state, call.batch, self._prepare), step=call.step, run_step=call.run_step, sums=call.sums)
            except NonFiniteLossError as error:
                self._error = str(error)

    def step(self, number: int) -> Step:
        """What the step computed. All processes call this.

        Args:
            number: of the step in the run, from 1.
        """
        state, batch = self._call.state, self._call.batch
        parts = [
            Part(
                self._passes[place],
                samples=samples,
                images=images,
                targets=self._targets[place],
                loss=self._losses[place].hex(),
                gradient=digests.together(self._gradients[place]),
            )
            for place, (samples, images) in enumerate(self._inputs)
        ]
        return Step(
            rank=self._rank,
            number=number,
            epoch=batch.epoch + 1,
            step=batch.step + 1,
            parts=parts,
            summed=digests.together(self._summed),
            clipped=digests.together(self._clipped),
            entries=self._entries,
            weights=digests.together(digests.of_weights(state.model)),
            optimizer=digests.together(digests.of_optimizer(state)),
            average=digests.together(digests.of_average(state)),
            buffers=digests.together(digests.of_buffers(state.model)),
            error=self._error,
        )

    def detail(self) -> Detail:
        """What the step computed, by name. All processes call this."""
        state = self._call.state
        place = self._passes.index(self._micro_batch) if self._micro_batch in self._passes else None
        return Detail(
            rank=self._rank,
            events=self._events,
            loss=self._losses[place].hex() if place is not None and place < len(self._losses) else "",
            summed=self._summed,
            clipped=self._clipped,
            weights=digests.of_weights(state.model),
            optimizer=digests.of_optimizer(state),
            average=digests.of_average(state),
            buffers=digests.of_buffers(state.model),
        )

    @contextlib.contextmanager
    def _watching(self, state: TrainingState) -> Iterator[None]:
        before = state.observe, state.observe_sums
        state.observe, state.observe_sums = self._note_pass, self._note_sums
        hook = state.optimizer.register_step_pre_hook(self._note_clipped)
        try:
            with LayerWatch(state.model, self._note_tensor, part=self._layers):
                yield
        finally:
            hook.remove()
            state.observe, state.observe_sums = before

    def _prepare(self, batch: Batch) -> tuple[Tensor, Tensor]:
        images, targets = self._call.prepare(batch)
        self._targets.append(digests.digest_of(targets))
        return images, targets

    def _note_pass(self, numbers: range, batch: Batch, images: Tensor, loss: Tensor) -> None:
        self._inputs.append((batch.samples.tolist(), [digests.digest_of(image) for image in images]))
        self._losses.append(float(loss.detach()))

    def _note_tensor(self, number: int, name: str, direction: str, tensor: Tensor) -> None:
        is_detailed = self._passes[number] == self._micro_batch
        if not is_detailed and direction != "gradient":
            return
        if direction != "forward":
            # In fast mode the loss of each process counts as many times as there are processes.
            tensor = tensor / self._call.state.sync.loss_factor if self._call.state.sync.loss_factor != 1 else tensor
        digest = digests.digest_of(tensor)
        if direction == "gradient":
            self._gradients[number][plain_name(name)] = digest
        if is_detailed:
            self._events.append((name, direction, digest))

    def _note_sums(self) -> None:
        self._summed = digests.of_gradients(self._call.state.model)

    def _note_clipped(self, optimizer: torch.optim.Optimizer, arguments: Any, named: Any) -> None:
        self._clipped = digests.of_gradients(self._call.state.model)
        self._entries = digests.entries_of(optimizer)
