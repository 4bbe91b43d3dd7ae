"""Saving a run: when a save is due, and the copy of the state that a thread writes to disk."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from signs_dist.checkpointing.background_writer import BackgroundWriter
from signs_dist.checkpointing.store import CheckpointStore, Cursor
from signs_dist.checkpointing.tensors import Copier
from signs_dist.config.settings import CheckpointConfig
from signs_dist.console.screen import Screen
from signs_dist.distributed.shipment import Sender, Shipment
from signs_dist.monitoring.waiting import telling
from signs_dist.run_folder.folder import RunFolder
from signs_dist.run_folder.records import SaveLine, StepLine
from signs_dist.training.process import Process
from signs_dist.training.run_state import RunState
from signs_dist.training.state_chain import StateChain
from signs_dist.training.stepper import Stepper


class SaveTimer:
    """Says when it is time to save again.

    Args:
        every_seconds: the seconds between two saves; None for no saves by time.
    """

    def __init__(self, every_seconds: float | None) -> None:
        self._every_seconds = every_seconds
        self._last: float | None = None

    def restart(self) -> None:
        """Count from now. Called when training begins and when a save begins."""
        self._last = time.monotonic()

    @property
    def seconds(self) -> float:
        """The seconds since the last save, or since training began; 0 before training."""
        return 0.0 if self._last is None else time.monotonic() - self._last

    def is_due(self) -> bool:
        """Whether it is time to save."""
        return self._every_seconds is not None and self.seconds >= self._every_seconds


class Saver:
    """Saves a run on the process that writes. On the other processes it only counts the time.

    It holds no reference to the trainer: a reference cycle would keep the trainer and its loader workers alive after
    the run.

    Args:
        folder: the run folder.
        config: the checkpoint section.
        process: this process of the run.
        last_write_seconds: how long the newest save of an earlier attempt took to write; 0 if unknown.

    Attributes:
        store: the checkpoints on disk.
        timer: the time since the last save. Only on the process that writes a save becomes due.
    """

    def __init__(
        self, folder: RunFolder, config: CheckpointConfig, process: Process, *, last_write_seconds: float = 0.0
    ) -> None:
        self.store = CheckpointStore(
            folder.checkpoints,
            config.keep,
            keep_every_epochs=config.keep_every_epochs,
            require_held=lambda: folder.require_held(),
        )
        self.timer = SaveTimer(config.every_seconds if process.strategy.is_main else None)
        self._about: Mapping[str, Any] = {}
        self._chain: StateChain | None = None
        self._folder, self._process = folder, process
        self._writer = BackgroundWriter(self.store, _warner(process.screen) if config.on_error == "warn" else None)
        # At a SIGTERM before the first save, the trainer needs to know how long a save takes.
        self._writer.last_write_seconds = last_write_seconds
        self._copier, self._piece_copier, self._sender = Copier(), Copier(), Sender()
        self._best_at: dict[Cursor, Cursor | None] = {}  # which was the best when a place was saved
        self._has_warned = False

    @property
    def last_write_seconds(self) -> float:
        """The seconds that the newest save took to write, perhaps in an earlier attempt; 0 if unknown."""
        return self._writer.last_write_seconds

    def begin(
        self, about: Mapping[str, Any], resumed_from: Path | None = None, chain: StateChain | None = None
    ) -> None:
        """Begin an attempt, on the process that writes.

        Args:
            about: plain values about the run, for people, written into each checkpoint.
            resumed_from: the checkpoint from which the run resumes; None if it begins at its first step.
            chain: gets a line for each state that is saved at the end of an epoch or by steps; None: no lines.
        """
        self._about, self._chain = about, chain
        self.store.begin(resumed_from)
        self._tell_notes()

    def save(
        self, run_state: RunState, stepper: Stepper, totals: Mapping[str, npt.NDArray[np.int64]] | None = None
    ) -> None:
        """Copy the state of the run and start to write it. All processes call this; one writes.

        Args:
            run_state: how far the run is.
            stepper: whose model and optimizer are saved.
            totals: the sums of the epoch so far over all processes; None at the end of an epoch.

        Raises:
            SaveError: the previous save has failed.
        """
        self.timer.restart()
        state = stepper.state
        sharding = state.sharding
        if sharding is None and not self._folder.is_writer:
            return
        started = time.perf_counter()
        self.wait()
        shipment: Shipment | None = None
        spread: Mapping[str, Any] | None = None
        if sharding is not None:
            shipment, spread = sharding.ship(state.optimizer, state.average, self._piece_copier)
        if not self._folder.is_writer:
            if shipment is not None:
                self._sender.submit(shipment)
            return
        self._tell_notes()
        self._warn_of_slow_saves()
        content: Mapping[str, Any] = run_state.to_content(stepper, self._copier, totals, self._about, spread)
        if self._chain is not None:
            content = self._chain.watch(content, run_state)
        self._folder.add(
            SaveLine(
                epoch=run_state.epoch,
                step=run_state.steps_done,
                stall_seconds=round(time.perf_counter() - started, 6),
                last_write_seconds=round(self.last_write_seconds, 3) or None,  # of the previous save
            )
        )
        best = Cursor(run_state.best.epoch, 0) if run_state.best is not None else None
        self.store.protected = self._find_trusted(stepper)
        if stepper.check is not None:
            self._best_at[run_state.cursor] = best
        flush = functools.partial(self._folder.flush, self._folder.metrics)
        after = functools.partial(_end_save, self._chain, shipment)
        self._writer.submit(run_state.cursor, content, best, flush, after)

    def cover(self, line: StepLine) -> None:
        """Take a line of metrics.jsonl into the chain of an exact run."""
        if self._chain is not None:
            self._chain.cover(line)

    def _find_trusted(self, stepper: Stepper) -> list[Cursor]:
        """The place of the newest checkpoint from before the last check of the hardware that found no difference.

        A run that resumes there needs its best checkpoint of that time as well.
        """
        if stepper.check is None or stepper.check.clean is None:
            return []
        path = self.store.newest_until(stepper.check.clean)
        place = Cursor.of_file(path) if path is not None else None
        if place is None:
            return []
        if place not in self._best_at:  # an earlier attempt saved it, and its best is one of those before it
            return [cursor for cursor, _ in self.store.files() if cursor <= place]
        self._best_at = {other: best for other, best in self._best_at.items() if other >= place}
        best = self._best_at[place]
        return [place] if best is None else [place, best]

    def wait(self) -> None:
        """Wait until the save in progress is written, or this process's part is sent. Raises SaveError if it fails."""
        self._sender.wait()
        if self._writer.is_writing:
            with telling(lambda: f"waits until a checkpoint is written to {self._folder.checkpoints}"):
                self._writer.wait()
        else:
            self._writer.wait()
        self._add_state_line()

    def check(self) -> None:
        """Raise SaveError if a save has failed. Does not wait."""
        self._writer.check()
        self._add_state_line()

    def newest(self) -> Path | None:
        """The newest checkpoint on disk; None before the first."""
        return self.store.newest()

    def _add_state_line(self) -> None:
        if self._chain is not None:
            self._chain.add_line()

    def _tell_notes(self) -> None:
        for note in self.store.take_notes():
            _warn(self._process.screen, note)

    def _warn_of_slow_saves(self) -> None:
        limit, took = self._process.context.kill_seconds, self.last_write_seconds
        if limit is None or took <= limit / 2 or self._has_warned:
            return
        self._has_warned = True
        if self._process.killer == "SLURM":
            advice = "steps after the last periodic save may be lost; checkpoint.every_seconds sets how often it saves"
        else:
            advice = f"start torchrun with --shutdown-timeout {math.ceil(3 * took)}"
        _warn(
            self._process.screen,
            f"a save takes {took:.0f} s, and {self._process.killer} kills its processes {limit:g} s after SIGTERM: "
            f"{advice}",
        )


def _end_save(chain: StateChain | None, shipment: Shipment | None) -> None:
    """In the thread that writes: the digest of a state does not depend on whether the disk took its checkpoint."""
    try:
        if chain is not None:
            chain.hash_state()
    finally:
        if shipment is not None:
            shipment.drain()


def _warn(screen: Screen, message: str) -> None:
    screen.result(f"warning: {message}")


def _warner(screen: Screen) -> Callable[[str], None]:
    return functools.partial(_warn, screen)
