"""Resuming a run: the lease of its folder, its newest checkpoint, and what has changed since."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from signs_dist.checkpointing.fitting import resumes_optimizer
from signs_dist.checkpointing.resume_rules import (
    Found,
    changed_settings,
    describe_changes,
    find_checkpoint,
    refuse_changes,
    refuse_other_batch,
)
from signs_dist.checkpointing.store import CheckpointStore, Cursor, read_checkpoint
from signs_dist.config.settings import Config
from signs_dist.console.screen import percent
from signs_dist.distributed.strategy import SingleProcess
from signs_dist.errors import CheckpointError, UserError
from signs_dist.run_folder.file_kinds import require_run_files
from signs_dist.run_folder.folder import RunFolder
from signs_dist.run_folder.lease import Lease
from signs_dist.run_folder.records import SaveLine, of_kind
from signs_dist.training.prepare import Prepared
from signs_dist.training.process import Process
from signs_dist.training.run_state import RunState
from signs_dist.training.stepper import Stepper


def take_lease(
    folder: RunFolder, process: Process, takeover_seconds: float, cleanup: contextlib.ExitStack
) -> Lease | None:
    """The lease of the run folder, which `cleanup` releases; None in processes that do not write."""
    if not folder.is_writer:
        return None
    context = process.context
    lease = Lease.acquire(
        folder.path,
        host=context.host,
        pid=context.process_id,
        takeover_seconds=takeover_seconds,
        job=context.job,
        on_asked=lambda: os.kill(context.process_id, signal.SIGTERM),
    )
    cleanup.callback(lease.release)
    return lease


@dataclasses.dataclass(frozen=True)
class EarlierAttempt:
    """What an earlier attempt left. The defaults mean that there was none.

    Attributes:
        is_begun: whether there was an earlier attempt.
        path: the checkpoint from which the run resumes; None to start from the beginning.
        content: what the checkpoint holds.
        broken: newer checkpoints that are broken or do not fit the run, each with a message.
        notes: messages for the screen.
        lease: the lease of the run folder; None in processes that do not write, and for a new folder.
        last_write_seconds: how long the newest save took, in seconds; 0 if that is not known, and in processes that do
            not write.
    """

    is_begun: bool = False
    path: Path | None = None
    content: dict[str, Any] | None = None
    broken: tuple[tuple[Path, str], ...] = ()
    notes: tuple[str, ...] = ()
    lease: Lease | None = None
    last_write_seconds: float = 0.0

    @property
    def micro_batch(self) -> int | None:
        """The images of a micro-batch in the earlier attempt; None without a checkpoint."""
        return self.content["micro_batch"] if self.content is not None else None

    @property
    def saved_at(self) -> float | None:
        """When the checkpoint was made, in seconds since 1970; None without a checkpoint."""
        return self.content["saved_at"] if self.content is not None else None

    def without_tensors(self, notes: Collection[str]) -> EarlierAttempt:
        """A copy with `notes` added, and without the tensors of the checkpoint, which the run has loaded."""
        content = self.content
        kept = (
            {name: content[name] for name in ("learning_rate", "micro_batch", "saved_at", "run")} if content else None
        )
        return dataclasses.replace(self, content=kept, notes=(*self.notes, *notes))

    def banner_lines(self, run_state: RunState, stepper: Stepper, attempt: int) -> list[tuple[str, str]]:
        """The banner's lines about the resume; none if there was no earlier attempt."""
        if not self.is_begun:
            return []
        if self.content is None:
            return [("again", f"attempt {attempt}, from the beginning: nothing was saved")]
        best = f", best {percent(run_state.best.accuracy)}" if run_state.best is not None else ""
        place = f"attempt {attempt} resumes after {run_state.cursor}"
        rates = f"{self.content['learning_rate']:.4g} → {stepper.state.learning_rate(run_state.images):.4g}"
        return [
            ("again", f"{place}, images {run_state.images:,}, lr {rates}{best}"),
            ("from", str(self.path)),
        ]


def find_earlier_attempt(
    config: Config, folder: RunFolder, accepted: Collection[str], process: Process, cleanup: contextlib.ExitStack
) -> EarlierAttempt:
    """Take the lease of an unfinished run, and read its newest whole checkpoint on all processes.

    Args:
        config: the config of this attempt.
        folder: the run folder; may not exist.
        accepted: names from `--accept-change`.
        process: where this process runs.
        cleanup: releases the lease.

    Raises:
        UserError: another run uses the folder, all its checkpoints are broken, or the config differs in settings that
            change the result.
    """
    strategy = process.strategy
    lease: Lease | None = None
    last_write_seconds = 0.0

    def look() -> tuple[bool, Found]:
        nonlocal lease, last_write_seconds
        if strategy.is_main:
            require_run_files(folder.path)
        if not strategy.is_main or not folder.is_begun:
            return False, Found(None)
        lease = take_lease(folder, process, config.checkpoint.takeover_seconds, cleanup)
        saves = of_kind(folder.read_metrics(), SaveLine)
        last_write_seconds = next((line.last_write_seconds for line in reversed(saves) if line.last_write_seconds), 0.0)
        store = CheckpointStore(folder.checkpoints, config.checkpoint.keep)
        # A save writes its line before its file, so a single line may be of a save that was killed before its file.
        return True, find_checkpoint(store, has_saved=len(saves) > 1)

    seen = strategy.all_succeed(look, "look for a checkpoint")
    is_begun, found = strategy.share_value(seen, "agree on the checkpoint")
    earlier = EarlierAttempt(is_begun, lease=lease, last_write_seconds=last_write_seconds)
    if found.path is None:
        return earlier
    # Its settings are checked before the data are opened, which may take long.
    return take_up(found, earlier, config, accepted, strategy)


def take_up(
    found: Found, earlier: EarlierAttempt, config: Config, accepted: Collection[str], strategy: SingleProcess
) -> EarlierAttempt:
    """`earlier` with the content of the checkpoint that was found. Raises `UserError` for settings that differ."""
    path = found.path
    assert path is not None
    content = strategy.all_succeed(lambda: _read(path), "read the checkpoint")
    differences = changed_settings(content["config"], config)
    with naming(found.notes):
        strategy.all_succeed(lambda: refuse_changes(differences, accepted, data=None), "compare settings")
    notes = (*found.notes, *(f"changed since: {line}" for line in describe_changes(differences)))
    return dataclasses.replace(earlier, path=path, content=content, broken=found.broken, notes=notes)


@contextlib.contextmanager
def naming(notes: Sequence[str]) -> Iterator[None]:
    """Within the block, a refusal begins with `notes`, such as on a damaged checkpoint.

    The notes are printed below the banner, which a refused command does not reach.
    """
    try:
        yield
    except UserError as error:
        raise UserError("\n".join([*(note for note in notes if note not in str(error)), str(error)])) from error


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_checkpoint(path)
    except CheckpointError as error:
        raise UserError(str(error)) from error


def resume_from(
    earlier: EarlierAttempt, run_state: RunState, stepper: Stepper, accepted: Collection[str]
) -> EarlierAttempt:
    """Load the checkpoint of an earlier attempt, if there is one. Returns `earlier` with more notes, without tensors.

    Raises:
        UserError: the images, the precision or the model differ.
    """
    content, prepared = earlier.content, stepper.prepared
    if content is None:
        return earlier
    assert earlier.path is not None
    notes = _compare_images(content["run"].get("data", {}).get("fingerprints", {}), prepared, accepted)
    if content["precision"] != prepared.precision.name and "train.precision" not in accepted:
        raise UserError(
            f"this run computed in {content['precision']} so far, and this machine chooses {prepared.precision.name}. "
            f"Type train.precision={content['precision']} --accept-change train.precision, or choose another --run-dir."
        )
    micro_batch = prepared.plan.micro_batches.size
    if content["micro_batch"] != micro_batch and prepared.config.train.micro_batch is None:
        notes.append(
            f"changed since: micro-batches of {content['micro_batch']} → {micro_batch}, so that each process gets one; "
            f"to choose the size, set train.micro_batch"
        )
    cursor, num_steps = Cursor(**content["cursor"]), prepared.plan.num_steps
    refuse_other_batch(cursor, content["global_batch"], prepared.plan.global_batch)
    if cursor.step > num_steps:
        raise UserError(
            f"{earlier.path} is at {cursor}, and with these images and settings an epoch has {num_steps} steps. "
            f"Restore the images and train.epoch_steps, or choose another --run-dir."
        )
    if not resumes_optimizer(content["config"], prepared.config):
        notes.append("changed since: the optimizer, which begins without the state of the optimizer before")
    run_state.restore(content, stepper, earlier.path)
    return earlier.without_tensors(notes)


def _compare_images(before: dict[str, str], prepared: Prepared, accepted: Collection[str]) -> list[str]:
    """Refuse images that differ from before, unless they are accepted. Returns notes about them."""
    now = prepared.fingerprints
    names = [name for name in now if before.get(name) != now[name]]
    if not names:
        return []
    refuse_changes({}, accepted, data=(before.get(names[0], "none"), now[names[0]]))
    return [f"changed since: the images of {', '.join(names)}"]
