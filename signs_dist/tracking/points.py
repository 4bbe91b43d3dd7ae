"""The lines of metrics.jsonl as points of curves, under the names that dashboards group by."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from signs_dist.run_folder.records import EpochLine, MetricsLine, StepLine

NAMES = {"train_loss": "train/loss", "train_accuracy": "train/accuracy"}
"""Field of a line → its name, where the name differs. Fields that begin with val_ are under val/."""
OMITTED = ("step", "images")
"""Fields that are no curve: the step is the horizontal axis."""


@dataclasses.dataclass(frozen=True)
class Point:
    """The numbers of one step.

    Attributes:
        step: number of steps since the start of the run. Two lines of metrics.jsonl never have the same step.
        values: name → number.
    """

    step: int
    values: Mapping[str, float]


def points_after(lines: Iterable[MetricsLine], step: int) -> list[Point]:
    """The points of the lines after a step, in order.

    A resumed run repeats the steps since its last checkpoint, and writes their lines again: a dashboard that has them
    gets them once.
    """
    points = []
    for line in lines:
        if isinstance(line, StepLine) and line.step > step:
            points.append(Point(line.step, _values(line)))
            step = line.step
    return points


def _values(line: StepLine | EpochLine) -> dict[str, float]:
    values: dict[str, float] = {}
    for field in dataclasses.fields(line):
        value = getattr(line, field.name)
        if isinstance(value, dict):  # of the user's own metrics
            values |= {f"val/{name}": float(number) for name, number in value.items() if number is not None}
        elif field.name not in OMITTED and value is not None:
            values[_name(field.name)] = float(value)
    return values


def _name(field: str) -> str:
    return NAMES.get(field) or (field.replace("_", "/", 1) if field.startswith("val_") else field)
