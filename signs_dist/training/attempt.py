"""The attempts of a run: take the folder of an earlier one, go on from its checkpoint, and write down when and why."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
import signal
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from signs_dist.checkpointing.resume_rules import (
    changed_settings,
    describe_changes,
    find_checkpoint,
    is_before,
    move_cursor,
    refuse_changes,
)
from signs_dist.checkpointing.store import CheckpointStore, Cursor, read_checkpoint
from signs_dist.config.settings import Config
from signs_dist.console.screen import percent
from signs_dist.data.plan import EpochPlan
from signs_dist.distributed.strategy import SingleProcess
from signs_dist.environment.context import Context
from signs_dist.errors import CheckpointError, UserError
from signs_dist.monitoring.beats import Beat, read_beats
from signs_dist.monitoring.failure_card import clear_failures
from signs_dist.run_folder.folder import RunFolder, timestamp
from signs_dist.run_folder.lease import Lease
from signs_dist.run_folder.sample_log import keep_samples
from signs_dist.training.trainer import RunParts, Trainer


def take_lease(
    folder: RunFolder, config: Config, context: Context, strategy: SingleProcess, cleanup: contextlib.ExitStack
) -> Lease | None:
    """The lease of the run folder, given back by `cleanup`; None in processes that do not write."""
    if not strategy.is_main:
        return None
    lease = Lease.acquire(
        folder.path,
        host=context.host,
        pid=context.process_id,
        takeover_seconds=config.checkpoint.takeover_seconds,
        job=context.job,
        on_asked=lambda: os.kill(context.process_id, signal.SIGTERM),
    )
    cleanup.callback(lease.release)
    return lease


@dataclasses.dataclass
class Resumed:
    """What an earlier attempt left.

    Attributes:
        path: the checkpoint to go on from, or None: from the beginning.
        content: what it holds.
        lease: of the run folder; None in processes that do not write, and for a new folder.
        notes: what to tell.
        is_begun: whether there was an earlier attempt.
        last_write_seconds: how long the newest save took whose time is known; 0 where none is, and where this process
            does not save.
    """

    path: Path | None = None
    content: dict[str, Any] | None = None
    lease: Lease | None = None
    notes: list[str] = dataclasses.field(default_factory=list)
    is_begun: bool = False
    last_write_seconds: float = 0.0

    @property
    def micro_batch(self) -> int | None:
        """Images of a micro-batch then."""
        return self.content["micro_batch"] if self.content is not None else None

    @property
    def saved_at(self) -> float | None:
        """When the checkpoint was made, seconds since 1970."""
        return self.content["saved_at"] if self.content is not None else None

    def describe(self, trainer: Trainer, attempt: int) -> list[tuple[str, str]]:
        """The banner's line on where the run goes on."""
        if not self.is_begun:
            return []
        if self.content is None:
            return [("again", f"attempt {attempt}, from the beginning: nothing had been saved")]
        best = f", best {percent(trainer.best.accuracy)}" if trainer.best is not None else ""
        images = trainer.steps_done * trainer.plan.global_batch
        rates = f"{self.content['learning_rate']:.4g} → {trainer.state.learning_rate(images):.4g}"
        cursor = trainer.cursor
        place = f"epoch {cursor.epoch + 1} step {cursor.step}"
        return [
            ("again", f"attempt {attempt} goes on at {place}, images {images:,}, lr {rates}{best}"),
            ("from", str(self.path)),
        ]


def find_resumed(
    config: Config,
    run_path: Path,
    accepted: Collection[str],
    *,
    strategy: SingleProcess,
    context: Context,
    cleanup: contextlib.ExitStack,
) -> Resumed:
    """Take the folder of an unfinished run, and read its newest good checkpoint, on all processes.

    Raises:
        UserError: the folder is in use, holds no whole checkpoint though there were some, or the config differs in
            what has an influence on the result.
    """
    resumed = Resumed()
    folder = RunFolder(run_path, is_writer=strategy.is_main)

    def look() -> tuple[bool, str | None, list[str]]:
        if not strategy.is_main or not folder.is_begun:
            return False, None, []
        resumed.lease = take_lease(folder, config, context, strategy, cleanup)
        saves = [line for line in folder.read_lines(folder.metrics) if line.get("kind") == "save"]
        known = [line["last_write_seconds"] for line in saves if line.get("last_write_seconds")]
        resumed.last_write_seconds = float(known[-1]) if known else 0.0
        # The first save writes its line, and may be killed before its file is there: then nothing had been saved.
        found = find_checkpoint(CheckpointStore(folder.checkpoints, config.checkpoint.keep), has_saved=len(saves) > 1)
        return True, None if found.path is None else str(found.path), list(found.notes)

    found = strategy.all_succeed(look, "look for a checkpoint")
    resumed.is_begun, path, resumed.notes = strategy.share_value(found, "agree on the checkpoint")
    if path is not None:
        resumed.path = Path(path)
        resumed.content = strategy.all_succeed(lambda: _read(Path(path)), "read the checkpoint")
        differences = changed_settings(resumed.content["config"], config)
        # Said before the data are opened, which may take long.
        strategy.all_succeed(lambda: refuse_changes(differences, accepted, data=None), "compare settings")
        resumed.notes += [f"changed since: {line}" for line in describe_changes(differences)]
    return resumed


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_checkpoint(path)
    except CheckpointError as error:
        raise UserError(str(error)) from error


def go_on(
    resumed: Resumed,
    config: Config,
    parts: RunParts,
    trainer: Trainer,
    manifest: Mapping[str, Any],
    accepted: Collection[str],
) -> None:
    """Take up the state of an earlier attempt.

    Raises:
        UserError: the images, the arithmetic or the model are others.
    """
    content = resumed.content
    if content is None:
        return
    assert resumed.path is not None
    before, now = content["run"]["data"]["fingerprints"], manifest["data"]["fingerprints"]
    if before != now:
        names = [name for name in now if before.get(name) != now[name]]
        if names:
            refuse_changes({}, accepted, data=(before.get(names[0], "none"), now[names[0]]))
            resumed.notes.append(f"changed since: the images of {', '.join(names)}")
    if content["precision"] != parts.precision.name and "train.precision" not in accepted:
        raise UserError(
            f"this run computed in {content['precision']} so far, and this machine chooses {parts.precision.name}. "
            f"Type train.precision={content['precision']} --accept-change train.precision, or take another --run-dir."
        )
    if content["micro_batch"] != parts.plan.micro_batches.size and config.train.micro_batch is None:
        resumed.notes.append(
            f"changed since: micro-batches of {content['micro_batch']} → {parts.plan.micro_batches.size}, since "
            f"{parts.strategy.world_size} processes need {parts.strategy.world_size} of them; set train.micro_batch"
        )
    move_cursor(Cursor(**content["cursor"]), content["global_batch"], parts.plan.global_batch)
    trainer.restore(content, resumed.path)
    # At a SIGTERM before this attempt's first save is over, whether there is time for one is known all the same.
    trainer.writer.last_write_seconds = resumed.last_write_seconds
    resumed.content = {
        "learning_rate": content["learning_rate"],
        "saved_at": content["saved_at"],
        "run": content["run"],
    }


def begin_attempt(
    parts: RunParts, trainer: Trainer, resumed: Resumed, about: Mapping[str, Any], context: Context
) -> int:
    """Put metrics.jsonl and attempts.jsonl where the checkpoint is, and write this attempt's first line.

    Called by all processes, done by rank 0.

    Returns:
        The number of this attempt, from 1.
    """
    folder = parts.folder
    number = _begin(folder, parts, trainer, resumed, about, context) if folder.is_writer else 0
    attempt: int = parts.strategy.share_value(number, "begin together")
    return attempt


def _begin(
    folder: RunFolder,
    parts: RunParts,
    trainer: Trainer,
    resumed: Resumed,
    about: Mapping[str, Any],
    context: Context,
) -> int:
    cursor, run_step = trainer.cursor, trainer.steps_done
    earlier = folder.read_lines(folder.attempts)
    attempt = 1 + len([line for line in earlier if line.get("event") == "start"])
    world_sizes = [line.get("world_size") for line in earlier if line.get("event") == "start"]
    trainer.about = {**about, "attempts": attempt, "world_sizes": [*world_sizes, parts.strategy.world_size]}
    if resumed.is_begun:
        if earlier and earlier[-1].get("event") == "start":
            folder.keep_lines(folder.attempts, lambda line: True)
            last_sign = find_last_sign(folder, read_beats(folder.logs), parts.plan)
            folder.append(folder.attempts, end_of_killed(earlier[-1], last_sign, resumed.saved_at))
        folder.keep_lines(folder.metrics, lambda line: is_before(line, cursor, run_step))
        keep_samples(folder.logs, lambda place: (place[0] - 1, place[1]) <= (cursor.epoch, cursor.step))
        clear_failures(folder.logs)
    first = {"attempt": attempt, "event": "start", "time": timestamp(), "first_step": run_step}
    where = {"world_size": parts.strategy.world_size, "host": context.host, "restart": context.restart_count}
    if context.job:
        where["job"] = context.job  # who decides on a requeue tells this attempt from earlier ones by it
    folder.append(folder.attempts, first | where)
    return attempt


def find_last_sign(folder: RunFolder, beats: Mapping[int, Beat], plan: EpochPlan) -> tuple[int, float | None]:
    """(steps of the run done, time in seconds since 1970 or None) of the last that was heard of the processes."""
    steps, times = [0], []
    for beat in beats.values():
        # The step that a process is in counts from 1, and is not done.
        steps.append(max(0, beat.epoch - 1) * plan.num_steps + max(0, beat.step - 1))
        times.append(beat.time)
    steps += [line["step"] for line in folder.read_lines(folder.metrics) if isinstance(line.get("step"), int)]
    with contextlib.suppress(OSError):
        times.append(folder.metrics.stat().st_mtime)
    return max(steps), max(times, default=None)


def end_of_killed(
    start: Mapping[str, Any], last_sign: tuple[int, float | None], saved_at: float | None
) -> dict[str, Any]:
    """The last line of an attempt that ended without a word.

    Args:
        start: its first line.
        last_sign: from `find_last_sign`.
        saved_at: when the checkpoint was made that the next attempt goes on from, seconds since 1970, or None.
    """
    last_step, last_time = last_sign
    begun = datetime.datetime.fromisoformat(start["time"]).timestamp()
    lost = None if last_time is None else max(0.0, last_time - max(saved_at or 0.0, begun))
    return {
        "attempt": start["attempt"],
        "event": "end",
        "time": timestamp(last_time),
        "reason": "killed without a word",
        "last_step": max(last_step, start["first_step"]),
        "seconds_lost": None if lost is None else round(lost, 1),
    }
