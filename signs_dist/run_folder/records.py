"""The lines of metrics.jsonl and attempts.jsonl: one class a kind of line, for all that write and read them.

Epochs and steps count from 1: a line with epoch 2 and step 40 tells of the 40th step of the run, in its second epoch.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, TypeVar

VERSION = 2
"""Written in the lines whose form has changed. Version 1, without a number, counted the epochs of saves from 0."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepLine:
    """A line of metrics.jsonl with the numbers of the epoch so far, each `log.every_steps` steps.

    Attributes:
        epoch: from 1.
        step: steps of the run done.
        images: images of the run seen.
        train_loss: mean loss of the epoch's images so far.
        train_accuracy: share of them whose class was predicted, 0..1.
        lr: learning rate of the step.
        images_per_second: of this attempt, in this epoch.
        data_wait_share: share of the time that was spent waiting for batches, 0..1.
    """

    KEY: ClassVar = ("kind", "step")

    epoch: int
    step: int
    images: int
    train_loss: float
    train_accuracy: float
    lr: float
    images_per_second: float
    data_wait_share: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class EpochLine(StepLine):
    """A line of metrics.jsonl at the end of an epoch; `val_…` are None where the epoch was not evaluated."""

    KEY: ClassVar = ("kind", "epoch")

    val_loss: float | None = None
    val_accuracy: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class SaveLine:
    """A line of metrics.jsonl at each save.

    Attributes:
        epoch: of the last step that is in the save, from 1; None in a line of version 1, which counted from 0 where
            the save was made within an epoch.
        step: steps of the run done.
        stall_seconds: how long training stood still.
        last_write_seconds: how long the save before took to write; None for an attempt's first.
        version: of this form.
    """

    KEY: ClassVar = ("kind", "save")

    epoch: int | None
    step: int
    stall_seconds: float
    last_write_seconds: float | None = None
    version: int = VERSION

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> SaveLine:
        """From a line of any version."""
        version = values.get("version", 1)
        return cls(**{**values, "epoch": values["epoch"] if version >= 2 else None, "version": version})


@dataclasses.dataclass(frozen=True, kw_only=True)
class StartLine:
    """A line of attempts.jsonl at the start of an attempt.

    Attributes:
        attempt: its number, from 1.
        time: in UTC, such as 2026-01-31T12:00:00+00:00.
        first_step: steps of the run done before.
        world_size: number of processes.
        host: machine of rank 0.
        restart: how often torchrun or SLURM had started the processes again.
        job: which attempt of which SLURM job, by `JobAttempt.mark`; None outside of SLURM.
    """

    KEY: ClassVar = ("event", "start")

    attempt: int
    time: str
    first_step: int
    world_size: int
    host: str = ""
    restart: int = 0
    job: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class EndLine:
    """A line of attempts.jsonl at the end of an attempt.

    Attributes:
        attempt: its number, from 1.
        time: in UTC.
        reason: `finished`, by which signal it was stopped, or what failed.
        last_step: steps of the run done.
        seconds_lost: of training that the next attempt repeats; None where it is not known.
    """

    KEY: ClassVar = ("event", "end")

    attempt: int
    time: str
    reason: str
    last_step: int
    seconds_lost: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class RequeueLine:
    """A line of attempts.jsonl when a job's own batch script requeues it.

    Attributes:
        time: in UTC.
        why: the cause, for people.
        is_timeout: whether the job's time limit was the cause.
        job: id of the job.
        before: how often it had been requeued before.
    """

    KEY: ClassVar = ("event", "requeue")

    time: str
    why: str
    is_timeout: bool
    job: str
    before: int = 0


MetricsLine = StepLine | EpochLine | SaveLine
AttemptLine = StartLine | EndLine | RequeueLine
Line = MetricsLine | AttemptLine
LineOfKind = TypeVar("LineOfKind", bound=Line)
KINDS: tuple[type[Line], ...] = (StepLine, EpochLine, SaveLine, StartLine, EndLine, RequeueLine)
OMITTED_IF_NONE = ("val_loss", "val_accuracy", "last_write_seconds", "job")
"""Fields that a line omits where there is nothing to tell."""


def to_fields(line: Line) -> dict[str, Any]:
    """The line as plain values for JSON, its kind first."""
    name, kind = line.KEY
    fields = dataclasses.asdict(line)
    return {name: kind} | {
        key: value for key, value in fields.items() if value is not None or key not in OMITTED_IF_NONE
    }


def parse_line(values: Mapping[str, Any]) -> Line | None:
    """The record of a line; None for a kind that this release does not know, or one that lacks what it must have.

    Fields that are not known, such as those of a later release, are omitted.
    """
    for kind in KINDS:
        name, word = kind.KEY
        if values.get(name) == word:
            known = {field.name: values[field.name] for field in dataclasses.fields(kind) if field.name in values}
            try:
                line = SaveLine.read(known) if kind is SaveLine else kind(**known)
            except (KeyError, TypeError):
                return None
            return line if _fits(line) else None
    return None


def parse_lines(lines: Iterable[Mapping[str, Any]]) -> list[Line]:
    """The records of a file's lines in their order; what is no record is omitted."""
    return [record for line in lines if (record := parse_line(line)) is not None]


def of_kind(lines: Iterable[Line], kind: type[LineOfKind]) -> list[LineOfKind]:
    """The records of exactly one kind."""
    return [line for line in lines if type(line) is kind]


def _fits(line: Line) -> bool:
    """Whether the values have the types that readers count with."""
    for field in dataclasses.fields(line):
        value = getattr(line, field.name)
        wanted = str(field.type)
        if value is None:
            fits = "None" in wanted
        elif wanted.startswith("int"):
            fits = isinstance(value, int) and not isinstance(value, bool)
        elif wanted.startswith("float"):
            fits = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        elif wanted.startswith("bool"):
            fits = isinstance(value, bool)
        else:
            fits = isinstance(value, str)
        if not fits:
            return False
    return True
