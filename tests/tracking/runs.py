"""Run folders made line by line, for tests of the dashboards."""

from __future__ import annotations

from pathlib import Path

from signs_dist.run_folder.folder import RunFolder
from signs_dist.run_folder.records import EndLine, EpochLine, Line, StartLine, StepLine

START = StartLine(attempt=1, time="2026-01-31T12:00:00+00:00", first_step=0, world_size=1, host="node1")
RESULT = {"finished": True, "steps": 20, "val_accuracy": 0.75, "classes": ["a", "b"], "exact": True}


def end(reason: str, attempt: int = 1) -> EndLine:
    return EndLine(attempt=attempt, time="2026-01-31T12:10:00+00:00", reason=reason, last_step=10)


def step_line(step: int, loss: float = 1.0) -> StepLine:
    return StepLine(
        epoch=1,
        step=step,
        images=8 * step,
        train_loss=loss,
        train_accuracy=0.5,
        lr=0.1,
        images_per_second=300.0,
        data_wait_share=0.25,
    )


def epoch_line(step: int, val_loss: float | None = 0.5) -> EpochLine:
    return EpochLine(
        epoch=1,
        step=step,
        images=8 * step,
        train_loss=1.0,
        train_accuracy=0.5,
        lr=0.1,
        images_per_second=300.0,
        data_wait_share=0.25,
        val_loss=val_loss,
        val_accuracy=None if val_loss is None else 0.75,
    )


def make_run(path: Path, *lines: Line, is_finished: bool = False) -> RunFolder:
    folder = RunFolder(path).create()
    folder.write_config("train: {epochs: 5, micro_batch: 8}\noptim: {lr: 0.05}\n")
    for line in lines:
        folder.add(line)
    if is_finished:
        folder.write_result(RESULT)
    return folder
