"""Training steps and evaluations of a prepared run. Writes no files, handles no signals, shows no progress."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
from collections.abc import Callable, Iterator, Sequence

from torch import Tensor, nn

from signs_dist.checkpointing.store import Cursor
from signs_dist.config.dotted_names import is_dotted
from signs_dist.config.settings import AugmentConfig, Config, ScheduleConfig
from signs_dist.data.augment import BatchAugmenter
from signs_dist.data.batches import Batch
from signs_dist.data.loader import EvaluationLoader, LoaderSettings, OnStuck, TrainLoader
from signs_dist.data.loader_room import require_room
from signs_dist.data.loader_wait import BatchWait
from signs_dist.data.mixing import BatchMixer, mixes
from signs_dist.data.own_augment import OwnAugmenter
from signs_dist.data.plan import BatchKey, Shard
from signs_dist.data.progressive import side_of_epoch
from signs_dist.distributed.step_sync import StepSync
from signs_dist.distributed.strategy import Wishes
from signs_dist.environment.worker_limits import read_limits
from signs_dist.learning.losses import build_evaluation_loss, build_loss
from signs_dist.learning.metrics import RunningSums
from signs_dist.learning.optim import build_optimizer
from signs_dist.learning.own_parts import build_own_schedule
from signs_dist.learning.precision import Precision
from signs_dist.learning.probabilities import KeptProbabilities
from signs_dist.learning.schedule import learning_rate_factor
from signs_dist.learning.weight_average import WeightAverage
from signs_dist.models.trainable import frozen_parameters, thaw
from signs_dist.models.trial import Trial, TrialDigest
from signs_dist.training import loop
from signs_dist.training.cached_features import FeaturePreparer
from signs_dist.training.prepare import Prepared
from signs_dist.training.process import Process


def _no_wish() -> bool:
    return False


class Stepper:
    """Trains and evaluates the model of a prepared run.

    Args:
        prepared: the parts of the run.
        process: where this process runs.
        wishes: two functions, called once a step: whether this process asks to stop, and whether it asks to save.

    Attributes:
        prepared: the parts of the run.
        state: what a training step reads and changes: model, optimizer, synchronisation.
        prepare_train, prepare_evaluation: make the model's input from a batch.
        train_loader: the training batches of this process.
        evaluation_loaders: split to batches. Each image is in the batches of one process.
        trial: in exact mode, what the model computes from its initial weights; None before it is tried.
    """

    def __init__(self, prepared: Prepared, process: Process, wishes: Wishes = (_no_wish, _no_wish)) -> None:
        config, strategy = prepared.config, process.strategy
        self.prepared = prepared
        self._strategy = strategy
        prepare = functools.partial(
            loop.ImagePreparer.create, config.data, strategy.device, channels_last=config.train.channels_last
        )
        augment = build_augmenter(config.augment, config.seed)
        side_of = make_side_of(config)
        self.prepare_train = prepare(
            augment=augment, mix=self._make_mixer(), side_of=side_of, resizes_bytes=not config.exact
        )
        self.prepare_evaluation = prepare()
        self._inputs: tuple[loop.Preparer, loop.Preparer] = (self.prepare_train, self.prepare_evaluation)
        if prepared.features is not None:
            self._inputs = (FeaturePreparer(strategy.device), FeaturePreparer(strategy.device))
        self._require_room_for_workers()
        source = (prepared.features or prepared.sources)["train"]
        self.train_loader = TrainLoader(source, prepared.plan, strategy.shard, self._loading)
        self.evaluation_loaders = self._make_evaluation_loaders()
        self._wishes, self._pulse = wishes, process.pulse
        self.state = self._make_state()
        self._evaluation_forward = self._make_evaluation_forward()
        self.trial: TrialDigest | None = None

    def _make_mixer(self) -> BatchMixer | None:
        config, plan = self.prepared.config, self.prepared.plan
        if not mixes(config.augment):
            return None
        num_classes = len(self.prepared.data.classes)
        return BatchMixer(config.augment, config.seed, num_classes=num_classes, micro_batch=plan.micro_batches.size)

    @property
    def _loading(self) -> LoaderSettings:
        """How training batches are loaded. Stored features are read by this process: a worker would only copy them."""
        loading = self.prepared.loading
        return loading if self.prepared.features is None else dataclasses.replace(loading, num_workers=0)

    @property
    def _prepares_in_a_row(self) -> bool:
        """Whether several batches are prepared in a row: on a CPU whose process loads whole steps of stored pixels."""
        on_cpu, loads = self._strategy.device.type == "cpu", self._loading.num_workers == 0
        return on_cpu and loads and self.prepared.features is None and len(self.state.sync.passes) == 1

    def _require_room_for_workers(self) -> None:
        prepared, config = self.prepared, self.prepared.config
        side = config.data.image_size
        pixel_bytes = 4 if config.augment.backend == "torchvision" else 1  # torchvision's transforms may give float32
        num_images = max(prepared.plan.num_own(self._strategy.shard), config.evaluate.batch)
        decodes = config.data.storage == "files"
        require_room(
            self._loading,
            read_limits(),
            num_loaders=len(prepared.data.splits) if decodes else 1,
            batch_bytes=num_images * 3 * side * side * pixel_bytes,
        )

    def _make_evaluation_loaders(self) -> dict[str, EvaluationLoader]:
        prepared, config = self.prepared, self.prepared.config
        # Evaluation is short: starting workers takes longer than they save, unless images are decoded each time.
        decodes = config.data.storage == "files"
        loading = self._loading if decodes else dataclasses.replace(self._loading, num_workers=0)
        sources = prepared.features or prepared.sources
        return {
            name: EvaluationLoader(sources[name], len(index), config.evaluate.batch, self._strategy.shard, loading)
            for name, index in prepared.data.splits.items()
            if name != "train"
        }

    def _make_state(self) -> loop.TrainingState:
        prepared, config = self.prepared, self.prepared.config
        model, num_classes = prepared.model, len(prepared.data.classes)
        forward, sync = self._wrap()
        return loop.TrainingState(
            model=model,
            forward=forward,
            sync=sync,
            num_classes=num_classes,
            optimizer=build_optimizer(model, config.optim, thaws=config.model.thaw_after_epochs is not None),
            scaler=prepared.precision.scaler(),
            learning_rate=make_learning_rate(
                config.schedule,
                config.optim.lr,
                images_per_epoch=prepared.plan.num_steps * prepared.plan.global_batch,
                num_epochs=config.train.epochs,
            ),
            clip_norm=config.optim.clip_norm,
            average=WeightAverage(model, config.ema.decay) if config.ema.decay is not None else None,
            seed=config.seed,
            pulse=self._pulse,
        )

    def _wrap(self) -> tuple[nn.Module, StepSync]:
        """Forward and loss in the strategy's wrapper, and what sums the gradients of the parameters that train now."""
        prepared, config, strategy = self.prepared, self.prepared.config, self._strategy
        num_classes = len(prepared.data.classes)
        forward = make_forward(prepared.trained_part, config, num_classes, prepared.precision, prepared.class_weights)
        wrapped = strategy.wrap(forward, for_training=True, exact=config.exact)
        micro_batches = prepared.plan.micro_batches
        return wrapped, strategy.sync(prepared.model, wrapped, micro_batches, self._wishes, exact=config.exact)

    def _thaw_if_due(self, epochs_done: int) -> None:
        """Let the whole network train from the epoch of the config on.

        The place of the run decides, so that a run that resumes before, at or after the thaw does the same.
        """
        after = self.prepared.config.model.thaw_after_epochs
        if after is None or epochs_done < after or not frozen_parameters(self.prepared.model):
            return
        self._pulse.enter("thaw the backbone", collective=self._strategy.world_size > 1)
        self.state.sync.settle()
        # The old wrapper sums gradients for as long as it lives.
        del self.state.forward, self.state.sync
        gc.collect()
        thaw(self.prepared.model)
        self.state.forward, self.state.sync = self._wrap()

    def _make_evaluation_forward(self) -> loop.EvaluationForward:
        prepared, num_classes = self.prepared, len(self.prepared.data.classes)
        forward = make_evaluation_forward(prepared.trained_part, prepared.config, num_classes, prepared.precision)
        return self._strategy.wrap(forward, for_training=False)  # type: ignore[return-value]

    def steps(self, cursor: Cursor, sums: RunningSums | None = None) -> Iterator[loop.StepReport]:
        """Train the rest of an epoch, yielding after each step.

        Args:
            cursor: the number of finished epochs, and of steps done in the next epoch.
            sums: the sums of the epoch so far, to which this adds; None begins at zero.

        Raises:
            NonFiniteLossError: see `loop.train_epoch`.
        """
        self._thaw_if_due(cursor.epoch)
        batches = self.train_loader.epoch(cursor.epoch, cursor.step)
        try:
            yield from loop.train_epoch(
                self.state,
                batches,
                self._inputs[0],
                first_step=cursor.step,
                first_run_step=cursor.epoch * self.prepared.plan.num_steps + cursor.step,
                sums=sums,
                in_a_row=self._prepares_in_a_row,
            )
        finally:
            batches.close()  # a traceback that is kept would keep them, and with them the worker processes

    def evaluate(self, split: str, kept: KeptProbabilities | None = None) -> RunningSums:
        """Losses and hits on this process's images of a split, with the moving average of the weights if it is on.

        `kept` gets the probabilities of these images, in the order of the split.
        """
        average = self.state.average
        if average is None:
            return self._evaluate_split(split, kept)
        with average.swapped_into(self.state.model):
            return self._evaluate_split(split, kept)

    def _evaluate_split(self, split: str, kept: KeptProbabilities | None) -> RunningSums:
        loader, num_classes = self.evaluation_loaders[split], self.state.num_classes
        return loop.evaluate(self._evaluation_forward, loader, self._inputs[1], num_classes, kept)

    def when_loading_is_stuck(self, action: OnStuck) -> None:
        """Call `action` in another thread if this process itself reads images and hangs longer than the limit."""
        self.train_loader.on_stuck = action
        for loader in self.evaluation_loaders.values():
            loader.on_stuck = action

    def close(self) -> None:
        """End the worker processes of the loaders. After this, no step and no evaluation is possible."""
        self.train_loader.close()
        for loader in self.evaluation_loaders.values():
            loader.close()

    def first_images(self, num_images: int) -> tuple[Batch, Tensor, Tensor]:
        """The first images of the run's first step, at most `num_images`, the same on all processes.

        Returns:
            (batch, images, targets): the batch, and what the model gets of it.
        """
        plan, num_read = self.prepared.plan, num_images
        if self.prepare_train.mix is not None:
            num_read += -num_images % plan.micro_batches.size  # images are mixed within whole micro-batches
        samples = plan.samples(0, 0, Shard(0, 1))[:num_read]
        wait = BatchWait(
            lambda number: "epoch 1, step 1",
            rank=self._strategy.shard.index,
            timeout_seconds=self.prepared.loading.timeout_seconds,
            on_stuck=self.train_loader.on_stuck,
        )
        with contextlib.closing(wait), wait.waiting([]):
            batch = self.prepared.sources["train"][BatchKey(0, 0, samples)]
        images, targets = self.prepare_train(batch)
        return batch.part(0, min(num_images, len(samples))), images[:num_images], targets[:num_images]

    def make_trial(self) -> Trial:
        """The model and the first micro-batch of the run, the same on all processes."""
        micro_batches = self.state.sync.micro_batches
        _, images, targets = self.first_images(micro_batches.size)
        forward, evaluation, is_split = self.state.forward, self._evaluation_forward, micro_batches.count > 1
        if self.prepared.features is not None:  # the backbone is tried too: it computes the features
            prepared, num_classes = self.prepared, self.state.num_classes
            model, config, precision = prepared.model, prepared.config, prepared.precision
            forward = make_forward(model, config, num_classes, precision, prepared.class_weights)
            evaluation = make_evaluation_forward(model, config, num_classes, precision)
        return make_trial(self.state.model, forward, evaluation, images, targets, is_split=is_split)


def build_augmenter(config: AugmentConfig, seed: int) -> BatchAugmenter | OwnAugmenter | None:
    """What changes whole batches of training images; None if nothing does, or transforms change image by image."""
    if is_dotted(config.backend):
        return OwnAugmenter(config, seed)
    return BatchAugmenter(config, seed) if config.backend == "batch" else None


def make_side_of(config: Config) -> Callable[[int], int] | None:
    """A function from the epoch to the side of its training images; None if all epochs have one side."""
    if not config.train.progressive_sizes:
        return None
    return functools.partial(
        side_of_epoch,
        config.train.progressive_sizes,
        num_epochs=config.train.epochs,
        image_size=config.data.image_size,
    )


def make_forward(
    model: nn.Module,
    config: Config,
    num_classes: int,
    precision: Precision,
    class_weights: Sequence[float] | None = None,
) -> loop.ForwardWithLoss:
    """Forward and loss of a training pass."""
    return loop.ForwardWithLoss(model, build_loss(config.loss, num_classes, class_weights), precision)


def make_evaluation_forward(
    model: nn.Module, config: Config, num_classes: int, precision: Precision
) -> loop.EvaluationForward:
    """Forward and loss of an evaluation."""
    loss_function = build_evaluation_loss(config.loss, num_classes)
    flips, crops = config.evaluate.flip_average, config.evaluate.ten_crop_side
    return loop.EvaluationForward(model, loss_function, precision, flip_average=flips, ten_crop=crops)


def make_trial(
    model: nn.Module,
    forward: nn.Module,
    evaluation_forward: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    is_split: bool = True,
) -> Trial:
    """A trial of `model` over one micro-batch; the arguments are as in `Trial`, the modules of `loop`."""
    return Trial(
        model,
        train=lambda images, labels: forward(images, labels, [0]),
        evaluate=evaluation_forward,
        images=images,
        labels=labels,
        is_split=is_split,
    )


def make_learning_rate(
    schedule: ScheduleConfig, base: float, *, images_per_epoch: int, num_epochs: int
) -> Callable[[int], float]:
    """A function from the number of images seen to the learning rate of the next step; `base` is optim.lr."""
    if is_dotted(schedule.name):
        own = build_own_schedule(schedule)
        total = num_epochs * images_per_epoch
        return lambda images_seen: base * own(min(images_seen, total), total, images_per_epoch)

    def learning_rate(images_seen: int) -> float:
        return base * learning_rate_factor(
            schedule,
            images_seen=images_seen,
            images_total=num_epochs * images_per_epoch,
            images_per_epoch=images_per_epoch,
        )

    return learning_rate
