"""Going on with a run: which checkpoint, what has changed since, and what that means. Decisions, and what they say."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from signs_dist.checkpointing.store import CheckpointStore, Cursor, read_checkpoint
from signs_dist.config.reading import load_config
from signs_dist.config.settings import Config, flatten
from signs_dist.errors import CheckpointError, UserError
from signs_dist.run_folder.folder import RunFolder

FREE = (
    *("data.root", "data.cache", "data.num_workers", "data.prefetch", "data.pin_memory"),
    *("evaluate.batch", "processes.", "checkpoint.", "log."),
)
"""Settings that have no influence on the weights: they may differ from attempt to attempt."""
DATA = "data"
"""The name by which other images are accepted."""


@dataclasses.dataclass(frozen=True)
class Found:
    """What there is to go on from.

    Attributes:
        path: the newest good checkpoint, or None where the run was begun and never saved.
        notes: what to tell about files that were passed over.
    """

    path: Path | None
    notes: tuple[str, ...]


def find_checkpoint(store: CheckpointStore, *, has_saved: bool) -> Found:
    """The newest checkpoint that is whole; broken ones are set aside and named.

    Args:
        store: the run's checkpoints.
        has_saved: whether the run is known to have saved before.

    Raises:
        UserError: there were checkpoints, and none is whole.
    """
    store.sweep()
    notes = []
    for _, path in store.files():
        try:
            read_checkpoint(path)
        except CheckpointError as error:
            notes.append(f"{error} It is now {store.set_aside(path).name}.")
            continue
        if notes:
            notes.append(f"going on from the one before it: {path}")
        return Found(path, tuple(notes))
    if notes or has_saved:
        told = " ".join(notes) or f"{store.folder} holds none."
        raise UserError(
            f"this run has saved checkpoints, but none is whole: {told} Restore one (with its .sha256), or start anew "
            f"in another --run-dir."
        )
    return Found(None, ())


def changed_settings(before: Mapping[str, Any], now: Config) -> dict[str, tuple[Any, Any]]:
    """Settings that differ from those that a checkpoint was made with: name → (before, now).

    Args:
        before: `Config.model_dump(mode="json")` of then. Settings that it lacks count as they were by default.
        now: the config.
    """
    differences = {}
    defaults = dict(flatten(Config()))
    for name, value in flatten(now):
        old: Any = before
        for word in name.split("."):
            old = old[word] if isinstance(old, Mapping) and word in old else _plain(defaults[name])
        if old != _plain(value):
            differences[name] = (old, _plain(value))
    return differences


def refuse_changes(
    differences: Mapping[str, tuple[Any, Any]], accepted: Collection[str], *, data: tuple[str, str] | None
) -> None:
    """Refuse to go on with what would give another result, unless it was accepted by name.

    Args:
        differences: from `changed_settings`.
        accepted: names from `--accept-change`; a section's name stands for all in it.
        data: fingerprints of the training images before and now if they differ, else None.

    Raises:
        UserError: naming what differs and what to type.
    """
    refused = {
        name: values
        for name, values in differences.items()
        if not name.startswith(FREE) and name not in accepted and name.split(".")[0] not in accepted
    }
    lines = [f"{name}: {_show(old)} → {_show(new)}" for name, (old, new) in refused.items()]
    names = list(refused)
    if data is not None and DATA not in accepted:
        lines.append(f"the training images: {data[0][:12]} → {data[1][:12]}")
        names.append(DATA)
    if lines:
        raise UserError(
            f"this run was made otherwise, and would not give the result it promises: {'; '.join(lines)}. "
            f"Put that back, take another --run-dir, or type --accept-change {','.join(names)}"
        )


def refuse_other_settings(folder: RunFolder, config: Config, accepted: Collection[str]) -> None:
    """For a finished run: refuse settings that would have given another result, as `refuse_changes` does."""
    try:
        before = load_config(folder.config).config
    except UserError:
        return  # of another release, whose settings cannot be compared
    refuse_changes(changed_settings(before.model_dump(mode="json"), config), accepted, data=None)


def move_cursor(cursor: Cursor, batch_before: int, batch_now: int) -> Cursor:
    """The place of a run whose global batch was changed, which can be done at the end of an epoch only."""
    if batch_before != batch_now and cursor.step:
        raise UserError(
            f"train.global_batch={batch_now} cannot replace {batch_before} in mid-epoch: the checkpoint is at step "
            f"{cursor.step} of epoch {cursor.epoch + 1}. Go on with train.global_batch={batch_before} to the end of "
            f"the epoch first."
        )
    return cursor


def describe_changes(differences: Mapping[str, tuple[Any, Any]]) -> list[str]:
    """A line for each difference."""
    return [f"{name}: {_show(old)} → {_show(new)}" for name, (old, new) in differences.items()]


def is_before(line: Mapping[str, Any], cursor: Cursor, run_step: int) -> bool:
    """Whether a line of metrics.jsonl tells of what a checkpoint holds: what comes after is done again.

    Args:
        line: the line.
        cursor: the checkpoint's.
        run_step: its steps of the whole run.
    """
    step = line.get("step", 0)
    if cursor.step and line.get("kind") == "epoch":
        return bool(step < run_step)  # at an epoch's last step, before it was judged
    return bool(step <= run_step)


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _show(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
