"""Resuming a run: from which checkpoint, and whether the settings still give the same result."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from signs_dist.checkpointing.store import BROKEN, SUSPECT, CheckpointStore, Cursor, read_checkpoint
from signs_dist.config.reading import SUSPECTS, load_saved_config
from signs_dist.config.section import flatten
from signs_dist.config.settings import Config
from signs_dist.errors import CheckpointError, UserError
from signs_dist.run_folder.file_kinds import require_run_files
from signs_dist.run_folder.folder import RunFolder
from signs_dist.run_folder.suspects import Suspicion

FREE = (
    *("data.root", "data.cache", "data.num_workers", "data.prefetch", "data.timeout_seconds", "data.pin_memory"),
    *("data.max_megapixels", "data.split_folder", "data.reader", "data.reader_args"),
    *("model.gradient_checkpointing", "train.allocator", "train.shard_optimizer", "train.autotune", "train.graph"),
    *("evaluate.batch", "evaluate.metrics"),
    *("processes.", "checkpoint.", "check.", "log."),
)
"""Settings that do not change the weights, so they may differ between attempts. A dot at the end means a section."""
ALIKE: Mapping[str, Collection[Any]] = {"data.storage": ("packed", "device")}
"""Values of a setting that give the same weights."""
NOT_IN_TRIAL = (
    *("optim.", "schedule.", "ema.", "train.epochs", "train.patience", "train.final_weights"),
    "evaluate.best_by",
)
"""Settings that change the weights, but not what the model computes for the first micro-batch."""
DATA = "data"
"""The name by which --accept-change accepts other images."""


@dataclasses.dataclass(frozen=True)
class Found:
    """The checkpoint from which a run resumes.

    Attributes:
        path: the newest whole checkpoint, or None if the run has begun and never saved.
        broken: newer checkpoints that are broken, each with a message. `set_aside` renames them when the run resumes: a
            command that is refused renames nothing.
        suspects: newer checkpoints that may hold wrong results; they are renamed as well.
        suspicion: why.
        is_trusted: whether `path` was saved before a check that found no difference, as the note about suspects says.
    """

    path: Path | None
    broken: tuple[tuple[Path, str], ...] = ()
    suspects: tuple[Path, ...] = ()
    suspicion: str = ""
    is_trusted: bool = False

    @property
    def notes(self) -> tuple[str, ...]:
        """Messages about the broken checkpoints, and about the suspects."""
        told = []
        if self.suspects:
            names = ", ".join(path.name for path in self.suspects)
            then = f"the run resumes from {self.path}" if self.path is not None else "the run begins again"
            told = [
                f"{self.suspicion} Saved after the last check without a difference: {names}. So {then}. To resume from "
                f"the newest all the same, type --accept-change {SUSPECTS}"
            ]
        whole = [f"the checkpoint before it is whole: {self.path}"] if self.path is not None and self.broken else []
        return (*told, *(message for _, message in self.broken), *whole)


def find_checkpoint(store: CheckpointStore, *, has_saved: bool, suspicion: Suspicion | None = None) -> Found:
    """The newest whole checkpoint that is no suspect. Newer broken checkpoints and suspects are noted.

    Args:
        store: the run's checkpoints.
        has_saved: whether the run has saved before.
        suspicion: which checkpoints are suspects; None: none are.

    Raises:
        UserError: the run has saved checkpoints, and none is whole; or another release wrote the newest.
    """
    store.sweep()
    broken = []
    suspects: list[Path] = []
    what = suspicion.what if suspicion is not None else ""
    for cursor, path in store.files():
        if suspicion is not None and suspicion.is_suspect((cursor.epoch, cursor.step)):
            suspects.append(path)
            continue
        try:
            read_checkpoint(path)
        except CheckpointError as error:
            broken.append((path, str(error)))
            continue
        return Found(path, tuple(broken), tuple(suspects), what, is_trusted=suspicion is not None)
    # An attempt that was killed early may have renamed them.
    has_renamed = suspicion is not None and any(store.folder.glob(f"*.pt{SUSPECT}"))
    if (suspects or has_renamed) and not broken:
        return Found(None, (), tuple(suspects), what)
    if broken or has_saved:
        found = " ".join(message for _, message in broken) or f"{store.folder} holds no checkpoint."
        raise UserError(
            f"this run has saved checkpoints, but none is whole: {found} Restore one with its .sha256, or start again "
            f"in another --run-dir."
        )
    return Found(None)


def set_aside(store: CheckpointStore, broken: Iterable[Path], suffix: str = BROKEN) -> list[str]:
    """Rename broken checkpoints, so that they are not read again. Returns a message for each."""
    return [f"{path.name} was renamed to {store.set_aside(path, suffix).name}" for path in broken]


def changed_settings(before: Mapping[str, Any], now: Config) -> dict[str, tuple[Any, Any]]:
    """Settings that differ from the settings of a checkpoint: name → (before, now).

    Args:
        before: `Config.model_dump(mode="json")` of the checkpoint. Settings that it lacks count as their defaults.
        now: the config of this attempt.
    """
    differences = {}
    defaults = dict(flatten(Config()))
    for name, value in flatten(now):
        old: Any = before
        for part in name.split("."):
            old = old[part] if isinstance(old, Mapping) and part in old else _plain(defaults[name])
        if old != _plain(value):
            differences[name] = (old, _plain(value))
    return differences


def is_same_trial(
    content: Mapping[str, Any], now: Mapping[str, Any], differences: Mapping[str, tuple[Any, Any]]
) -> bool:
    """Whether the model of a resumed run must compute the same as before from its initial weights.

    Args:
        content: of the checkpoint.
        now: the same entries for this attempt, from `training.run_state.arithmetic`.
        differences: from `changed_settings`.
    """
    is_equal = all(content[name] == now[name] for name in ("global_batch", "micro_batch", "precision"))
    return is_equal and all(name.startswith(NOT_IN_TRIAL) for name in changes_of_result(differences))


def refuse_changes(
    differences: Mapping[str, tuple[Any, Any]], accepted: Collection[str], *, data: tuple[str, str] | None
) -> None:
    """Refuse settings and data that would give another result, unless they are accepted by name.

    Args:
        differences: from `changed_settings`.
        accepted: names from `--accept-change`; a section's name accepts all its settings.
        data: (before, now) fingerprints of the training images if they differ, else None.

    Raises:
        UserError: some are refused. The message names them and what to type.
    """
    refused = {
        name: values
        for name, values in changes_of_result(differences).items()
        if name not in accepted and name.split(".")[0] not in accepted
    }
    lines = describe_changes(refused)
    # Pixels and files have fingerprints of other kinds: accepting the storage alone would be refused again, later.
    names = [DATA if name == "data.storage" else name for name in refused]
    if data is not None and DATA not in accepted:
        lines.append(f"the training images: {data[0][:12]} → {data[1][:12]}")
        names.append(DATA)
    if lines:
        raise UserError(
            f"these settings differ from the saved run: {'; '.join(lines)}. Restore them, choose another --run-dir, or "
            f"type --accept-change {','.join(dict.fromkeys(names))}"
        )


def changes_of_result(differences: Mapping[str, tuple[Any, Any]]) -> dict[str, tuple[Any, Any]]:
    """The differences that may change the weights."""
    return {
        name: values
        for name, values in differences.items()
        if not name.startswith(FREE) and not all(value in ALIKE.get(name, ()) for value in values)
    }


def settings_of_result(config: Config) -> dict[str, Any]:
    """The settings that change the weights and are not at their defaults, as plain values by their dotted names.

    Values that give the same weights count as the first of them.
    """
    defaults = dict(flatten(Config()))
    found = {}
    for name, value in flatten(config):
        alike = tuple(ALIKE.get(name, ()))
        counts = alike[0] if value in alike else value
        if not name.startswith(FREE) and counts != defaults[name]:
            found[name] = _plain(counts)
    return found


def is_result_of(folder: RunFolder, config: Config, accepted: Collection[str]) -> bool:
    """Whether a run is finished, and its result is of this config.

    False for a finished run that is to be trained further: `train.epochs` is larger than it was, or `train.patience` is
    where the run has ended early, and that is accepted.

    Raises:
        UserError: the run is finished, and its result is of other settings, or one of its files is none.
    """
    if not folder.is_finished:
        return False
    require_run_files(folder.path)
    try:
        before = load_saved_config(folder.config)
    except UserError:
        return True  # a config of another release cannot be compared
    differences = changes_of_result(changed_settings(before.model_dump(mode="json"), config))
    if not differences:
        return True
    result = folder.read_result() or {}
    ended_early = result.get("stopped_early") is True
    is_longer = config.train.epochs > before.train.epochs
    if is_longer or (ended_early and _is_more_patient(before.train.patience, config.train.patience)):
        refuse_changes(differences, accepted, data=None)
        return False
    num_epochs = result.get("epochs_trained", before.train.epochs)
    done = f"{num_epochs} epoch{'' if num_epochs == 1 else 's'}"
    longer = "train.epochs or train.patience" if ended_early else "train.epochs"
    raise UserError(
        f"these settings differ from the saved run: {'; '.join(describe_changes(differences))}. The run is finished "
        f"after {done}, and they can no longer change it. Restore them, or choose another --run-dir. Only a larger "
        f"{longer} trains it further."
    )


def _is_more_patient(before: int | None, now: int | None) -> bool:
    """Whether `train.patience` is larger than it was; None is the largest."""
    return before is not None and (now is None or now > before)


def finished_line(run_path: Path) -> str:
    """What a command says about a finished run."""
    return f"finished: {run_path} holds the result of this run. Another --run-dir begins a new one."


def refuse_fewer_epochs(cursor: Cursor, num_epochs: int) -> None:
    """Refuse a number of epochs that a run has passed already. Raises `UserError`."""
    if (cursor.epoch, cursor.step) <= (num_epochs, 0):
        return
    begun = cursor.epoch + (1 if cursor.step else 0)
    raise UserError(
        f"train.epochs={num_epochs}, and the saved run has trained {'a part of ' if cursor.step else ''}epoch {begun}. "
        f"Type train.epochs={begun} or more, or choose another --run-dir."
    )


def refuse_other_batch(cursor: Cursor, batch_before: int, batch_now: int) -> None:
    """Refuse another global batch within an epoch, where it would repeat or skip samples. Raises `UserError`."""
    if batch_before != batch_now and cursor.step:
        raise UserError(
            f"train.global_batch={batch_now} cannot replace {batch_before} within an epoch: the checkpoint is at "
            f"step {cursor.step} of epoch {cursor.epoch + 1}. Train to the end of the epoch first: type "
            f"train.global_batch={batch_before}"
        )


def describe_changes(differences: Mapping[str, tuple[Any, Any]]) -> list[str]:
    """A line for each difference."""
    return [f"{name}: {_show(old)} → {_show(new)}" for name, (old, new) in differences.items()]


def is_before(line: Mapping[str, Any], cursor: Cursor, run_step: int) -> bool:
    """Whether a line of metrics.jsonl comes before a checkpoint. A resumed run repeats the later lines.

    Args:
        line: the line.
        cursor: the checkpoint's place.
        run_step: the checkpoint's steps since the start of the run.
    """
    step = line.get("step", 0)
    if cursor.step and line.get("kind") == "epoch":
        return bool(step < run_step)  # saved at an epoch's last step, before validation
    return bool(step <= run_step)


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _show(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
