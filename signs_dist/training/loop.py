"""The five steps of training, in order, and evaluation.

    1. Forward: the model computes logits for the images.
    2. Loss: how wrong the logits are.
    3. Zero the gradients of the previous step.
    4. Backward: compute the gradient of the loss by every weight.
    5. Step: the optimizer moves every weight a little against its gradient.

Begin with `train_step`: it does all five. Nothing here knows of other processes or of files.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from signs_dist.data.ahead import AsPrepared, prepared_in_a_row
from signs_dist.data.batches import Batch
from signs_dist.data.generators import seed_device
from signs_dist.data.randomness import Stream, stream_key
from signs_dist.data.views import views_of
from signs_dist.distributed.sharded_state import Sharding
from signs_dist.distributed.step_sync import StepSync
from signs_dist.errors import UserError
from signs_dist.learning.losses import LossFunction
from signs_dist.learning.metrics import RunningSums
from signs_dist.learning.optim import begin_momentum, set_learning_rate
from signs_dist.learning.precision import Precision
from signs_dist.learning.probabilities import KeptProbabilities
from signs_dist.learning.weight_average import WeightAverage
from signs_dist.models.trainable import set_training_mode
from signs_dist.monitoring.pulse import Pulse
from signs_dist.training.image_preparer import Preparer

Observer = Callable[[range, Batch, Tensor, Tensor], None]
"""Called after a forward pass with (numbers of its micro-batches, their batch, prepared images, loss)."""
StepFunction = Callable[..., None]
"""Does a training step, with the arguments of `train_step`."""
AroundStep = Callable[..., None]
"""Does a training step, or does it more than once: called with the step function and its arguments."""


class ForwardWithLoss(nn.Module):
    """Steps 1 and 2, forward and loss, in one module, so that each replica of nn.DataParallel does both.

    It is called with the prepared images of one micro-batch, float32 [B, 3, H, W], their targets, as ImagePreparer
    returns them, and a list of one key for dropout; of none where the caller has seeded the device. It returns
    (losses float32 [B], logits float [B, C]). `compiled` computes what the model does, see `models/compiling.py`.
    """

    def __init__(
        self,
        model: nn.Module,
        loss_function: LossFunction,
        precision: Precision,
        compiled: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.model, self.loss_function, self.precision = model, loss_function, precision
        self._compiled = (compiled,) if compiled is not None else ()  # no submodule, whose parameters have other names

    def forward(self, images: Tensor, targets: Tensor, keys: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Forward pass and losses of one micro-batch."""
        # Dropout draws from torch's generator. The key makes the draws the same on any process.
        if keys:
            seed_device(images.device, keys[0])
        logits = self.compute(images)  # [B, C]
        if not isinstance(logits, Tensor):  # in training mode, where a trial in eval mode has not seen it
            raise UserError(
                f"the model returns a {type(logits).__name__} in training mode. It must return one tensor of logits, "
                f"floating [images, classes]."
            )
        losses = self.loss_function(logits, targets)  # [B]
        return losses, logits

    def compute(self, images: Tensor) -> Tensor:
        """Logits float [B, C] in the precision of the run, compiled where that is chosen."""
        with self.precision.autocast():
            logits: Tensor = self._compiled[0](images) if self._compiled else self.model(images)
            return logits


class EvaluationForward(nn.Module):
    """Forward and loss of an evaluation: from (images, labels) to (losses float32 [B], logits float32 [B, C])."""

    def __init__(
        self,
        model: nn.Module,
        loss_function: LossFunction,
        precision: Precision,
        *,
        flip_average: bool,
        ten_crop: float | None = None,
    ) -> None:
        super().__init__()
        self.model, self.loss_function, self.precision = model, loss_function, precision
        self.flip_average, self.ten_crop = flip_average, ten_crop

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Losses and logits of a batch."""
        flips, crops = self.flip_average, self.ten_crop
        logits = predict_logits(self.model, images, self.precision, flip_average=flips, ten_crop=crops)
        return self.loss_function(logits, labels), logits


@dataclasses.dataclass
class TrainingState:
    """What a training step reads and changes.

    Attributes:
        model: the plain model: gives logits float [B, C] for images float32 [B, 3, H, W].
        forward: `ForwardWithLoss` of the model, in the strategy's wrapper.
        sync: sums the gradients of a step's micro-batches over all processes.
        num_classes: C.
        optimizer: over the model's trainable parameters.
        scaler: scales the loss for float16, else does nothing.
        learning_rate: from the number of images seen to the learning rate of the next step.
        clip_norm: largest 2-norm of the gradient, or None.
        average: moving average of the weights, or None.
        seed: the run's seed, for dropout.
        pulse: is set to each phase of a step.
        sharding: how optimizer and average are spread over the processes; None if each process has all of them.
        observe: called after each forward pass; None to call nothing.
        observe_sums: called when the gradients of a step are summed, before they are clipped; None to call nothing.
        around: does each step in place of the step function; None: the step function does it.
    """

    model: nn.Module
    forward: nn.Module
    sync: StepSync
    num_classes: int
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    learning_rate: Callable[[int], float]
    clip_norm: float | None
    average: WeightAverage | None
    seed: int
    pulse: Pulse
    sharding: Sharding | None = None
    observe: Observer | None = None
    observe_sums: Callable[[], None] | None = None
    around: AroundStep | None = None


@dataclasses.dataclass
class StepReport:
    """The numbers after a training step.

    Attributes:
        step: the steps of this epoch done.
        sums: losses and hits of this process's images of the epoch so far, on the device.
        learning_rate: the rate of the step.
        wait_seconds: the seconds of this epoch spent waiting for batches.
    """

    step: int
    sums: RunningSums
    learning_rate: float
    wait_seconds: float


def train_epoch(
    state: TrainingState,
    batches: Iterable[Batch],
    prepare: Preparer,
    *,
    first_step: int,
    first_run_step: int,
    sums: RunningSums | None = None,
    do_step: StepFunction | None = None,
    in_a_row: bool = False,
) -> Iterator[StepReport]:
    """Train on the batches of one epoch, yielding after each step.

    Args:
        state: what is trained, and how.
        batches: one batch a step: this process's micro-batches of the step, one after the other.
        prepare: makes the model's input from a batch.
        first_step: the steps of this epoch done before.
        first_run_step: the steps of the run done before, for the learning rate and for dropout.
        sums: the sums of the epoch so far, to which this adds; None begins at zero.
        do_step: does a step, as `train_step`; None: `train_step`.
        in_a_row: whether several batches are prepared before the first of their steps.

    Raises:
        NonFiniteLossError: on every process, before the optimizer's step (on a GPU its kernel skips the step).
    """
    set_training_mode(state.model)
    sums = RunningSums(state.num_classes, prepare.device) if sums is None else sums
    global_batch = state.sync.micro_batches.global_batch
    wait_seconds = 0.0
    state.pulse.enter("load")
    timed = _timed(batches)
    if in_a_row:
        timed, prepare = prepared_in_a_row(timed, prepare), AsPrepared(prepare.device)
    do_step = do_step or train_step
    if state.around is not None:
        do_step = functools.partial(state.around, do_step)
    for step, (batch, waited) in enumerate(timed, first_step):
        wait_seconds += waited
        run_step = first_run_step + step - first_step
        rate = state.learning_rate(run_step * global_batch)
        set_learning_rate(state.optimizer, rate)
        do_step(state, batch, prepare, step=step, run_step=run_step, sums=sums)
        yield StepReport(step + 1, sums, rate, wait_seconds)
        state.pulse.enter("load")


def train_step(
    state: TrainingState, batch: Batch, prepare: Preparer, *, step: int, run_step: int, sums: RunningSums
) -> None:
    """Do the five steps of training for one batch.

    Args:
        state: what is trained, and how.
        batch: this process's micro-batches of the step, one after the other.
        prepare: makes the model's input from a batch.
        step: the steps of this epoch done before.
        run_step: the steps of the run done before, for dropout.
        sums: the sums of the epoch so far, to which this adds.

    Raises:
        NonFiniteLossError: as `train_epoch`.
    """
    sync, pulse = state.sync, state.pulse
    for numbers, part in parts_of(batch, sync):  # one micro-batch at a time, in nn.DataParallel one for each GPU
        images, targets = prepare(part)
        keys = [stream_key(state.seed, Stream.DROPOUT, run_step, number) for number in numbers]
        pulse.enter("forward", step=step + 1)
        losses, logits, _ = run_pass(state, numbers, part, images, targets, keys)
        sums.add(losses, logits, targets)
    pulse.enter("sum gradients", collective="sum" in sync.waits_in)
    sync.finish()
    if state.observe_sums is not None:
        state.observe_sums()
    pulse.enter("optimizer")
    move_weights(state)


def parts_of(batch: Batch, sync: StepSync) -> Iterator[tuple[range, Batch]]:
    """The numbers of each pass through the network, and its images."""
    size = sync.micro_batches.size
    for numbers in sync.passes:
        first = (numbers.start - sync.passes[0].start) * size
        yield numbers, batch.part(first, first + len(numbers) * size)


def run_pass(
    state: TrainingState, numbers: range, part: Batch, images: Tensor, targets: Tensor, keys: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Steps 1 to 4 for the micro-batches `numbers` of a step, whose prepared images go through the network together.

    Returns:
        (losses float32 [B], logits float [B, C], loss: their share in the step's mean loss, a scalar).
    """
    sync = state.sync
    # 1. Forward, and 2. loss: see `ForwardWithLoss`.
    with sync.forward(numbers):
        losses, logits = state.forward(images, targets, keys)  # [B], [B, C]
    loss = losses.sum() / sync.micro_batches.global_batch
    if state.observe is not None:
        state.observe(numbers, part, images, loss)
    # 3. Zero the gradients of the previous step.
    if numbers == sync.passes[0]:
        state.optimizer.zero_grad(set_to_none=True)
    # 4. Backward: the gradient of the loss by every weight. `sync` sums it over the micro-batches.
    state.pulse.enter("backward", collective="backward" in sync.waits_in)
    with sync.backward(numbers, part, loss):
        state.scaler.scale(loss * sync.loss_factor).backward()
    return losses, logits, loss


def move_weights(state: TrainingState) -> None:
    """Step 5: move every weight a little against its gradient."""
    if state.clip_norm is not None:
        state.scaler.unscale_(state.optimizer)
        state.sync.clip(state.clip_norm)
    if state.scaler.is_enabled():  # it skips a step whose gradients are not finite
        begin_momentum(state.optimizer)
    else:
        state.sync.guard(state.optimizer)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    if state.sharding is not None:
        state.sharding.share_weights()
    if state.average is not None:
        state.average.update()


@torch.inference_mode()
def evaluate(
    forward: nn.Module,
    batches: Iterable[Batch],
    prepare: Preparer,
    num_classes: int,
    kept: KeptProbabilities | None = None,
) -> RunningSums:
    """Losses and hits of an `EvaluationForward` over all batches, in eval mode. The caller sums over processes.

    `kept` gets the probabilities of each image, in the order of the batches.
    """
    forward.eval()
    sums = RunningSums(num_classes, prepare.device)
    for batch in batches:
        images, labels = prepare(batch)
        losses, logits = forward(images, labels)
        sums.add(losses, logits, labels)
        if kept is not None:
            kept.add(logits, labels)
    return sums


@torch.inference_mode()
def predict_logits(
    model: nn.Module, images: Tensor, precision: Precision, *, flip_average: bool, ten_crop: float | None = None
) -> Tensor:
    """Logits float32 [B, C] for prepared images: the mean over the views of each, see `views_of`."""
    with precision.autocast():
        logits = [model(view).float() for view in views_of(images, flip=flip_average, ten_crop=ten_crop)]
        first: Tensor = logits[0]
        return sum(logits[1:], first) / len(logits) if len(logits) > 1 else first


def _timed(batches: Iterable[Batch]) -> Iterator[tuple[Batch, float]]:
    """Each batch, with the seconds spent waiting for it."""
    iterator = iter(batches)
    while True:
        start = time.perf_counter()
        try:
            batch = next(iterator)
        except StopIteration:
            return
        yield batch, time.perf_counter() - start
