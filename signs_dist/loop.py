"""Training and evaluating: the five steps of training, in order. Knows no rank and no file."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

from signs_dist.config import DataConfig
from signs_dist.data.augment import BatchAugmenter, to_unit_floats
from signs_dist.data.batches import Batch
from signs_dist.data.randomness import Stream, stream_key
from signs_dist.ema import WeightAverage
from signs_dist.metrics import RunningSums
from signs_dist.models.trainable import set_training_mode
from signs_dist.optim import clip_gradients, set_learning_rate
from signs_dist.precision import Precision

LossFunction = Callable[[Tensor, Tensor], Tensor]
"""From logits float [B, C] and labels int64 [B] to the samples' losses, float32 [B]."""


@dataclasses.dataclass(frozen=True)
class ImagePreparer:
    """Takes a batch from the host to what the model eats: on the device, augmented, normalised, laid out.

    Attributes:
        device: where the model is.
        factor, offset: float32 [1, 3, 1, 1], on the device: (pixel - mean) / std as pixel · factor + offset.
        channels_last: memory order of the result.
        augment: changes training images; None leaves them alone.
    """

    device: torch.device
    factor: Tensor
    offset: Tensor
    channels_last: bool
    augment: BatchAugmenter | None = None

    @classmethod
    def create(
        cls, config: DataConfig, device: torch.device, *, channels_last: bool, augment: BatchAugmenter | None = None
    ) -> ImagePreparer:
        """The preparer for a data set's mean and standard deviation."""
        mean, std = (torch.tensor(values, device=device).reshape(1, 3, 1, 1) for values in (config.mean, config.std))
        return cls(device, 1 / std, -mean / std, channels_last, augment)

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """(images float32 [B, 3, H, W], labels int64 [B]) on the device."""
        images = to_unit_floats(batch.images.to(self.device, non_blocking=True))
        if self.augment is not None:
            images = self.augment(images, batch.samples.numpy(), batch.epoch)
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        # In place, since `images` is ours by now; the change of memory order comes last, as the one strided pass.
        images = images.mul_(self.factor).add_(self.offset)
        return images.contiguous(memory_format=layout), batch.labels.to(self.device, non_blocking=True)


@dataclasses.dataclass
class TrainingState:
    """All that a training step reads and changes.

    Attributes:
        model: gives logits float [B, C] for images float32 [B, 3, H, W].
        num_classes: C.
        loss_function: per-sample losses.
        optimizer: over the model's trainable parameters.
        scaler: scales the loss for float16, else does nothing.
        learning_rate: from images seen to the rate of the next step.
        precision: arithmetic of the forward pass.
        clip_norm: largest 2-norm of the gradient, or None.
        average: moving average of the weights, or None.
        seed: the run's seed, for dropout.
    """

    model: nn.Module
    num_classes: int
    loss_function: LossFunction
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    learning_rate: Callable[[int], float]
    precision: Precision
    clip_norm: float | None
    average: WeightAverage | None
    seed: int


@dataclasses.dataclass
class StepReport:
    """What is known after a training step.

    Attributes:
        step: steps of this epoch done.
        num_images: images of this epoch seen.
        sums: losses and hits of this epoch so far, on the device.
        learning_rate: that of the step.
        wait_seconds: time of this epoch spent waiting for batches.
    """

    step: int
    num_images: int
    sums: RunningSums
    learning_rate: float
    wait_seconds: float


def train_epoch(
    state: TrainingState,
    batches: Iterable[Batch],
    prepare: ImagePreparer,
    *,
    global_batch: int,
    first_step: int,
) -> Iterator[StepReport]:
    """Train on the batches of one epoch, yielding after each step.

    Args:
        state: what is trained, and how.
        batches: one batch a step.
        prepare: from a batch to the model's input.
        global_batch: images per step over all processes.
        first_step: steps of the run before this epoch, for the learning rate and for dropout.
    """
    set_training_mode(state.model)
    sums = RunningSums(state.num_classes, prepare.device)
    wait_seconds = 0.0
    for step, (batch, waited) in enumerate(_timed(batches)):
        wait_seconds += waited
        images, labels = prepare(batch)
        run_step = first_step + step
        rate = state.learning_rate(run_step * global_batch)
        set_learning_rate(state.optimizer, rate)
        # Dropout draws from torch's generator. Its seed depends on the step alone: a resumed run draws the same.
        _seed(prepare.device, stream_key(state.seed, Stream.DROPOUT, run_step, 0))

        # 1. Forward: what the model says about these images, and how wrong that is.
        with state.precision.autocast():
            logits = state.model(images)  # [B, C]
        losses = state.loss_function(logits, labels)  # [B]
        # 2. The loss: one number to make small.
        loss = losses.mean()
        # 3. Zero the gradients of the step before.
        state.optimizer.zero_grad(set_to_none=True)
        # 4. Backward: the gradient of the loss by every weight.
        state.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        # 5. Step: move every weight a little against its gradient.
        if state.clip_norm is not None:
            state.scaler.unscale_(state.optimizer)
            clip_gradients(state.model.parameters(), state.clip_norm)
        state.scaler.step(state.optimizer)
        state.scaler.update()

        if state.average is not None:
            state.average.update(state.model)
        sums.add(losses, logits, labels)
        yield StepReport(step + 1, (step + 1) * global_batch, sums, rate, wait_seconds)


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    batches: Iterable[Batch],
    prepare: ImagePreparer,
    loss_function: LossFunction,
    precision: Precision,
    *,
    num_classes: int,
    flip_average: bool,
) -> RunningSums:
    """Losses and hits over all batches, in eval mode; the caller adds up over processes."""
    model.eval()
    sums = RunningSums(num_classes, prepare.device)
    for batch in batches:
        images, labels = prepare(batch)
        logits = predict_logits(model, images, precision, flip_average=flip_average)
        sums.add(loss_function(logits, labels), logits, labels)
    return sums


@torch.inference_mode()
def predict_logits(model: nn.Module, images: Tensor, precision: Precision, *, flip_average: bool) -> Tensor:
    """Logits float32 [B, C] for prepared images; with `flip_average`, the mean over each image and its mirror."""
    with precision.autocast():
        logits: Tensor = model(images).float()
        if flip_average:
            logits = (logits + model(images.flip(3)).float()) / 2
    return logits


def _seed(device: torch.device, key: int) -> None:
    """Seed the generator that dropout on `device` draws from. `torch.manual_seed` seeds all of all devices, slowly."""
    if device.type == "cuda":
        torch.cuda.manual_seed(key)
    else:
        torch.default_generator.manual_seed(key)


def _timed(batches: Iterable[Batch]) -> Iterator[tuple[Batch, float]]:
    """Each batch with the seconds that it took to arrive."""
    iterator = iter(batches)
    while True:
        start = time.perf_counter()
        try:
            batch = next(iterator)
        except StopIteration:
            return
        yield batch, time.perf_counter() - start
