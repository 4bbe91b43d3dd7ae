"""The real loop of training, step by step over epochs without an end, alone and with saves."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Generator
from pathlib import Path

from signs_dist.benching.figures import Trace
from signs_dist.checkpointing.store import Cursor
from signs_dist.config.settings import CheckpointConfig, Config
from signs_dist.data.plan import BatchKey
from signs_dist.errors import NonFiniteLossError, SaveError, TrainingFailedError
from signs_dist.run_folder.folder import RunFolder
from signs_dist.training.bare import synchronize
from signs_dist.training.loop import StepReport
from signs_dist.training.process import Process
from signs_dist.training.profiling import read_operations, start_profiler
from signs_dist.training.run_state import make_run_state
from signs_dist.training.saver import Saver
from signs_dist.training.stepper import Stepper


class RealLoop:
    """Trains as a run does: images from the loader, augmentation, the five steps, and sums for the log.

    Args:
        stepper: of the run.
        process: where this process runs.
    """

    def __init__(self, stepper: Stepper, process: Process) -> None:
        self._stepper, self._process = stepper, process
        self._log_every = stepper.prepared.config.log.every_steps
        self._steps = self._endless()
        self._num_steps = 0
        self._seconds = self._waited = 0.0

    @property
    def wait_share(self) -> float:
        """Which share of the time of all steps so far was waiting for images."""
        return self._waited / self._seconds if self._seconds else 0.0

    def work(self, num_steps: int) -> None:
        """Do so many steps.

        Raises:
            TrainingFailedError: the loss is not a finite number.
        """
        started = time.perf_counter()
        try:
            for _ in range(num_steps):
                report = next(self._steps)
                self._num_steps += 1
                if self._num_steps % self._log_every == 0:
                    self._stepper.state.sync.settle()
                    self._process.strategy.total(report.sums.tensors())
        except NonFiniteLossError as error:
            lr = self._stepper.prepared.config.optim.lr
            raise TrainingFailedError(
                f"the training loss is not a finite number after {self._num_steps} steps, so training cannot be "
                f"measured. A lower optim.lr (it is {lr:g}) or optim.clip_norm=1 often helps."
            ) from error
        synchronize(self._process.strategy.device)
        self._seconds += time.perf_counter() - started

    def prepare_seconds(self, num_batches: int = 5) -> float:
        """The seconds to augment and normalise the images of a step, as they come from the loader."""
        prepared, prepare = self._stepper.prepared, self._stepper.prepare_train
        # Read without the loader, which is within a pass of the loop.
        samples = prepared.plan.samples(0, 0, self._process.strategy.shard)
        batch = prepared.sources["train"][BatchKey(0, 0, samples)]
        prepare(batch)
        synchronize(self._process.strategy.device)
        started = time.perf_counter()
        for _ in range(num_batches):
            prepare(batch)
        synchronize(self._process.strategy.device)
        return (time.perf_counter() - started) / num_batches

    def trace(self, num_steps: int) -> Trace:
        """Do so many steps under torch's profiler."""
        on_gpu = self._process.strategy.device.type == "cuda"
        profiler = start_profiler(on_gpu=on_gpu)
        started = time.perf_counter()
        try:
            self.work(num_steps)
            seconds = time.perf_counter() - started
        finally:
            profiler.stop()
        return Trace(read_operations(profiler, on_gpu=on_gpu), num_steps, seconds)

    def close(self) -> None:
        """End the pass over the data."""
        self._steps.close()

    def _endless(self) -> Generator[StepReport, None, None]:
        epochs = epochs_alike(self._stepper.prepared.config)
        epoch = 0
        while True:
            before = 0.0
            for report in self._stepper.steps(Cursor(epoch % epochs, 0)):
                self._waited += report.wait_seconds - before
                before = report.wait_seconds
                yield report
            epoch += 1


def epochs_alike(config: Config) -> int:
    """The epochs from the first on in which the same parameters train."""
    return config.model.thaw_after_epochs or config.train.epochs


def steps_between_saves(config: CheckpointConfig, steps_per_epoch: int, step_seconds: float) -> tuple[int, str]:
    """Steps from one save to the next, and the setting that asks for it; "" for the save at the end of each epoch."""
    by_time = math.inf if config.every_seconds is None else max(1.0, config.every_seconds / step_seconds)
    asked: dict[str, float] = {
        "": steps_per_epoch,
        "checkpoint.every_steps": config.every_steps or math.inf,
        "checkpoint.every_seconds": by_time,
    }
    setting = min(asked, key=lambda name: asked[name])
    return int(asked[setting]), setting


class SavingLoop:
    """The real loop with a save at the beginning of each round, which a thread writes beside the steps.

    Args:
        loop: the real loop.
        stepper: what is saved.
        process: where this process runs. One process of a run writes.
        folder: a folder for checkpoints that nobody keeps.
    """

    def __init__(self, loop: RealLoop, stepper: Stepper, process: Process, folder: Path) -> None:
        self._loop, self._stepper = loop, stepper
        run_folder = RunFolder(folder, is_writer=process.strategy.is_main)
        if run_folder.is_writer:
            run_folder.create()
        self._saver = Saver(run_folder, stepper.prepared.config.checkpoint, process)
        self._run_state = make_run_state(stepper.prepared)
        if run_folder.is_writer:
            self._saver.begin({})

    def work(self, num_steps: int) -> None:
        """Save, do so many steps, and wait until the save is written.

        Raises:
            SaveError: a checkpoint could not be written.
        """
        # Each round saves another place, as a run does: the store removes the oldest.
        self._run_state.cursor = Cursor(self._run_state.cursor.epoch + 1, 0)
        self._saver.save(self._run_state, self._stepper)
        self._loop.work(num_steps)
        self._saver.wait()

    def close(self) -> None:
        """Wait for a save in progress, whose folder may be removed then."""
        with contextlib.suppress(SaveError):
            self._saver.wait()
