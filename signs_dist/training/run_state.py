"""How far a run is, what a checkpoint holds of it, and how that is taken up again."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from signs_dist.checkpointing import tensors
from signs_dist.checkpointing.store import Cursor
from signs_dist.data.plan import EpochPlan
from signs_dist.learning.metrics import RunningSums, Score
from signs_dist.models.weights import named_weights
from signs_dist.training.prepare import Prepared
from signs_dist.training.stepper import Stepper

FORMAT = 2
"""Number of a checkpoint's form."""


@dataclasses.dataclass(frozen=True)
class Best:
    """The best epoch so far, by validation accuracy, then by loss. `epoch` counts from 1."""

    epoch: int
    accuracy: float
    loss: float

    def is_beaten_by(self, score: Score) -> bool:
        """Whether `score` is better."""
        return (score.accuracy, -score.loss) > (self.accuracy, -self.loss)


class TrainingClock:
    """Seconds of training: nothing passes before `start`."""

    def __init__(self) -> None:
        self._seconds_before = 0.0
        self._started: float | None = None

    def start(self) -> None:
        """Training begins now."""
        self._started = time.perf_counter()

    def add(self, seconds: float) -> None:
        """Count the seconds of earlier attempts."""
        self._seconds_before = seconds

    @property
    def seconds_here(self) -> float:
        """Of this attempt."""
        return 0.0 if self._started is None else time.perf_counter() - self._started

    @property
    def seconds(self) -> float:
        """Of the run: earlier attempts included."""
        return self._seconds_before + self.seconds_here


class RunState:
    """How far a run is: its place, its best epoch, the sums of the epoch so far, the seconds of training.

    Args:
        plan: which samples at which step.
        num_epochs: of the run.

    Attributes:
        num_steps: of the whole run.
        cursor: epochs done, and steps of the next one done. An epoch whose last step is done and that was not judged
            yet counts as not done.
        first_step: steps of the run that were done before this attempt.
        best: the best epoch, None before the first.
        clock: seconds of training.
    """

    def __init__(self, plan: EpochPlan, num_epochs: int) -> None:
        self._plan = plan
        self.num_steps = num_epochs * plan.num_steps
        self.cursor = Cursor(0, 0)
        self.first_step = 0
        self.best: Best | None = None
        self._sums: Mapping[str, Tensor] | None = None
        self.clock = TrainingClock()

    @property
    def steps_done(self) -> int:
        """Steps of the run done."""
        return self.cursor.epoch * self._plan.num_steps + self.cursor.step

    @property
    def steps_done_here(self) -> int:
        """Steps of this attempt done."""
        return self.steps_done - self.first_step

    @property
    def images(self) -> int:
        """Images of the run seen."""
        return self.steps_done * self._plan.global_batch

    @property
    def epoch(self) -> int:
        """Number, from 1, of the epoch that the last step belongs to; 1 before the first."""
        return max(1, self.cursor.epoch + (1 if self.cursor.step else 0))

    def advance(self) -> None:
        """Another step is done."""
        self.cursor = Cursor(self.cursor.epoch, self.cursor.step + 1)

    def end_epoch(self, score: Score | None) -> None:
        """The epoch is done; `score` is that of the validation split, None where it was not evaluated."""
        epoch = self.cursor.epoch + 1
        if score is not None and (self.best is None or self.best.is_beaten_by(score)):
            self.best = Best(epoch, score.accuracy, score.loss)
        self.cursor = Cursor(epoch, 0)

    def take_sums(self, num_classes: int, device: torch.device, *, is_main: bool) -> RunningSums:
        """The sums of the epoch so far: those of the checkpoint on rank 0, once; else zero."""
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
    ) -> dict[str, Any]:
        """What a checkpoint holds: plain tensors, apart from the model's own, and plain values. Nothing per process.

        There is no state of random generators: every draw is a function of (seed, epoch, sample) or of (seed, step,
        micro-batch).

        Args:
            stepper: whose model, average, optimizer and scaler are saved.
            copier: copies tensors to the CPU.
            totals: sums of the epoch so far over all processes; None at the end of an epoch.
            about: of the run, for people: plain values.
        """
        prepared, state = stepper.prepared, stepper.state
        parts = {
            "model": named_weights(state.model),
            "ema": state.average.state_dict() if state.average is not None else None,
            "optimizer": state.optimizer.state_dict(),
            "scaler": state.scaler.state_dict(),
        }
        return {
            "format": FORMAT,
            **copier.copy(parts),
            "cursor": dataclasses.asdict(self.cursor),
            "images": self.images,
            "learning_rate": state.learning_rate(self.images),
            "sums": {name: torch.from_numpy(array.copy()) for name, array in totals.items()} if totals else None,
            "best": dataclasses.asdict(self.best) if self.best is not None else None,
            **arithmetic(prepared),
            "train_seconds": self.clock.seconds,
            "saved_at": time.time(),
            "run": dict(about),
        }

    def take_up(self, content: Mapping[str, Any], stepper: Stepper, source: Path) -> None:
        """Go on from the content of a checkpoint, on every process.

        Raises:
            UserError: it is of another model.
        """
        state = stepper.state
        tensors.put_weights(state.model, content["model"], source)
        if state.average is not None and content["ema"] is not None:
            state.average.load_state_dict(content["ema"])
        tensors.put_optimizer(state.optimizer, content["optimizer"], source)
        if content["scaler"]:
            state.scaler.load_state_dict(content["scaler"])
        self.cursor = Cursor(**content["cursor"])
        self.first_step = self.steps_done
        self._sums = content["sums"]
        self.best = Best(**content["best"]) if content["best"] is not None else None
        self.clock.add(float(content["train_seconds"]))


def arithmetic(prepared: Prepared) -> dict[str, Any]:
    """What a checkpoint tells of how it was computed, to be compared when the run goes on."""
    return {
        "config": prepared.config.model_dump(mode="json"),
        "global_batch": prepared.plan.global_batch,
        "micro_batch": prepared.plan.micro_batches.size,
        "precision": prepared.precision.name,
        "classes": list(prepared.data.classes),
    }
