"""Run folders made line by line, for tests of the dashboards."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from signs_dist.run_folder.folder import RunFolder
from signs_dist.run_folder.records import EpochLine, Line, StepLine
from tests.results import runs

START = runs.start()
RESULT = {"finished": True, "steps": 20, "val_accuracy": 0.75, "classes": ["a", "b"], "exact": True}
end = runs.end


def step_line(step: int, loss: float = 1.0) -> StepLine:
    return dataclasses.replace(runs.step(step, epoch=1), train_loss=loss)


def epoch_line(step: int, val_loss: float | None = 0.5) -> EpochLine:
    numbers = {} if val_loss is None else {"val_loss": val_loss}
    return runs.epoch(1, None if val_loss is None else 0.75, step=step, **numbers)


def make_run(path: Path, *lines: Line, is_finished: bool = False) -> RunFolder:
    config = "train: {epochs: 5, micro_batch: 8}\noptim: {lr: 0.05}\n"
    return RunFolder(runs.make_run(path, *lines, config=config, result=RESULT if is_finished else None))
