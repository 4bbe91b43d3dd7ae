"""Training steps and evaluations of a prepared run. Writes no files, handles no signals, shows no progress."""

from __future__ import annotations

import dataclasses
import functools
import gc
from collections.abc import Generator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from signs_dist.checkpointing.store import Cursor
from signs_dist.checkpointing.tensors import plain_weights
from signs_dist.data.batches import Batch
from signs_dist.data.loader import EvaluationLoader, LoaderSettings, OnStuck, TrainLoader
from signs_dist.data.loader_room import require_room
from signs_dist.data.mixing import BatchMixer, mixes
from signs_dist.data.plan import BatchKey, Shard
from signs_dist.data.side_stream import CudaStreams, SideCopies
from signs_dist.distributed.arithmetic import Fingerprint
from signs_dist.distributed.sharded_average import ShardedAverage
from signs_dist.distributed.sharded_state import ShardedState, Sharding
from signs_dist.distributed.step_sync import ExactSync, StepSync
from signs_dist.distributed.strategy import DistributedProcesses, Summing, Wishes
from signs_dist.environment.worker_limits import read_limits
from signs_dist.learning.metrics import RunningSums
from signs_dist.learning.optim import kind_of_optimizer, optimizer_of_groups
from signs_dist.learning.parameter_groups import parameter_groups
from signs_dist.learning.probabilities import KeptProbabilities
from signs_dist.learning.weight_average import WeightAverage
from signs_dist.models.compiling import try_compiled
from signs_dist.models.trainable import frozen_parameters, thaw
from signs_dist.models.trial import Trial, TrialDigest
from signs_dist.training import loop
from signs_dist.training.cached_features import FeaturePreparer
from signs_dist.training.checked_step import make_checked_step
from signs_dist.training.graph_choice import GraphChoice
from signs_dist.training.graph_recorder import CudaRecorder
from signs_dist.training.graphed_step import GraphedStep
from signs_dist.training.image_preparer import ImagePreparer, Preparer
from signs_dist.training.prepare import Prepared, sides_of
from signs_dist.training.process import Process
from signs_dist.training.single_batches import SingleBatches
from signs_dist.training.step_parts import (
    build_augmenter,
    make_evaluation_forward,
    make_forward,
    make_learning_rate,
    make_side_of,
    make_trial,
)


def _no_wish() -> bool:
    return False


# Many members: what a run, a trial and the tools that repeat a run do with a model.
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
        arithmetic: the arithmetic of this process; None before it is looked at.
        check: what checks the hardware; None without check.recompute_every.
    """

    def __init__(self, prepared: Prepared, process: Process, wishes: Wishes = (_no_wish, _no_wish)) -> None:
        config, strategy = prepared.config, process.strategy
        self.prepared = prepared
        self._strategy = strategy
        prepare = functools.partial(
            ImagePreparer.create, config.data, strategy.device, channels_last=prepared.way.channels_last
        )
        augment = build_augmenter(config.augment, config.seed)
        side_of = make_side_of(config)
        self.prepare_train = prepare(
            augment=augment, mix=self._make_mixer(), side_of=side_of, resizes_bytes=not config.exact
        )
        self.prepare_evaluation = prepare()
        self._inputs: tuple[Preparer, Preparer] = (self.prepare_train, self.prepare_evaluation)
        if prepared.features is not None:
            self._inputs = (FeaturePreparer(strategy.device), FeaturePreparer(strategy.device))
        self._require_room_for_workers()
        source = (prepared.features or prepared.sources)["train"]
        self.train_loader = TrainLoader(source, prepared.plan, strategy.shard, self._loading)
        self.evaluation_loaders = self._make_evaluation_loaders()
        self._wishes, self._pulse = wishes, process.pulse
        self.state = self._make_state()
        self._do_step: loop.StepFunction = loop.train_step
        if prepared.graph.covers != "nothing":
            make_recorder = functools.partial(CudaRecorder, strategy.device)
            tell = process.screen.result
            self._do_step = GraphedStep(prepared.graph, make_recorder, recover=self._renew, tell=tell)
        self.check = make_checked_step(prepared, process, self.train_loader, self._inputs[0])
        if self.check is not None:
            self._do_step = self.check
        self._streams = CudaStreams(strategy.device) if strategy.device.type == "cuda" else None
        self._evaluation_forward = self._make_evaluation_forward()
        self.trial: TrialDigest | None = None
        self.arithmetic: Fingerprint | None = None

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
        optimizer, average, sharding = self._make_learner(sync)
        return loop.TrainingState(
            model=model,
            forward=forward,
            sync=sync,
            num_classes=num_classes,
            optimizer=optimizer,
            scaler=prepared.precision.scaler(),
            learning_rate=make_learning_rate(
                config.schedule,
                config.optim.lr,
                images_per_epoch=prepared.plan.num_steps * prepared.plan.global_batch,
                num_epochs=config.train.epochs,
            ),
            clip_norm=config.optim.clip_norm,
            average=average,
            sharding=sharding,
            seed=config.seed,
            pulse=self._pulse,
        )

    def _make_learner(
        self, sync: StepSync, before: Sharding | None = None
    ) -> tuple[torch.optim.Optimizer, WeightAverage | None, Sharding | None]:
        """The optimizer and the moving average, each of the whole network or of this process's pieces of it.

        `before` spread them until now: its groups, and its way between the processes, are used again.
        """
        model, config, strategy = self.prepared.model, self.prepared.config, self._strategy
        decay = config.ema.decay
        if isinstance(before, ShardedState):  # after a thaw: what was frozen stays in groups of its own
            groups, channel = before.groups, before.channel
        else:
            groups = parameter_groups(model, config.optim, thaws=config.model.thaw_after_epochs is not None)
            channel = None
        if isinstance(sync, ExactSync) and sync.sharded is not None:
            assert isinstance(strategy, DistributedProcesses)
            pieces = ShardedState(sync.sharded, groups, strategy.group, channel)
            optimizer = optimizer_of_groups(pieces.own_groups(), config.optim)
            return optimizer, ShardedAverage(model, decay, sync.sharded) if decay is not None else None, pieces
        average = WeightAverage(model, decay) if decay is not None else None
        if config.train.shard_optimizer and isinstance(strategy, DistributedProcesses):
            # Importing torch's takes 0.5 s.
            from signs_dist.distributed.zero_state import ZeroState

            parameters = [parameter for group in groups for parameter in group["params"]]
            zero = ZeroState(groups, *kind_of_optimizer(parameters, config.optim), strategy.group)
            return zero.optimizer, average, zero
        return optimizer_of_groups(groups, config.optim), average, None

    def _wrap(self) -> tuple[nn.Module, StepSync]:
        """Forward and loss in the strategy's wrapper, and what sums the gradients of the parameters that train now."""
        prepared, config, strategy = self.prepared, self.prepared.config, self._strategy
        num_classes = len(prepared.data.classes)
        forward = make_forward(prepared.trained_part, config, num_classes, prepared.precision, prepared.class_weights)
        if config.train.compile is not False and prepared.features is None:
            self._try_compiler(forward)
        summing = Summing.from_config(config)
        wrapped = strategy.wrap(forward, for_training=True, summing=summing)
        micro_batches = prepared.plan.micro_batches
        return wrapped, strategy.sync(prepared.model, wrapped, micro_batches, self._wishes, summing)

    @property
    def graph(self) -> GraphChoice:
        """How much of a training step is a CUDA graph, and why not more."""
        return self._do_step.choice if isinstance(self._do_step, GraphedStep) else self.prepared.graph

    def _try_compiler(self, forward: loop.ForwardWithLoss) -> None:
        """Let the compiler work now, on images of each size that the run has. Raises `UserError` if it fails."""
        prepared, config = self.prepared, self.prepared.config
        layout = torch.channels_last if prepared.way.channels_last else torch.contiguous_format
        self._pulse.enter("compile the network")
        for side, _ in sides_of(config):
            images = torch.zeros(prepared.plan.micro_batches.size, 3, side, side, device=self._strategy.device)
            images = images.contiguous(memory_format=layout)
            try_compiled(prepared.model, forward.compute, images, config.train.compile)

    def _thaw_if_due(self, epochs_done: int) -> None:
        """Let the whole network train from the epoch of the config on.

        The place of the run decides, so that a run that resumes before, at or after the thaw does the same.
        """
        after = self.prepared.config.model.thaw_after_epochs
        if after is None or epochs_done < after or not frozen_parameters(self.prepared.model):
            return
        self._pulse.enter("thaw the backbone", collective=self._strategy.world_size > 1)
        self.settle()
        sharding = self.state.sharding
        before = self._collect(sharding) if isinstance(sharding, ShardedState) else None
        self._drop_wrapper()
        thaw(self.prepared.model)
        self.state.forward, self.state.sync = self._wrap()
        if before is not None:
            self._spread_again(*before)

    def _drop_wrapper(self) -> None:
        """Forget what sums gradients: it does so for as long as it lives."""
        del self.state.forward, self.state.sync
        gc.collect()

    def _renew(self) -> None:
        """Make forward, synchronisation and scaler again: a recording that failed has ended within a step."""
        scaler = self.prepared.precision.scaler()
        scaler.load_state_dict(self.state.scaler.state_dict())
        self.state.scaler = scaler
        self._drop_wrapper()
        self.state.forward, self.state.sync = self._wrap()

    def _collect(self, sharding: ShardedState) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """The states of the whole optimizer and of the whole average, on every process."""
        average, state = self.state.average, sharding.collect(self.state.optimizer)
        if average is None:
            return state, None
        with average.swapped_into(self.state.model):
            return state, {"num_updates": average.num_updates, "weights": plain_weights(self.state.model)}

    def _spread_again(self, optimizer: dict[str, Any], average: dict[str, Any] | None) -> None:
        """Spread the optimizer and the average over the processes by the parameters that train now."""
        state = self.state
        state.optimizer, state.average, state.sharding = self._make_learner(state.sync, state.sharding)
        assert state.sharding is not None
        state.sharding.load(state.optimizer, optimizer, Path("the run before its thaw"))
        if self.state.average is not None and average is not None:
            self.state.average.load_state_dict(average)

    def _make_evaluation_forward(self) -> loop.EvaluationForward:
        prepared, num_classes = self.prepared, len(self.prepared.data.classes)
        forward = make_evaluation_forward(prepared.trained_part, prepared.config, num_classes, prepared.precision)
        return self._strategy.wrap(forward, for_training=False)  # type: ignore[return-value]

    def steps(self, cursor: Cursor, sums: RunningSums | None = None) -> Generator[loop.StepReport, None, None]:
        """Train the rest of an epoch, yielding after each step.

        Args:
            cursor: the number of finished epochs, and of steps done in the next epoch.
            sums: the sums of the epoch so far, to which this adds; None begins at zero.

        Raises:
            NonFiniteLossError: see `loop.train_epoch`.
        """
        self._thaw_if_due(cursor.epoch)
        loaded = self.train_loader.epoch(cursor.epoch, cursor.step)
        batches = loaded if self._streams is None else SideCopies(loaded, self._streams)
        try:
            yield from loop.train_epoch(
                self.state,
                batches,
                self._inputs[0],
                first_step=cursor.step,
                first_run_step=cursor.epoch * self.prepared.plan.num_steps + cursor.step,
                sums=sums,
                do_step=self._do_step,
                in_a_row=self._prepares_in_a_row,
            )
        finally:
            batches.close()  # a traceback that is kept would keep them, and with them the worker processes

    def settle(self) -> None:
        """Read what has not been read yet about the steps done. Call it before a save.

        Raises:
            NonFiniteLossError, WrongResultError: as a step.
        """
        self.state.sync.settle()
        if self.check is not None:
            self.check.settle()

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
        single = SingleBatches.of(self.prepared, self.prepared.sources["train"], self.train_loader)
        batch = single.read(BatchKey(0, 0, samples))
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
