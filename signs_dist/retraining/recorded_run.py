"""What a run folder tells about a run, read so that the run can be trained again. Nothing is written."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from signs_dist.checkpointing.store import CheckpointStore, Cursor, read_checkpoint
from signs_dist.config.reading import load_saved_config
from signs_dist.config.settings import Config
from signs_dist.data.sources.division_file import COPY
from signs_dist.distributed.arithmetic import Fingerprint
from signs_dist.errors import CheckpointError, UserError
from signs_dist.run_folder.folder import RunFolder


@dataclasses.dataclass(frozen=True)
class State:
    """A state of a run that is on disk: a checkpoint, or the beginning.

    Attributes:
        cursor: its place.
        steps_done: steps since the start of the run.
        path: the file; None for the beginning, which needs none.
    """

    cursor: Cursor
    steps_done: int
    path: Path | None


BEGINNING = State(Cursor(0, 0), 0, None)
"""The state before the first step: the initial weights, which the seed decides."""


# Many members: one for each fact about a run that training it again needs.
@dataclasses.dataclass(frozen=True)
class RecordedRun:
    """A run, as its folder tells of it.

    Attributes:
        path: the run folder.
        config: all settings, as its last attempt had them.
        micro_batch: images of a micro-batch.
        precision: arithmetic of the forward pass, as `Precision.name`; None if nothing tells: the run saved no state.
        world_size: number of processes of its last attempt.
        num_steps: steps of an epoch; None if no state tells.
        states: the files with its states by place, the earliest first. They may be broken.
        division: its copy of the division of the images; None where the images were split.
        data: the manifest's entry on the data; empty if the run has written none.
        working_folder: the folder in which it was started; None if the manifest does not tell.
        arithmetic: of its last attempt; None where that is not recorded.
        result: the contents of result.json; None if the run is not finished.
        notes: what is broken, for people.
    """

    path: Path
    config: Config
    micro_batch: int
    precision: str | None
    world_size: int
    num_steps: int | None
    states: tuple[tuple[Cursor, Path], ...]
    division: Path | None
    data: Mapping[str, Any]
    working_folder: Path | None
    arithmetic: Fingerprint | None
    result: Mapping[str, Any] | None
    notes: tuple[str, ...] = ()

    @property
    def folder(self) -> RunFolder:
        """The run folder, for reading."""
        return RunFolder(self.path, is_writer=False)

    @property
    def fingerprints(self) -> dict[str, str]:
        """SHA-256 of each split's images; empty if the run has written none."""
        found = self.data.get("fingerprints")
        return dict(found) if isinstance(found, Mapping) else {}

    def steps_done(self, cursor: Cursor) -> int:
        """The steps from the start of the run to a place."""
        assert self.num_steps is not None or not cursor.epoch
        return cursor.epoch * (self.num_steps or 0) + cursor.step

    def newest_before(self, steps_done: int) -> tuple[State, list[str]]:
        """The newest whole state with at most `steps_done` steps: a checkpoint, or the beginning.

        Returns:
            (state, notes): a note for each newer checkpoint that is broken.
        """
        notes: list[str] = []
        for cursor, path in reversed(self.states):
            done = self.steps_done(cursor)
            if done > steps_done:
                continue
            try:
                read_checkpoint(path)
            except (CheckpointError, UserError) as error:
                notes.append(str(error))
                continue
            return State(cursor, done, path), notes
        return BEGINNING, notes


def read_recorded_run(path: Path) -> RecordedRun:
    """Read what a run folder tells.

    Raises:
        UserError: the folder holds no run, or its config cannot be read.
    """
    folder = RunFolder.open(path)
    config = load_saved_config(folder.config)
    manifest, result = _read_json(folder.manifest), folder.read_result()
    states = tuple(sorted(_one_of_each_place(CheckpointStore(folder.checkpoints)).items()))
    plan, notes = _read_plan(manifest, result, config, states)
    processes = manifest.get("processes")
    world_size = len(processes) if isinstance(processes, list) and processes else 1
    data, division = manifest.get("data"), folder.path / COPY
    working_folder = manifest.get("working_folder")
    return RecordedRun(
        path=path,
        config=config,
        micro_batch=plan.get("micro_batch") or max(1, config.train.global_batch // world_size),
        precision=plan.get("precision"),
        world_size=world_size,
        num_steps=plan.get("steps_of_epoch"),
        states=states,
        division=division if division.is_file() else None,
        data=data if isinstance(data, dict) else {},
        working_folder=Path(working_folder) if isinstance(working_folder, str) else None,
        arithmetic=Fingerprint.from_dict(manifest.get("arithmetic")),
        result=result,
        notes=tuple(notes),
    )


def _one_of_each_place(store: CheckpointStore) -> dict[Cursor, Path]:
    """The newer file of each place: `files` lists it first."""
    return dict(reversed(store.files()))


def _read_plan(
    manifest: Mapping[str, Any],
    result: Mapping[str, Any] | None,
    config: Config,
    states: Sequence[tuple[Cursor, Path]],
) -> tuple[dict[str, Any], list[str]]:
    """(`micro_batch`, `precision` and `steps_of_epoch` as far as they are known, notes on broken states).

    Manifests of earlier releases do not tell them: the result does, or the newest whole state.
    """
    plan = manifest.get("plan")
    if isinstance(plan, dict):
        return plan, []
    if result is not None:
        num_epochs, steps = result.get("epochs_trained") or config.train.epochs, result.get("steps")
        facts = {"steps_of_epoch": steps // num_epochs} if isinstance(steps, int) else {}
        return facts | {name: result.get(name) for name in ("micro_batch", "precision")}, []
    notes: list[str] = []
    for _, path in reversed(states):
        try:
            content = read_checkpoint(path)
        except (CheckpointError, UserError) as error:
            notes.append(str(error))
            continue
        facts = {name: content[name] for name in ("micro_batch", "precision")}
        epochs, steps = content["cursor"]["epoch"], content["cursor"]["step"]
        if epochs:
            facts["steps_of_epoch"] = (content["images"] // content["global_batch"] - steps) // epochs
        return facts, notes
    return {"micro_batch": config.train.micro_batch}, notes


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
