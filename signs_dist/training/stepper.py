"""Training steps and evaluations of a prepared run, without its files, its signals and its progress."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator

from torch import Tensor

from signs_dist.checkpointing.store import Cursor
from signs_dist.config.settings import Config
from signs_dist.data.augment import BatchAugmenter
from signs_dist.data.loader import EvaluationLoader, TrainLoader
from signs_dist.data.plan import BatchKey
from signs_dist.distributed.strategy import Wishes
from signs_dist.errors import UserError
from signs_dist.learning.losses import build_loss
from signs_dist.learning.metrics import RunningSums
from signs_dist.learning.optim import build_optimizer
from signs_dist.learning.schedule import learning_rate_factor
from signs_dist.learning.weight_average import WeightAverage
from signs_dist.models.determinism import find_unstable_layer
from signs_dist.models.trainable import set_training_mode
from signs_dist.training import loop
from signs_dist.training.prepare import Prepared
from signs_dist.training.process import Process


def _no_wish() -> bool:
    return False


class Stepper:
    """Trains and judges the model of a prepared run.

    Args:
        prepared: the parts of the run.
        process: where this process runs.
        wishes: asked once a step: whether this process would like to stop, and to save.

    Attributes:
        prepared: as given.
        state: what a training step reads and changes: model, optimizer, synchronisation.
        prepare_train, prepare_evaluation: from a batch to the input of the model.
        train_loader: the batches of this process.
        evaluation_loaders: by split; no process sees an image that another sees.
    """

    def __init__(self, prepared: Prepared, process: Process, wishes: Wishes = (_no_wish, _no_wish)) -> None:
        config, strategy = prepared.config, process.strategy
        self.prepared = prepared
        self._strategy = strategy
        prepare = functools.partial(
            loop.ImagePreparer.create, config.data, strategy.device, channels_last=config.train.channels_last
        )
        augment = BatchAugmenter(config.augment, config.seed) if config.augment.backend == "batch" else None
        self.prepare_train, self.prepare_evaluation = prepare(augment=augment), prepare()
        self.train_loader = TrainLoader(prepared.sources["train"], prepared.plan, strategy.shard, prepared.loading)
        self.evaluation_loaders = self._make_evaluation_loaders()
        self.state = self._make_state(process, wishes)
        self._judge = self._make_judge()

    def _make_evaluation_loaders(self) -> dict[str, EvaluationLoader]:
        prepared, config = self.prepared, self.prepared.config
        # Evaluation is short: workers would take longer to start than they save, unless images are decoded each time.
        decodes = config.data.storage == "files"
        loading = prepared.loading if decodes else dataclasses.replace(prepared.loading, num_workers=0)
        return {
            name: EvaluationLoader(
                prepared.sources[name], len(index), config.evaluate.batch, self._strategy.shard, loading
            )
            for name, index in prepared.data.splits.items()
            if name != "train"
        }

    def _make_state(self, process: Process, wishes: Wishes) -> loop.TrainingState:
        prepared, config, strategy = self.prepared, self.prepared.config, self._strategy
        model, num_classes = prepared.model, len(prepared.data.classes)
        forward = loop.ForwardWithLoss(model, build_loss(config.loss, num_classes), prepared.precision)
        wrapped = strategy.wrap(forward, for_training=True, exact=config.exact)
        return loop.TrainingState(
            model=model,
            forward=wrapped,
            sync=strategy.sync(model, wrapped, prepared.plan.micro_batches, wishes, exact=config.exact),
            num_classes=num_classes,
            optimizer=build_optimizer(model, config.optim),
            scaler=prepared.precision.scaler(),
            learning_rate=make_learning_rate(config, prepared.plan.num_steps * prepared.plan.global_batch),
            clip_norm=config.optim.clip_norm,
            average=WeightAverage(model, config.ema.decay) if config.ema.decay is not None else None,
            seed=config.seed,
            pulse=process.pulse,
        )

    def _make_judge(self) -> loop.Judge:
        prepared, config = self.prepared, self.prepared.config
        loss_function = build_loss(config.loss.model_copy(update={"label_smoothing": 0.0}), len(prepared.data.classes))
        judge = loop.Judge(prepared.model, loss_function, prepared.precision, flip_average=config.evaluate.flip_average)
        return self._strategy.wrap(judge, for_training=False)  # type: ignore[return-value]

    def steps(self, cursor: Cursor, sums: RunningSums | None = None) -> Iterator[loop.StepReport]:
        """Train the rest of an epoch, yielding after each step.

        Args:
            cursor: epochs done, and steps of the next one done.
            sums: those of the epoch so far, to be added to; None begins at zero.

        Raises:
            NonFiniteLossError: as `loop.train_epoch`.
        """
        return loop.train_epoch(
            self.state,
            self.train_loader.epoch(cursor.epoch, cursor.step),
            self.prepare_train,
            first_step=cursor.step,
            first_run_step=cursor.epoch * self.prepared.plan.num_steps + cursor.step,
            sums=sums,
        )

    def judge(self, split: str) -> RunningSums:
        """Losses and hits of this process's share of a split, by the moving average of the weights if that is on."""
        average = self.state.average
        if average is None:
            return self._evaluate(split)
        with average.swapped_into(self.state.model):
            return self._evaluate(split)

    def _evaluate(self, split: str) -> RunningSums:
        return loop.evaluate(
            self._judge, self.evaluation_loaders[split], self.prepare_evaluation, self.state.num_classes
        )

    def require_same_bits(self) -> None:
        """In exact mode, compute the first micro-batch twice and compare: what draws from elsewhere is refused.

        Raises:
            UserError: naming the layer.
        """
        sync, model = self.state.sync, self.state.model
        samples = self.prepared.plan.samples(0, 0, self._strategy.shard)[: sync.micro_batches.size]
        images, labels = self.prepare_train(self.prepared.sources["train"][BatchKey(0, 0, samples)])

        def compute_loss() -> Tensor:
            losses, _ = self.state.forward(images, labels, [0])
            total: Tensor = losses.sum()
            return total

        set_training_mode(model)
        unstable = find_unstable_layer(model, compute_loss)
        if unstable:
            raise UserError(
                f"exact=true cannot hold: {unstable} gives other bits each time for the same images and seed. "
                f"Let it draw from torch's generator only, or use exact=false."
            )


def make_learning_rate(config: Config, images_per_epoch: int) -> Callable[[int], float]:
    """The learning rate of the next step as a function of the images seen."""

    def learning_rate(images_seen: int) -> float:
        return config.optim.lr * learning_rate_factor(
            config.schedule,
            images_seen=images_seen,
            images_total=config.train.epochs * images_per_epoch,
            images_per_epoch=images_per_epoch,
        )

    return learning_rate
