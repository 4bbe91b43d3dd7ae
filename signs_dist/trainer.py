"""The epochs of a run: train, validate, write down, keep the last and the best."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn
from torch.utils.data import Dataset

from signs_dist import checkpoint, loop
from signs_dist.config import Config
from signs_dist.console import Screen, percent
from signs_dist.data.augment import BatchAugmenter
from signs_dist.data.batches import Batch
from signs_dist.data.loader import EvaluationLoader, LoaderSettings, TrainLoader
from signs_dist.data.plan import BatchKey, EpochPlan
from signs_dist.data.sets import DataSet
from signs_dist.ema import WeightAverage
from signs_dist.errors import NonFiniteLossError, StoppedError, TrainingFailedError, UserError
from signs_dist.heartbeat import Pulse
from signs_dist.interrupt import StopRequest
from signs_dist.losses import build_loss
from signs_dist.metrics import RunningSums, Score
from signs_dist.models.determinism import find_unstable_layer
from signs_dist.models.trainable import count_parameters, set_training_mode
from signs_dist.optim import build_optimizer
from signs_dist.precision import Precision
from signs_dist.report import duration, score_fields, show_score
from signs_dist.rundir import RunFolder, timestamp
from signs_dist.schedule import learning_rate_factor
from signs_dist.strategy import SingleProcess


@dataclasses.dataclass(frozen=True)
class RunParts:
    """What a run is made of, each part ready.

    Attributes:
        config: all settings.
        folder: where everything lands.
        data: the images' index.
        sources: the batches of each split.
        plan: which samples at which step.
        settings: how loaders work.
        model: on its device, with its initial weights.
        precision: arithmetic of the forward pass.
        strategy: how processes and devices share the work.
        screen: what a person sees.
        num_threads: threads of one operation on the CPU.
        devices: what this process computes on, for people.
        pulse: hears what is being done.
        stop: whether the user has asked to stop.
    """

    config: Config
    folder: RunFolder
    data: DataSet
    sources: Mapping[str, Dataset[Batch]]
    plan: EpochPlan
    settings: LoaderSettings
    model: nn.Module
    precision: Precision
    strategy: SingleProcess
    screen: Screen
    num_threads: int
    devices: str
    pulse: Pulse
    stop: StopRequest


@dataclasses.dataclass(frozen=True)
class Best:
    """The best epoch so far, by validation accuracy, then by loss."""

    epoch: int
    accuracy: float
    loss: float

    def is_beaten_by(self, score: Score) -> bool:
        """Whether `score` is better."""
        return (score.accuracy, -score.loss) > (self.accuracy, -self.loss)


class Trainer:
    """The epochs of a run: train, validate, write down, keep the last and the best."""

    def __init__(self, parts: RunParts) -> None:
        config, data, strategy, precision = parts.config, parts.data, parts.strategy, parts.precision
        self.config, self.folder, self.data, self.plan = config, parts.folder, data, parts.plan
        self.model, self.precision, self.strategy, self.screen = parts.model, precision, strategy, parts.screen
        self.pulse, self.devices = parts.pulse, parts.devices
        self.best: Best | None = None
        self.steps_done = 0
        self.step_seconds = 0.0
        self.num_steps = config.train.epochs * parts.plan.num_steps
        self.started = time.perf_counter()

        num_classes = len(data.classes)
        augment = BatchAugmenter(config.augment, config.seed) if config.augment.backend == "batch" else None
        prepare = functools.partial(
            loop.ImagePreparer.create, config.data, strategy.device, channels_last=config.train.channels_last
        )
        self.prepare_train, self.prepare_evaluation = prepare(augment=augment), prepare()
        self.train_source = parts.sources["train"]
        self.train_loader = TrainLoader(parts.sources["train"], parts.plan, strategy.shard, parts.settings)
        # Evaluation is short: workers would take longer to start than they save, unless images are decoded each time.
        decodes = config.data.storage == "files"
        settings = parts.settings if decodes else dataclasses.replace(parts.settings, num_workers=0)
        self.evaluation_loaders = {
            name: EvaluationLoader(parts.sources[name], len(index), config.evaluate.batch, strategy.shard, settings)
            for name, index in data.splits.items()
            if name != "train"
        }
        images_per_epoch = parts.plan.num_steps * parts.plan.global_batch
        forward = loop.ForwardWithLoss(parts.model, build_loss(config.loss, num_classes), precision)
        wrapped = strategy.wrap(forward, for_training=True, exact=config.exact)
        evaluation_loss = build_loss(config.loss.model_copy(update={"label_smoothing": 0.0}), num_classes)
        judge = loop.Judge(parts.model, evaluation_loss, precision, flip_average=config.evaluate.flip_average)
        self.judge_module = strategy.wrap(judge, for_training=False)
        micro_batches, stop = parts.plan.micro_batches, parts.stop
        self.state = loop.TrainingState(
            model=parts.model,
            forward=wrapped,
            sync=strategy.sync(parts.model, wrapped, micro_batches, lambda: stop.is_set, exact=config.exact),
            num_classes=num_classes,
            optimizer=build_optimizer(parts.model, config.optim),
            scaler=precision.scaler(),
            learning_rate=lambda images_seen: (
                config.optim.lr
                * learning_rate_factor(
                    config.schedule,
                    images_seen=images_seen,
                    images_total=config.train.epochs * images_per_epoch,
                    images_per_epoch=images_per_epoch,
                )
            ),
            clip_norm=config.optim.clip_norm,
            average=WeightAverage(parts.model, config.ema.decay) if config.ema.decay is not None else None,
            seed=config.seed,
            pulse=parts.pulse,
        )

    def require_same_bits(self) -> None:
        """In exact mode, compute the first micro-batch twice and compare: what draws from elsewhere is refused.

        Raises:
            UserError: naming the layer.
        """
        sync = self.state.sync
        samples = self.plan.samples(0, 0, self.strategy.shard)[: sync.micro_batches.size]
        images, labels = self.prepare_train(self.train_source[BatchKey(0, 0, samples)])

        def compute_loss() -> Tensor:
            losses, _ = self.state.forward(images, labels, [0])
            total: Tensor = losses.sum()
            return total

        set_training_mode(self.model)
        unstable = find_unstable_layer(self.model, compute_loss)
        if unstable:
            raise UserError(
                f"exact=true cannot hold: {unstable} gives other bits each time for the same images and seed. "
                f"Let it draw from torch's generator only, or use exact=false."
            )

    def train_all(self, run_started: float) -> dict[str, Any]:
        """Train every epoch, judge the final weights, and write model.pt and result.json."""
        self.started = time.perf_counter()
        num_epochs = self.config.train.epochs
        score: Score | None = None
        with self.screen.training(self.num_steps) as progress:
            for epoch in range(num_epochs):
                self.pulse.enter("load", epoch=epoch + 1, step=0)
                numbers = self.train_one(epoch, progress)
                last = epoch + 1 == num_epochs
                score = None
                if last or (epoch + 1) % self.config.evaluate.every_epochs == 0:
                    score = self.judge("val")
                    if self.best is None or self.best.is_beaten_by(score):
                        self.best = Best(epoch + 1, score.accuracy, score.loss)
                    numbers |= score_fields("val", score)
                self.save(epoch + 1, 0, is_best=self.best is not None and self.best.epoch == epoch + 1)
                self.folder.append(self.folder.metrics, {"kind": "epoch", **numbers})
                self.screen.epoch(epoch + 1, num_epochs, self.epoch_line(numbers, score))
        train_seconds = time.perf_counter() - self.started
        assert score is not None
        assert self.best is not None
        return self.finish(score, self.best, train_seconds, run_started)

    def train_one(self, epoch: int, progress: Callable[[int, str], None]) -> dict[str, Any]:
        """Train one epoch; returns its numbers."""
        num_steps, batch = self.plan.num_steps, self.plan.global_batch
        started = time.perf_counter()
        numbers: dict[str, Any] = {}
        steps = loop.train_epoch(
            self.state,
            self.train_loader.epoch(epoch),
            self.prepare_train,
            first_step=0,
            first_run_step=epoch * num_steps,
        )
        for step in self._watched(steps):
            self.steps_done = epoch * num_steps + step.step
            at_end = step.step == num_steps
            if self.state.sync.stop_agreed and not at_end:
                self._stop(epoch, step.step)
            if not at_end and self.steps_done % self.config.log.every_steps:
                continue
            score = self._total(step.sums)
            seconds = time.perf_counter() - started
            numbers = {
                "epoch": epoch + 1,
                "step": self.steps_done,
                "images": self.steps_done * batch,
                **score_fields("train", score),
                "lr": step.learning_rate,
                "images_per_second": round(step.step * batch / seconds, 1),
                "data_wait_share": round(step.wait_seconds / seconds, 4),
            }
            if not at_end:
                progress(self.steps_done, self.step_line(numbers))
                self.folder.append(self.folder.metrics, {"kind": "step", **numbers})
        self.step_seconds += time.perf_counter() - started
        return numbers

    def _watched(self, steps: Iterator[loop.StepReport]) -> Iterator[loop.StepReport]:
        """The same steps; if a loss is not finite, the run ends with the images of its micro-batches written down."""
        try:
            yield from steps
            self.state.sync.settle()
        except NonFiniteLossError as error:
            self._end_non_finite(error)

    def _total(self, sums: RunningSums) -> Score:
        before = self.pulse.phase
        self.pulse.enter("sum metrics", collective=self.strategy.world_size > 1)
        score = Score.from_sums(self.strategy.total(sums.tensors()))
        self.pulse.enter(before)
        return score

    def _stop(self, epoch: int, step: int) -> None:
        self.state.sync.settle()
        self.save(epoch, step, is_best=False)
        # All leave together: a launcher ends the others as soon as one has gone, even in the middle of the save.
        self.strategy.gather_values(None, "wait for the save")
        raise StoppedError(f"stopped after epoch {epoch + 1}, step {step} of {self.plan.num_steps}, as asked")

    def judge(self, split: str) -> Score:
        """How the weights that will be saved (the average, if on) do on a split."""
        average = self.state.average
        if average is None:
            return self._judge(split)
        with average.swapped_into(self.model):
            return self._judge(split)

    def _judge(self, split: str) -> Score:
        self.pulse.enter(f"evaluate {split}")
        loader = self.evaluation_loaders[split]
        score = self._total(loop.evaluate(self.judge_module, loader, self.prepare_evaluation, len(self.data.classes)))
        assert score.num_images == len(self.data.splits[split])
        return score

    def save(self, epoch: int, step: int, *, is_best: bool) -> None:
        """Write checkpoints/last.pt, and best.pt if this is the best epoch. Called by all processes, done by rank 0.

        `epoch` epochs are done, and `step` steps of the next one.
        """
        self.pulse.enter("save")
        if not self.strategy.is_main:
            return
        average = self.state.average
        content = {
            "format": 1,
            "model": checkpoint.plain_weights(self.model),
            "ema": average.state_dict() if average is not None else None,
            "optimizer": self.state.optimizer.state_dict(),
            "scaler": self.state.scaler.state_dict(),
            "cursor": {"epoch": epoch, "step": step},
            "best": dataclasses.asdict(self.best) if self.best is not None else None,
            "config": self.config.model_dump(mode="json"),
            "classes": list(self.data.classes),
        }
        checkpoint.save(self.folder.checkpoints / "last.pt", content)
        if is_best:
            checkpoint.save(self.folder.checkpoints / "best.pt", content)

    def finish(self, val: Score, best: Best, train_seconds: float, run_started: float) -> dict[str, Any]:
        """Judge the test split, write model.pt and result.json, and show the closing tables."""
        average = self.state.average
        weights = checkpoint.plain_weights(self.model)
        if average is not None:
            weights = {name: tensor.cpu().contiguous() for name, tensor in average.weights().items()}
        scores = {"val": val} | {name: self.judge(name) for name in self.evaluation_loaders if name != "val"}
        self.pulse.enter("save")
        if self.strategy.is_main:
            checkpoint.save(self.folder.model, weights)
        images = self.config.train.epochs * self.plan.num_steps * self.plan.global_batch
        result: dict[str, Any] = {
            "finished": True,
            "data": self.data.name,
            "classes": list(self.data.classes),
            "split_sizes": {name: len(index) for name, index in self.data.splits.items()},
        }
        for name, score in scores.items():
            result |= score_fields(name, score, in_full=True)
        result |= {
            "best_epoch": best.epoch,
            "best_val_accuracy": best.accuracy,
            "epochs": self.config.train.epochs,
            "steps": self.steps_done,
            "seed": self.config.seed,
            "train_seconds": round(train_seconds, 3),
            "total_seconds": round(time.perf_counter() - run_started, 3),
            "images_per_second": round(images / self.step_seconds, 1),
            "world_size": self.strategy.world_size,
            "strategy": self.strategy.name,
            "device": self.devices,
            "exact": self.config.exact,
            "micro_batch": self.plan.micro_batches.size,
            "precision": self.precision.name,
            "model": self.config.model.name,
            "num_parameters": count_parameters(self.model)[0],
            "weights_sha256": checkpoint.weights_sha256(weights),
        }
        self.folder.write_result(result)
        for name, score in scores.items():
            show_score(self.screen, name, score, self.data.classes, self.data.name)
        rate, seconds = result["images_per_second"], duration(train_seconds)
        self.screen.say(
            f"trained in {seconds} at {rate:,.0f} images/s; best epoch {best.epoch} ({percent(best.accuracy)})"
        )
        self.screen.say(f"everything is in {self.folder.path}")
        return result

    def step_line(self, numbers: dict[str, Any]) -> str:
        """The numbers beside the progress bar."""
        remaining = (time.perf_counter() - self.started) / self.steps_done * (self.num_steps - self.steps_done)
        return (
            f"epoch {numbers['epoch']}/{self.config.train.epochs} | "
            f"loss {numbers['train_loss']:.3f}  {percent(numbers['train_accuracy'])} | "
            f"{numbers['images_per_second']:,.0f} images/s | {duration(remaining)} left"
        )

    def epoch_line(self, numbers: dict[str, Any], val: Score | None) -> str:
        """One line about an epoch."""
        left = self.config.train.epochs - numbers["epoch"]
        remaining = left * (time.perf_counter() - self.started) / numbers["epoch"]
        words = [
            f"epoch {numbers['epoch']:>{len(str(self.config.train.epochs))}}/{self.config.train.epochs}",
            f"loss {numbers['train_loss']:.3f}  {percent(numbers['train_accuracy'])}",
            *([f"val {val.loss:.3f}  {percent(val.accuracy)} ({val.num_correct}/{val.num_images})"] if val else []),
            f"lr {numbers['lr']:.2g}",
            f"{numbers['images_per_second']:,.0f} images/s",
            f"data wait {100 * numbers['data_wait_share']:.0f} %",
            *([f"{duration(remaining)} left"] if left else []),
        ]
        return " | ".join(words)

    def attempt_end(self, reason: str) -> dict[str, Any]:
        """The line of attempts.jsonl at the end of an attempt."""
        return {"attempt": 1, "event": "end", "time": timestamp(), "reason": reason, "last_step": self.steps_done}

    def _end_non_finite(self, error: NonFiniteLossError) -> None:
        """Gather what was seen by whom, write it down, and end the run."""
        found = self.strategy.gather_values(error.found, "gather images")
        paths = self.data.splits["train"].paths
        rows = [
            {"rank": rank, **row, "files": [str(paths[sample]) for sample in row["samples"]]}
            for rank, rows in enumerate(found)
            for row in rows
        ]
        first = rows[0]
        self.folder.write_json("non_finite_loss.json", {"micro_batches": rows})
        raise TrainingFailedError(
            f"the training loss is not a finite number at epoch {first['epoch']}, step {first['step']}, in micro-batch "
            f"{', '.join(str(row['micro_batch']) for row in rows)}. A lower optim.lr (it is {self.config.optim.lr:g}) "
            f"or optim.clip_norm=1 often helps. The images are named in {self.folder.path / 'non_finite_loss.json'}; "
            f"the last good epoch is kept in {self.folder.checkpoints}."
        )
