"""How far a run is, and what a checkpoint holds: written by `RunState.to_content`, read by `RunState.restore`."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from signs_dist.checkpointing import tensors
from signs_dist.checkpointing.content import FORMAT
from signs_dist.checkpointing.fitting import Expected, entries_of_config, find_misfits, resumes_optimizer
from signs_dist.checkpointing.store import Cursor
from signs_dist.config.settings import BestBy
from signs_dist.data.plan import EpochPlan
from signs_dist.errors import UserError
from signs_dist.learning.metrics import RunningSums, Score
from signs_dist.models.weights import named_weights, plain_name
from signs_dist.training.prepare import Prepared
from signs_dist.training.stepper import Stepper


@dataclasses.dataclass(frozen=True)
class Best:
    """The best epoch so far on the validation split.

    Attributes:
        epoch: from 1.
        accuracy, loss, macro_f1: its numbers. `macro_f1` is None in checkpoints of earlier releases.
    """

    epoch: int
    accuracy: float
    loss: float
    macro_f1: float | None = None

    @classmethod
    def from_score(cls, epoch: int, score: Score) -> Best:
        """The epoch with this score."""
        return cls(epoch, score.accuracy, score.loss, score.macro_f1)

    def is_beaten_by(self, score: Score, best_by: BestBy = "accuracy") -> bool:
        """Whether `score` is better by `best_by`; if that is equal, by the loss, or for the loss by the accuracy."""
        return self.from_score(self.epoch, score)._rank(best_by) > self._rank(best_by)

    def _rank(self, best_by: BestBy) -> tuple[float, float]:
        """The larger, the better. What is unknown or not a number is worse than every number."""
        loss = -math.inf if math.isnan(self.loss) else -self.loss
        if best_by == "loss":
            return loss, self.accuracy
        if best_by == "macro_f1":
            return (-1.0 if self.macro_f1 is None else self.macro_f1), loss
        return self.accuracy, loss


def is_out_of_patience(cursor: Cursor, best: Best | None, patience: int | None, every_epochs: int) -> bool:
    """Whether a run ends early here: at a validated epoch's end, `patience` epochs or more after its best epoch.

    It is decided by the place and the best epoch alone, which each checkpoint has, so that a resumed run ends where it
    would have ended without the interruption.

    Args:
        cursor: the place of the run.
        best: the best epoch so far.
        patience: `train.patience`.
        every_epochs: `evaluate.every_epochs`.
    """
    if patience is None or best is None or cursor.step or cursor.epoch % every_epochs:
        return False
    return cursor.epoch - best.epoch >= patience


class TrainingClock:
    """Counts the seconds of training from `start` on."""

    def __init__(self) -> None:
        self._seconds_before = 0.0
        self._started: float | None = None

    def start(self) -> None:
        """Begin to count."""
        self._started = time.perf_counter()

    def add(self, seconds: float) -> None:
        """Add the seconds of earlier attempts."""
        self._seconds_before = seconds

    @property
    def seconds_here(self) -> float:
        """The seconds of this attempt."""
        return 0.0 if self._started is None else time.perf_counter() - self._started

    @property
    def seconds(self) -> float:
        """The seconds of the run, earlier attempts included."""
        return self._seconds_before + self.seconds_here


# Many members: one for each part of a run's progress that a checkpoint holds.
class RunState:
    """How far a run is: its place, its best epoch, the sums of the epoch so far, the seconds of training.

    Args:
        plan: which samples each step trains on.
        num_epochs: the epochs of the run.
        best_by: `evaluate.best_by`.
        patience: `train.patience`.
        every_epochs: `evaluate.every_epochs`.

    Attributes:
        num_steps: the steps of the whole run.
        cursor: the number of finished epochs, and of steps done in the next epoch. `end_epoch` finishes an epoch, after
            its evaluation. Between the last step and `end_epoch`, `cursor.step` is the plan's `num_steps`.
        first_step: the steps done before this attempt.
        best: the best epoch; None before the first evaluation.
        clock: seconds of training.
        arithmetic_changes: where an exact run went on with other bits: `step`, from 1, and `what` had changed.
    """

    def __init__(
        self,
        plan: EpochPlan,
        num_epochs: int,
        *,
        best_by: BestBy = "accuracy",
        patience: int | None = None,
        every_epochs: int = 1,
    ) -> None:
        self._plan, self._best_by = plan, best_by
        self._num_epochs, self._patience, self._every_epochs = num_epochs, patience, every_epochs
        self.num_steps = num_epochs * plan.num_steps
        self.cursor = Cursor(0, 0)
        self.first_step = 0
        self.best: Best | None = None
        self._sums: Mapping[str, Tensor] | None = None
        self.clock = TrainingClock()
        self.arithmetic_changes: list[dict[str, Any]] = []

    @property
    def steps_done(self) -> int:
        """The steps done since the start of the run."""
        return self.cursor.epoch * self._plan.num_steps + self.cursor.step

    @property
    def steps_done_here(self) -> int:
        """The steps done in this attempt."""
        return self.steps_done - self.first_step

    @property
    def images(self) -> int:
        """The images trained on since the start of the run."""
        return self.steps_done * self._plan.global_batch

    @property
    def epoch(self) -> int:
        """The epoch of the last step, counted from 1; 1 before the first step."""
        return max(1, self.cursor.epoch + (1 if self.cursor.step else 0))

    @property
    def has_ended_early(self) -> bool:
        """Whether the run is over before its last epoch, because it was out of patience."""
        if self.cursor.epoch >= self._num_epochs:
            return False
        return is_out_of_patience(self.cursor, self.best, self._patience, self._every_epochs)

    def advance(self) -> None:
        """Count a step."""
        self.cursor = Cursor(self.cursor.epoch, self.cursor.step + 1)

    def end_epoch(self, score: Score | None) -> bool:
        """Count an epoch. Returns whether it is the best so far.

        Args:
            score: its score on the validation split; None if it was not evaluated.
        """
        epoch = self.cursor.epoch + 1
        is_best = score is not None and (self.best is None or self.best.is_beaten_by(score, self._best_by))
        if score is not None and is_best:
            self.best = Best.from_score(epoch, score)
        self.cursor = Cursor(epoch, 0)
        return is_best

    def take_sums(self, num_classes: int, device: torch.device, *, is_main: bool) -> RunningSums:
        """This process's sums of the epoch so far.

        They are zeros; but on rank 0 the first call after `restore` returns the sums of the checkpoint.
        """
        sums = RunningSums(num_classes, device)
        if self._sums is not None and is_main:
            sums.restore(self._sums)
        self._sums = None
        return sums

    def to_content(
        self,
        stepper: Stepper,
        copier: tensors.Copier,
        totals: Mapping[str, npt.NDArray[np.int64]] | None,
        about: Mapping[str, Any],
        spread: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """What a checkpoint holds: copies of tensors, and plain values. All processes resume from the same content.

        It holds no state of random generators: random numbers depend on (seed, epoch, sample) or (seed, step,
        micro-batch) only.

        Args:
            stepper: whose model, average, optimizer and scaler are saved.
            copier: copies tensors to the CPU.
            totals: the sums of the epoch so far over all processes; None at the end of an epoch.
            about: plain values about the run, for people.
            spread: from `ShardedState.ship`, in place of the optimizer and the average; None if this process has them.
        """
        prepared, state = stepper.prepared, stepper.state
        parts = {"model": named_weights(state.model), "ema": None, "optimizer": None}
        if spread is None:
            average = state.average.state_dict() if state.average is not None else None
            parts |= {"ema": average, "optimizer": state.optimizer.state_dict()}
        return {
            "format": FORMAT,
            **copier.copy(parts),
            **(spread or {}),
            "scaler": state.scaler.state_dict(),
            "cursor": dataclasses.asdict(self.cursor),
            "images": self.images,
            "learning_rate": state.learning_rate(self.images),
            "sums": {name: torch.from_numpy(array.copy()) for name, array in totals.items()} if totals else None,
            **_save_best(self.best),
            **arithmetic(prepared),
            "trial": dataclasses.asdict(stepper.trial) if stepper.trial is not None else None,
            "arithmetic": stepper.arithmetic.as_dict() if stepper.arithmetic is not None else None,
            "arithmetic_changes": [dict(each) for each in self.arithmetic_changes],
            **_save_check(stepper),
            "train_seconds": self.clock.seconds,
            "saved_at": time.time(),
            "run": dict(about),
        }

    def restore(self, content: Mapping[str, Any], stepper: Stepper, source: Path) -> None:
        """Load the content of a checkpoint into this state and the stepper, on every process.

        Args:
            content: from `read_checkpoint`.
            stepper: whose model, average, optimizer and scaler are loaded.
            source: the file of the checkpoint, for messages.

        Raises:
            UserError: the checkpoint does not fit this run, as one of another model. Nothing is loaded.
        """
        state = stepper.state
        if misfits := find_misfits(content, expected_of(stepper)):
            raise UserError(
                f"{source} does not fit this run: {misfits[0]}. Use the config that it was made with, or choose "
                f"another --run-dir."
            )
        tensors.put_weights(state.model, content["model"], source)
        if state.average is not None and content["ema"] is not None:
            state.average.load_state_dict(content["ema"])
        if resumes_optimizer(content["config"], stepper.prepared.config):
            kept = entries_of_config(stepper.prepared.config.optim)
            if state.sharding is not None:
                state.sharding.load(state.optimizer, content["optimizer"], source)
            else:
                tensors.put_optimizer(state.optimizer, content["optimizer"], source, kept)
        if content["scaler"]:
            state.scaler.load_state_dict(content["scaler"])
        self.cursor = Cursor(**content["cursor"])
        self.first_step = self.steps_done
        self._sums = content["sums"]
        if stepper.check is not None and content.get("clean_check") is not None:
            stepper.check.clean = Cursor(**content["clean_check"])
        self.best = read_best(content)
        self.clock.add(float(content["train_seconds"]))


def _save_check(stepper: Stepper) -> dict[str, Any]:
    """The entry of a checkpoint about the last check of the hardware that found no difference; none without checks."""
    clean = stepper.check.clean if stepper.check is not None else None
    return {"clean_check": dataclasses.asdict(clean)} if clean is not None else {}


def make_run_state(prepared: Prepared) -> RunState:
    """The state of a run before its first step."""
    train, evaluate = prepared.config.train, prepared.config.evaluate
    return RunState(
        prepared.plan,
        train.epochs,
        best_by=evaluate.best_by,
        patience=train.patience,
        every_epochs=evaluate.every_epochs,
    )


def _save_best(best: Best | None) -> dict[str, Any]:
    """The entries of a checkpoint about the best epoch. Earlier releases read `best` and leave `best_macro_f1` out."""
    if best is None:
        return {"best": None, "best_macro_f1": None}
    fields = dataclasses.asdict(best)
    return {"best_macro_f1": fields.pop("macro_f1"), "best": fields}


def read_best(content: Mapping[str, Any]) -> Best | None:
    """The best epoch in the content of a checkpoint, also of an earlier release; None before the first validation."""
    best = content["best"]
    return Best(**best, macro_f1=content.get("best_macro_f1")) if best is not None else None


def expected_of(stepper: Stepper) -> Expected:
    """What a checkpoint must fit, so that `RunState.restore` can load it into the stepper."""
    prepared, state = stepper.prepared, stepper.state
    named, sharding = state.model.named_parameters(), state.sharding
    if sharding is not None:
        parameters, groups = sharding.parameters, sharding.param_groups(state.optimizer)
    else:
        parameters = [parameter for group in state.optimizer.param_groups for parameter in group["params"]]
        groups = tensors.numbered_groups(state.optimizer.param_groups)
    return Expected(
        weights=named_weights(state.model),
        trainable={plain_name(name) for name, parameter in named if parameter.requires_grad},
        parameters=parameters,
        groups=groups,
        config=prepared.config,
        num_steps=prepared.plan.num_steps,
        num_classes=len(prepared.data.classes),
        fingerprint=prepared.fingerprints["train"],
    )


def arithmetic(prepared: Prepared) -> dict[str, Any]:
    """The entries of a checkpoint that a resumed run is compared with."""
    return {
        "config": prepared.config.model_dump(mode="json"),
        "global_batch": prepared.plan.global_batch,
        "micro_batch": prepared.plan.micro_batches.size,
        "precision": prepared.precision.name,
        "classes": list(prepared.data.classes),
    }
