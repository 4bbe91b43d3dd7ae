"""Resuming a run: the lease of its folder, its newest checkpoint, and what has changed since."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from signs_dist.checkpointing.fitting import resumes_optimizer
from signs_dist.checkpointing.resume_rules import (
    Found,
    changed_settings,
    describe_changes,
    find_checkpoint,
    is_result_of,
    refuse_changes,
    refuse_fewer_epochs,
    refuse_other_batch,
)
from signs_dist.checkpointing.store import CheckpointStore, Cursor, read_checkpoint
from signs_dist.config.reading import SUSPECTS
from signs_dist.config.settings import Config
from signs_dist.console.screen import percent
from signs_dist.distributed.strategy import SingleProcess
from signs_dist.errors import CheckpointError, OtherArithmeticError, UserError, with_message
from signs_dist.monitoring.signals import call_at_end, no_call_at_end
from signs_dist.monitoring.waiting import telling
from signs_dist.run_folder.file_kinds import require_run_files
from signs_dist.run_folder.folder import RunFolder, make_new_folder, missing_folders, remove_empty
from signs_dist.run_folder.lease import NAME as LEASE
from signs_dist.run_folder.lease import TRIES, Lease
from signs_dist.run_folder.lines import describe_damage
from signs_dist.run_folder.manifest import changed_files, changed_software, describe_software, imported_files
from signs_dist.run_folder.records import SaveLine, of_kind
from signs_dist.run_folder.suspects import read_suspicion
from signs_dist.training.arithmetic_changes import compare_arithmetic, describe_changes_of_bits, read_changes
from signs_dist.training.prepare import Prepared
from signs_dist.training.process import Process
from signs_dist.training.run_state import RunState
from signs_dist.training.stepper import Stepper


def agree_on_folder(run_path: Path, process: Process, cleanup: contextlib.ExitStack, *, is_new: bool) -> RunFolder:
    """The run folder of all processes: the path that rank 0 was given, or with `is_new` a new folder of such a name.

    Args:
        run_path: the run folder.
        process: where this process runs.
        cleanup: removes a new folder in which no run has begun.
        is_new: whether the path is only a proposal, which another run may have taken.
    """
    strategy = process.strategy

    def make() -> Path:
        if not strategy.is_main or not is_new:
            return run_path
        around = missing_folders(run_path.parent)
        made = make_new_folder(run_path)
        cleanup.callback(remove_empty, [made, *around])
        return made

    path = strategy.all_succeed(make, "make the run folder")
    return RunFolder(Path(strategy.share_value(str(path), "agree on the run folder")), is_writer=strategy.is_main)


def take_lease(
    folder: RunFolder, process: Process, takeover_seconds: float, cleanup: contextlib.ExitStack
) -> Lease | None:
    """Make the run folder where it does not exist, and take its lease; None in processes that do not write.

    `cleanup` releases the lease, and removes the folders made here if no run has begun in them.

    Raises:
        UserError: the folder holds other files, cannot be made, or is in use.
    """
    if not folder.is_writer:
        return None
    context = process.context
    made = missing_folders(folder.checkpoints, folder.logs)

    def remove(folders: Collection[Path]) -> None:
        if not folder.is_begun:
            remove_empty(folders)

    cleanup.callback(remove, made)
    waits = f"waits until the holder of {folder.path / LEASE} ends or gives no sign of life for {takeover_seconds:g} s"
    with telling(lambda: waits, tell=process.screen.result):
        lease = _acquire(
            folder,
            host=context.host,
            pid=context.process_id,
            takeover_seconds=takeover_seconds,
            job=context.job,
            on_asked=lambda: os.kill(context.process_id, signal.SIGTERM),
        )
    folder.require_held = lease.require_held

    def abandon(code: int) -> None:
        if not folder.is_begun:  # an attempt that trains may be writing a checkpoint
            lease.abandon()

    call_at_end(abandon)
    cleanup.callback(no_call_at_end, abandon)
    cleanup.callback(lease.release)
    # Before the release: later another run may need them.
    cleanup.callback(remove, [path for path in made if path in (folder.checkpoints, folder.logs)])
    return lease


def _acquire(folder: RunFolder, **of_process: Any) -> Lease:
    for _ in range(TRIES):
        folder.create()
        with contextlib.suppress(FileNotFoundError):  # another run failed, and removed the folder that it had made
            lease = Lease.acquire(folder.path, **of_process)
            folder.create()  # the other run may have removed subfolders just before it released the lease
            return lease
    raise UserError(f"{folder.path} was removed again and again by another run. Choose another --run-dir.")


@dataclasses.dataclass(frozen=True)
class EarlierAttempt:
    """What an earlier attempt left. The defaults mean that there was none.

    Attributes:
        is_begun: whether there was an earlier attempt.
        result: the contents of result.json if the run is finished and not to be trained further, else None.
        path: the checkpoint from which the run resumes; None to start from the beginning.
        content: what the checkpoint holds.
        broken: newer checkpoints that are broken or do not fit the run, each with a message.
        suspects: newer checkpoints that may hold wrong results.
        is_trusted: whether the checkpoint is from before a check that found no difference.
        damages: a message for each record of the run with lines that cannot be read.
        notes: messages for the screen, those of `damages` among them.
        lease: the lease of the run folder; None in processes that do not write.
        last_write_seconds: how long the newest save took, in seconds; 0 if that is not known, and in processes that do
            not write.
    """

    is_begun: bool = False
    result: dict[str, Any] | None = None
    path: Path | None = None
    content: dict[str, Any] | None = None
    broken: tuple[tuple[Path, str], ...] = ()
    suspects: tuple[Path, ...] = ()
    is_trusted: bool = False
    damages: tuple[str, ...] = ()
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
            {name: content[name] for name in ("learning_rate", "micro_batch", "saved_at", "config", "run")}
            if content
            else None
        )
        return dataclasses.replace(self, content=kept, notes=(*self.notes, *notes))

    def banner_lines(self, run_state: RunState, stepper: Stepper, attempt: int) -> list[tuple[str, str]]:
        """The banner's lines about the resume; none if there was no earlier attempt."""
        if not self.is_begun:
            return []
        if self.content is None:
            why = "all states are suspects" if self.suspects else "nothing was saved"
            return [("again", f"attempt {attempt}, from the beginning: {why}")]
        best = f", best {percent(run_state.best.accuracy)}" if run_state.best is not None else ""
        place = f"attempt {attempt} resumes after {run_state.cursor}"
        rates = f"{self.content['learning_rate']:.4g} → {stepper.state.learning_rate(run_state.images):.4g}"
        what = f"{place}, images {run_state.images:,}, lr {rates}{best}"
        if run_state.steps_done >= run_state.num_steps:
            what = f"attempt {attempt}: all {run_state.num_steps:,} steps are done, the result was not written{best}"
        elif run_state.has_ended_early:
            what = f"attempt {attempt}: the run ended early after {run_state.cursor}, the result was not written{best}"
        bits = describe_changes_of_bits(run_state.arithmetic_changes)
        return [("again", what), ("from", str(self.path)), *([("bits", bits)] if bits else [])]


def find_earlier_attempt(
    config: Config, folder: RunFolder, accepted: Collection[str], process: Process, cleanup: contextlib.ExitStack
) -> EarlierAttempt:
    """Take the lease of the run folder, and read its newest whole checkpoint on all processes.

    Whatever is decided by the files of the folder is decided here, while no other run can change them.

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

    def look() -> _Seen:
        nonlocal lease, last_write_seconds
        if not strategy.is_main:
            return _Seen()
        require_run_files(folder.path)
        try:
            lease = take_lease(folder, process, config.checkpoint.takeover_seconds, cleanup)
        except UserError:
            if not is_result_of(folder, config, accepted):
                raise
            return _Seen(is_begun=True, result=folder.read_result())  # to say so needs no writing
        if not folder.is_begun:
            return _Seen()
        if is_result_of(folder, config, accepted):
            return _Seen(is_begun=True, result=folder.read_result())
        damages = tuple(filter(None, [describe_damage(file) for file in (folder.metrics, folder.attempts)]))
        saves = of_kind(folder.read_metrics(), SaveLine)
        last_write_seconds = next((line.last_write_seconds for line in reversed(saves) if line.last_write_seconds), 0.0)
        store = CheckpointStore(folder.checkpoints, config.checkpoint.keep)
        # A save writes its line before its file, so a single line may be of a save that was killed before its file.
        has_saved = len(saves) > 1 or folder.is_finished
        suspicion = read_suspicion(folder) if SUSPECTS not in accepted else None
        found = find_checkpoint(store, has_saved=has_saved, suspicion=suspicion)
        return _Seen(is_begun=True, found=found, damages=damages)

    seen = strategy.all_succeed(look, "look for a checkpoint")
    seen = strategy.share_value(seen, "agree on the checkpoint")
    earlier = EarlierAttempt(
        seen.is_begun,
        result=seen.result,
        damages=seen.damages,
        suspects=seen.found.suspects,
        is_trusted=seen.found.is_trusted,
        notes=(*seen.damages, *seen.found.notes),
        lease=lease,
        last_write_seconds=last_write_seconds,
    )
    if seen.found.path is None:
        return earlier
    # Its settings are checked before the data are opened, which may take long.
    return take_up(seen.found, earlier, config, accepted, strategy)


@dataclasses.dataclass(frozen=True)
class _Seen:
    """What rank 0 tells the other processes."""

    is_begun: bool = False
    result: dict[str, Any] | None = None
    found: Found = dataclasses.field(default_factory=lambda: Found(None))
    damages: tuple[str, ...] = ()


def take_up(
    found: Found, earlier: EarlierAttempt, config: Config, accepted: Collection[str], strategy: SingleProcess
) -> EarlierAttempt:
    """`earlier` with the content of the checkpoint that was found. Raises `UserError` for settings that differ."""
    path = found.path
    assert path is not None
    content = strategy.all_succeed(lambda: _read(path), "read the checkpoint")
    differences = changed_settings(content["config"], config)
    with naming([*earlier.damages, *found.notes]):
        strategy.all_succeed(lambda: _refuse(differences, accepted, content, config), "compare settings")
    changes = [f"changed since: {line}" for line in describe_changes(differences)]
    notes = (*earlier.damages, *found.notes, *changes)
    suspects = found.suspects or earlier.suspects
    return dataclasses.replace(earlier, path=path, content=content, broken=found.broken, suspects=suspects, notes=notes)


def _refuse(
    differences: dict[str, tuple[Any, Any]], accepted: Collection[str], content: dict[str, Any], config: Config
) -> None:
    refuse_changes(differences, accepted, data=None)
    refuse_fewer_epochs(Cursor(**content["cursor"]), config.train.epochs)


@contextlib.contextmanager
def naming(notes: Sequence[str]) -> Iterator[None]:
    """Within the block, a refusal begins with `notes`, such as on a damaged checkpoint.

    The notes are printed below the banner, which a refused command does not reach.
    """
    try:
        yield
    except UserError as error:
        message = "\n".join([*(note for note in notes if note not in str(error)), str(error)])
        raise with_message(error, message) from error


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
        OtherArithmeticError: in exact mode, this machine computes other bits, or chooses another precision.
        UserError: the images, the precision or the model differ.
    """
    content, prepared = earlier.content, stepper.prepared
    if content is None:
        return earlier
    assert earlier.path is not None
    notes = _compare_images(content["run"].get("data", {}).get("fingerprints", {}), prepared, accepted)
    if changed := changed_files(content["run"].get("code", {}), {"files": imported_files(sys.modules)}):
        notes.append(f"changed since: the code in {', '.join(changed)}")
    if software := changed_software(content["run"], describe_software()):
        notes.append(f"changed since: {', '.join(software)}")
    if content["precision"] != prepared.precision.name and "train.precision" not in accepted:
        kind = OtherArithmeticError if prepared.config.exact else UserError
        raise kind(
            f"this run computed in {content['precision']} so far, and this machine chooses {prepared.precision.name}. "
            f"Type train.precision={content['precision']} --accept-change train.precision, or choose another --run-dir."
        )
    micro_batch = prepared.plan.micro_batches.size
    if content["micro_batch"] != micro_batch and prepared.config.train.micro_batch is None:
        notes.append(
            f"changed since: micro-batches of {content['micro_batch']} → {micro_batch}, so that each process gets one; "
            f"to choose the size, set train.micro_batch"
        )
    with naming(notes):
        other_bits, note = compare_arithmetic(content, stepper, accepted)
    notes += [note] if note else []
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
    if earlier.is_trusted and stepper.check is not None:
        # The checkpoint does not know of the check after it: if the next check finds a difference, it is no suspect.
        stepper.check.clean = cursor
    run_state.arithmetic_changes = read_changes(content)
    if other_bits:
        run_state.arithmetic_changes.append({"step": run_state.steps_done + 1, "what": other_bits})
    return earlier.without_tensors(notes)


def _compare_images(before: dict[str, str], prepared: Prepared, accepted: Collection[str]) -> list[str]:
    """Refuse images that differ from before, unless they are accepted. Returns notes about them."""
    now = prepared.fingerprints
    names = [name for name in now if before.get(name) != now[name]]
    if not names:
        return []
    refuse_changes({}, accepted, data=(before.get(names[0], "none"), now[names[0]]))
    return [f"changed since: the images of {', '.join(names)}"]
