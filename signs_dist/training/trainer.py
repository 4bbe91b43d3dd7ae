"""The epochs of a run: train, validate, write down, save, stop when asked, and go on from what was saved."""

from __future__ import annotations

import dataclasses
import functools
import math
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from signs_dist.checkpointing import tensors as saved
from signs_dist.checkpointing.background_writer import BackgroundWriter
from signs_dist.checkpointing.store import CheckpointStore, Cursor
from signs_dist.config.settings import Config
from signs_dist.console.screen import Screen, percent
from signs_dist.data.augment import BatchAugmenter
from signs_dist.data.batches import Batch
from signs_dist.data.loader import EvaluationLoader, LoaderSettings, TrainLoader
from signs_dist.data.plan import BatchKey, EpochPlan
from signs_dist.data.sets import DataSet
from signs_dist.distributed.strategy import SingleProcess
from signs_dist.errors import NonFiniteLossError, StoppedError, TrainingFailedError, UserError
from signs_dist.learning.losses import build_loss
from signs_dist.learning.metrics import RunningSums, Score
from signs_dist.learning.optim import build_optimizer
from signs_dist.learning.precision import Precision
from signs_dist.learning.schedule import learning_rate_factor
from signs_dist.learning.weight_average import WeightAverage
from signs_dist.models.determinism import find_unstable_layer
from signs_dist.models.trainable import count_parameters, set_training_mode
from signs_dist.models.weights import named_weights
from signs_dist.monitoring.pulse import Pulse
from signs_dist.monitoring.signals import StopRequest, stop_reason
from signs_dist.run_folder.folder import RunFolder, timestamp
from signs_dist.run_folder.lease import Lease
from signs_dist.run_folder.sample_log import SampleLog
from signs_dist.training import loop
from signs_dist.training.score_table import duration, score_fields, show_score


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
        stop: whether this process was asked to stop.
        store: the checkpoints on disk.
        kill_seconds: after SIGTERM, until the launcher kills this process; None where nobody does.
        killer: who does.
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
    store: CheckpointStore
    kill_seconds: float | None = None
    killer: str = "torchrun"


@dataclasses.dataclass(frozen=True)
class Best:
    """The best epoch so far, by validation accuracy, then by loss."""

    epoch: int
    accuracy: float
    loss: float

    def is_beaten_by(self, score: Score) -> bool:
        """Whether `score` is better."""
        return (score.accuracy, -score.loss) > (self.accuracy, -self.loss)


class SaveTimer:
    """When it is time to save again.

    Args:
        every_seconds: None for never.
    """

    def __init__(self, every_seconds: float | None) -> None:
        self._every_seconds = every_seconds
        self._last: float | None = None

    def restart(self) -> None:
        """A save begins, or training."""
        self._last = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the last save, or since training began; 0 before that."""
        return 0.0 if self._last is None else time.monotonic() - self._last

    def is_due(self) -> bool:
        """Whether it is time to save."""
        return self._every_seconds is not None and self.seconds >= self._every_seconds


def _write_samples(log: SampleLog, numbers: range, batch: Batch, images: Tensor, loss: Tensor) -> None:
    log.write(batch.epoch + 1, batch.step + 1, numbers.start, batch.samples.tolist())


def _warn(screen: Screen, message: str) -> None:
    screen.result(f"warning: {message}")


class Trainer:
    """The epochs of a run: train, validate, write down, save, stop when asked, and go on from what was saved.

    Attributes:
        lease: keeps the run folder; None in processes that do not write.
        about: what checkpoints tell of the run, for people: plain values.
    """

    def __init__(self, parts: RunParts) -> None:
        config, data, strategy, precision = parts.config, parts.data, parts.strategy, parts.precision
        self.config, self.folder, self.data, self.plan = config, parts.folder, data, parts.plan
        self.model, self.precision, self.strategy, self.screen = parts.model, precision, strategy, parts.screen
        self.pulse, self.devices, self.parts = parts.pulse, parts.devices, parts
        self.best: Best | None = None
        self.lease: Lease | None = None
        self.about: Mapping[str, Any] = {}
        self.cursor = Cursor(0, 0)
        self.saved_sums: Mapping[str, Tensor] | None = None
        self.train_seconds_before = 0.0
        # These two know nothing of the trainer: in a cycle it would outlive the run, and its loader workers with it.
        self.save_timer = SaveTimer(config.checkpoint.every_seconds if strategy.is_main else None)
        warn = functools.partial(_warn, parts.screen) if config.checkpoint.on_error == "warn" else None
        self.writer = BackgroundWriter(parts.store, warn)
        self.steps_done = 0
        self.steps_done_here = 0
        self.copier = saved.Copier()
        self.step_seconds = 0.0
        self.has_warned = False
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
        wishes = (lambda: parts.stop.is_set, self.save_timer.is_due)
        self.state = loop.TrainingState(
            model=parts.model,
            forward=wrapped,
            sync=strategy.sync(parts.model, wrapped, parts.plan.micro_batches, wishes, exact=config.exact),
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
        if config.log.samples:
            self.state.observe = functools.partial(_write_samples, SampleLog(parts.folder.logs, strategy.shard.index))

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
        self.save_timer.restart()
        num_epochs, begin = self.config.train.epochs, self.cursor
        score: Score | None = None
        with self.screen.training(self.num_steps) as progress:
            for epoch in range(begin.epoch, num_epochs):
                first_step = begin.step if epoch == begin.epoch else 0
                self.pulse.enter("load", epoch=epoch + 1, step=first_step)
                numbers = self.train_one(epoch, first_step, progress)
                last = epoch + 1 == num_epochs
                score = None
                if last or (epoch + 1) % self.config.evaluate.every_epochs == 0:
                    score = self.judge("val")
                    if self.best is None or self.best.is_beaten_by(score):
                        self.best = Best(epoch + 1, score.accuracy, score.loss)
                    numbers |= score_fields("val", score)
                # Before the save: a checkpoint never knows more than metrics.jsonl does.
                self.folder.append(self.folder.metrics, {"kind": "epoch", **numbers})
                self.save(Cursor(epoch + 1, 0), None)
                self.screen.epoch(epoch + 1, num_epochs, self.epoch_line(numbers, score))
        train_seconds = self.train_seconds
        score = score or self.judge("val")  # an earlier attempt trained the last epoch and was killed after that
        assert self.best is not None
        self.writer.wait()
        return self.finish(score, self.best, train_seconds, run_started)

    def train_one(self, epoch: int, first_step: int, progress: Callable[[int, str, str], None]) -> dict[str, Any]:
        """Train one epoch from one of its steps on; returns its numbers."""
        num_steps = self.plan.num_steps
        sums = RunningSums(self.state.num_classes, self.strategy.device)
        if self.saved_sums is not None and self.strategy.is_main:
            sums.restore(self.saved_sums)
        self.saved_sums = None
        started = time.perf_counter()
        numbers: dict[str, Any] = {}
        if first_step == num_steps:  # stopped after the last step, before the epoch was judged
            numbers = self._numbers(epoch, num_steps, sums, 0, 0.0, 1.0)
        steps = loop.train_epoch(
            self.state,
            self.train_loader.epoch(epoch, first_step),
            self.prepare_train,
            first_step=first_step,
            first_run_step=epoch * num_steps + first_step,
            sums=sums,
        )
        try:
            for step in steps:
                self.steps_done = epoch * num_steps + step.step
                self.steps_done_here += 1
                at_end = step.step == num_steps
                if at_end or self.steps_done % self.config.log.every_steps == 0:
                    self.state.sync.settle()  # the numbers of a step whose loss is not finite are never written
                    seconds = time.perf_counter() - started
                    numbers = self._numbers(epoch, step.step, sums, step.step - first_step, step.wait_seconds, seconds)
                    if not at_end:
                        progress(self.steps_done, self.step_line(numbers), self.time_left())
                        self.folder.append(self.folder.metrics, {"kind": "step", **numbers})
                self._look_around(epoch, step.step, sums)
        except NonFiniteLossError as error:  # of a step, or of `settle` here or before a save
            self._end_non_finite(error)
        self.step_seconds += time.perf_counter() - started
        return numbers

    def _numbers(
        self, epoch: int, step: int, sums: RunningSums, num_here: int, wait_seconds: float, seconds: float
    ) -> dict[str, Any]:
        """The numbers after a step: of the epoch so far, but the speed of the `num_here` steps of this attempt."""
        batch, run_step = self.plan.global_batch, epoch * self.plan.num_steps + step
        return {
            "epoch": epoch + 1,
            "step": run_step,
            "images": run_step * batch,
            **score_fields("train", self._total(sums)),
            "lr": self.state.learning_rate((run_step - 1) * batch),
            "images_per_second": round(num_here * batch / seconds, 1),
            "data_wait_share": round(wait_seconds / seconds, 4),
        }

    def _look_around(self, epoch: int, step: int, sums: RunningSums) -> None:
        """After each step: stop if any process was asked to, save if it is time to, end if a save has failed."""
        sync, every = self.state.sync, self.config.checkpoint.every_steps
        self.writer.check()
        if self.lease is not None and self.lease.is_lost:
            raise TrainingFailedError(
                f"another run has taken {self.folder.path} over, since this one gave no sign of life for "
                f"{self.config.checkpoint.takeover_seconds:g} s. That one goes on."
            )
        if sync.stop_agreed:
            self._stop(epoch, step, sums)
        # The end of an epoch is saved when it has been judged.
        if step < self.plan.num_steps and (sync.save_agreed or (every and self.steps_done % every == 0)):
            self.save(Cursor(epoch, step), sums)

    @property
    def train_seconds(self) -> float:
        """Seconds of training, those of earlier attempts included."""
        return self.train_seconds_before + time.perf_counter() - self.started

    def _total(self, sums: RunningSums) -> Score:
        before = self.pulse.phase
        self.pulse.enter("sum metrics", collective=self.strategy.world_size > 1)
        score = Score.from_sums(self.strategy.total(sums.tensors()))
        self.pulse.enter(before)
        return score

    def _stop(self, epoch: int, step: int, sums: RunningSums) -> None:
        name, code = stop_reason(self.strategy.gather_values(self.parts.stop.signal_number, "agree on the stop"))
        place = f"stopped by {name} after epoch {epoch + 1}, step {step} of {self.plan.num_steps}"
        took, limit = self.writer.last_write_seconds, self.parts.kill_seconds
        fits = name != signal.SIGTERM.name or limit is None or took < limit
        if not self.strategy.share_value(fits, "agree on the stop"):  # rank 0 knows how long a save takes
            hurry = f"not saved: a save takes {took:.0f} s, and the kill comes {limit:g} s after SIGTERM"
            raise StoppedError(f"{place}; {hurry}", code, is_saved=False)
        self.save(Cursor(epoch, step), sums)
        self.writer.wait()
        # All leave together: a launcher ends the others as soon as one has gone, even in the middle of the save.
        self.strategy.gather_values(None, "wait for the save")
        raise StoppedError(place, code)

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

    def save(self, cursor: Cursor, sums: RunningSums | None) -> None:
        """Copy the state of the run and have it written. Called by all processes, done by rank 0.

        Args:
            cursor: the place.
            sums: this process's losses and hits of the epoch so far; None at the end of an epoch.
        """
        self.state.sync.settle()  # a step whose loss is not finite is never saved
        self.pulse.enter("save", collective=sums is not None and self.strategy.world_size > 1)
        totals = self.strategy.total(sums.tensors()) if sums is not None else None
        self.save_timer.restart()
        if not self.strategy.is_main:
            return
        started = time.perf_counter()
        self.writer.wait()
        self._warn_of_slow_saves()
        content = self.content(cursor, totals)
        best = Cursor(self.best.epoch, 0) if self.best is not None else None
        stall = time.perf_counter() - started
        line = {"kind": "save", "epoch": cursor.epoch, "step": self.steps_done, "stall_seconds": round(stall, 6)}
        if self.writer.last_write_seconds:  # of the save before
            line["last_write_seconds"] = round(self.writer.last_write_seconds, 3)
        self.folder.append(self.folder.metrics, line)
        self.writer.submit(cursor, content, best, functools.partial(self.folder.flush, self.folder.metrics))

    def _warn_of_slow_saves(self) -> None:
        limit, took = self.parts.kill_seconds, self.writer.last_write_seconds
        if limit is not None and took > limit / 2 and not self.has_warned:
            self.has_warned = True
            _warn(
                self.screen,
                f"a save takes {took:.0f} s, and {self.parts.killer} kills its processes {limit:g} s after SIGTERM: "
                + (
                    "what came after the last periodic save is lost then; checkpoint.every_seconds is how often it is"
                    if self.parts.killer == "SLURM"
                    else f"start it with --shutdown-timeout {math.ceil(3 * took)}"
                ),
            )

    def content(self, cursor: Cursor, totals: Mapping[str, npt.NDArray[np.int64]] | None) -> dict[str, Any]:
        """What a checkpoint holds: plain tensors, apart from the model's own, and plain values. Nothing per process.

        There is no state of random generators: every draw is a function of (seed, epoch, sample) or of (seed, step,
        micro-batch).
        """
        average = self.state.average
        return {
            "format": 2,
            **self.copier.copy(
                {
                    "model": named_weights(self.model),
                    "ema": average.state_dict() if average is not None else None,
                    "optimizer": self.state.optimizer.state_dict(),
                    "scaler": self.state.scaler.state_dict(),
                }
            ),
            "cursor": dataclasses.asdict(cursor),
            "images": self.steps_done * self.plan.global_batch,
            "learning_rate": self.state.learning_rate(self.steps_done * self.plan.global_batch),
            "sums": {name: torch.from_numpy(array.copy()) for name, array in totals.items()} if totals else None,
            "best": dataclasses.asdict(self.best) if self.best is not None else None,
            "config": self.config.model_dump(mode="json"),
            "global_batch": self.plan.global_batch,
            "micro_batch": self.plan.micro_batches.size,
            "precision": self.precision.name,
            "classes": list(self.data.classes),
            "train_seconds": self.train_seconds,
            "saved_at": time.time(),
            "run": dict(self.about),
        }

    def restore(self, content: Mapping[str, Any], source: Path) -> None:
        """Go on from a checkpoint's content, on every process.

        Raises:
            UserError: it is of another model.
        """
        saved.put_weights(self.model, content["model"], source)
        average = self.state.average
        if average is not None and content["ema"] is not None:
            average.load_state_dict(content["ema"])
        saved.put_optimizer(self.state.optimizer, content["optimizer"], source)
        if content["scaler"]:
            self.state.scaler.load_state_dict(content["scaler"])
        self.cursor = Cursor(**content["cursor"])
        self.steps_done = self.cursor.epoch * self.plan.num_steps + self.cursor.step
        self.saved_sums = content["sums"]
        self.best = Best(**content["best"]) if content["best"] is not None else None
        self.train_seconds_before = float(content["train_seconds"])

    def finish(self, val: Score, best: Best, train_seconds: float, run_started: float) -> dict[str, Any]:
        """Judge the test split, write model.pt and result.json, and show the closing tables."""
        average = self.state.average
        weights = saved.plain_weights(self.model)
        if average is not None:
            weights = {name: tensor.cpu().contiguous() for name, tensor in average.weights().items()}
        scores = {"val": val} | {name: self.judge(name) for name in self.evaluation_loaders if name != "val"}
        self.pulse.enter("save")
        if self.strategy.is_main:
            saved.save(self.folder.model, weights)
        images = self.steps_done_here * self.plan.global_batch
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
            "images_per_second": round(images / self.step_seconds, 1) if self.step_seconds else None,
            "world_size": self.strategy.world_size,
            "strategy": self.strategy.name,
            "device": self.devices,
            "exact": self.config.exact,
            "micro_batch": self.plan.micro_batches.size,
            "precision": self.precision.name,
            "model": self.config.model.name,
            "num_parameters": count_parameters(self.model)[0],
            "weights_sha256": saved.weights_sha256(weights),
        }
        self.folder.write_result(result)
        for name, score in scores.items():
            show_score(self.screen, name, score, self.data.classes, self.data.name)
        rate, seconds = result["images_per_second"] or 0.0, duration(train_seconds)
        self.screen.say(
            f"trained in {seconds} at {rate:,.0f} images/s; best epoch {best.epoch} ({percent(best.accuracy)})"
        )
        self.screen.say(f"everything is in {self.folder.path}")
        return result

    def step_line(self, numbers: dict[str, Any]) -> str:
        """The numbers beside the progress bar."""
        return (
            f"epoch {numbers['epoch']}/{self.config.train.epochs} | "
            f"loss {numbers['train_loss']:.3f}  {percent(numbers['train_accuracy'])} | "
            f"{numbers['images_per_second']:,.0f} images/s"
        )

    def time_left(self) -> str:
        """Until the last step, at this attempt's speed."""
        return duration(self._seconds_per_step() * (self.num_steps - self.steps_done))

    def epoch_line(self, numbers: dict[str, Any], val: Score | None) -> str:
        """One line about an epoch."""
        left = self.config.train.epochs - numbers["epoch"]
        remaining = left * self.plan.num_steps * self._seconds_per_step()
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

    def _seconds_per_step(self) -> float:
        return (time.perf_counter() - self.started) / max(1, self.steps_done_here)

    def attempt_end(self, attempt: int, reason: str, *, is_saved: bool) -> dict[str, Any]:
        """The line of attempts.jsonl at the end of an attempt; `is_saved`: nothing has to be done again."""
        lost = 0.0 if is_saved else self.save_timer.seconds
        return {
            "attempt": attempt,
            "event": "end",
            "time": timestamp(),
            "reason": reason,
            "last_step": self.steps_done,
            "seconds_lost": round(lost, 1),
        }

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
        self.writer.wait()
        newest = self.parts.store.newest()
        kept = f"the last good state is kept in {newest}" if newest is not None else "no state had been saved before"
        raise TrainingFailedError(
            f"the training loss is not a finite number at epoch {first['epoch']}, step {first['step']}, in micro-batch "
            f"{', '.join(str(row['micro_batch']) for row in rows)}. A lower optim.lr (it is {self.config.optim.lr:g}) "
            f"or optim.clip_norm=1 often helps. The images are named in {self.folder.path / 'non_finite_loss.json'}; "
            f"{kept}."
        )
