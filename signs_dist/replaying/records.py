"""What was seen of the steps that were replayed, as values; and as plain values, for files."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

LOSS = "(loss)"
"""The name of the loss function among the layers."""
IMAGES = "(images)"
"""The name of the images that go into the network, among the layers."""


@dataclasses.dataclass(frozen=True)
class Event:
    """A tensor of a pass through the network, in numbers.

    Attributes:
        name: of the layer or the parameter, as `LayerWatch` names it; `LOSS` or `IMAGES`.
        direction: `forward`, its output; `backward`, the gradient at its output; `gradient`, that of a parameter.
        shape: of the tensor.
        largest: the largest absolute value among its finite values; 0 without one.
        num_bad: how many of its values are not finite.
    """

    name: str
    direction: str
    shape: tuple[int, ...]
    largest: float
    num_bad: int


# Many members: one for each thing that is shown of a micro-batch, and its means.
@dataclasses.dataclass(frozen=True)
class MicroBatch:
    """A micro-batch of a step.

    Attributes:
        number: in its step, from 0, as in logs and non_finite_loss.json.
        samples: the numbers of its B images in the training split.
        labels: their classes.
        images: what went into the network, float32 [B, 3, H, W]; with stored features, into its backbone.
        targets: labels int64 [B], or shares of the classes float32 [B, C].
        logits: float [B, C].
        losses: float32 [B].
        events: what was computed, in this order.
        gradient_norm: the 2-norm of the gradient of its mean loss.
        gradients: by name, its part of the step's gradient; None where they are not kept.
        features: what went into the head, float32 [B, …], where features are stored.
    """

    number: int
    samples: list[int]
    labels: list[int]
    images: Tensor
    targets: Tensor
    logits: Tensor
    losses: Tensor
    events: list[Event]
    gradient_norm: float
    gradients: dict[str, Tensor] | None = None
    features: Tensor | None = None

    @property
    def loss(self) -> float:
        """The mean of the losses."""
        return float(self.losses.double().mean())

    @property
    def predictions(self) -> list[int]:
        """The class with the largest logit for each image; -1 where the logits are not finite."""
        is_bad = ~torch.isfinite(self.logits).all(dim=1)
        return [int(each) for each in self.logits.argmax(dim=1).masked_fill(is_bad, -1)]

    @property
    def accuracy(self) -> float:
        """The share of images whose class was predicted; of mixed images, the class with the largest share."""
        hits = [found == wanted for found, wanted in zip(self.predictions, self.target_classes, strict=True)]
        return sum(hits) / len(hits)

    @property
    def target_classes(self) -> list[int]:
        """The class of each target."""
        is_mixed = self.targets.is_floating_point()
        return [int(each) for each in (self.targets.argmax(dim=1) if is_mixed else self.targets)]

    @property
    def is_finite(self) -> bool:
        """Whether the losses and all that was computed are finite."""
        return math.isfinite(self.loss) and all(event.num_bad == 0 for event in self.events)


@dataclasses.dataclass(frozen=True)
class Step:
    """A step of a run.

    Attributes:
        step: in the run, from 1.
        epoch: from 1.
        step_of_epoch: from 1.
        learning_rate: of the step.
        micro_batches: those that were seen, in the order of their numbers.
        bad_weights: the parameters and buffers that were not finite before the step.
        bad_after: the same after it.
        gradient_norm: the 2-norm of the step's gradient, as the optimizer used it; None where it made no step.
        unclipped_norm: the same before `optim.clip_norm`.
        gradients: that gradient by name; None where it is not kept.
        weights_before, weights_after: parameters and buffers by name; None where they are not kept.
    """

    step: int
    epoch: int
    step_of_epoch: int
    learning_rate: float
    micro_batches: list[MicroBatch]
    bad_weights: list[str]
    bad_after: list[str]
    gradient_norm: float | None = None
    unclipped_norm: float | None = None
    gradients: dict[str, Tensor] | None = None
    weights_before: dict[str, Tensor] | None = None
    weights_after: dict[str, Tensor] | None = None

    @property
    def loss(self) -> float:
        """The mean loss of the images that were seen."""
        return float(torch.cat([each.losses.double() for each in self.micro_batches]).mean())

    @property
    def is_finite(self) -> bool:
        """Whether all that was computed is finite, with the weights before and after."""
        return not self.bad_weights and not self.bad_after and all(each.is_finite for each in self.micro_batches)

    @property
    def has_finite_loss(self) -> bool:
        """Whether the loss of each micro-batch is finite."""
        return all(math.isfinite(each.loss) for each in self.micro_batches)


def to_plain(steps: Iterable[Step]) -> list[dict[str, Any]]:
    """Plain values and tensors, as `torch.load(weights_only=True)` reads them."""
    return [
        _shallow(step) | {"micro_batches": [_plain_micro_batch(each) for each in step.micro_batches]} for step in steps
    ]


def from_plain(rows: Iterable[Mapping[str, Any]]) -> list[Step]:
    """The steps that `to_plain` gave."""
    return [Step(**{**row, "micro_batches": [_micro_batch(each) for each in row["micro_batches"]]}) for row in rows]


def merged(every: Sequence[Sequence[Step]]) -> list[Step]:
    """The steps that several processes saw: each process saw its own micro-batches. The first tells of the weights."""
    steps = []
    for parts in zip(*every, strict=True):
        found = [micro_batch for part in parts for micro_batch in part.micro_batches]
        steps.append(dataclasses.replace(parts[0], micro_batches=sorted(found, key=lambda each: each.number)))
    return steps


def _shallow(value: Step | MicroBatch) -> dict[str, Any]:
    # Not `asdict`, which copies tensors.
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def _plain_micro_batch(value: MicroBatch) -> dict[str, Any]:
    return _shallow(value) | {"events": [dataclasses.astuple(event) for event in value.events]}


def _micro_batch(row: Mapping[str, Any]) -> MicroBatch:
    return MicroBatch(**{**row, "events": [Event(*each) for each in row["events"]]})
