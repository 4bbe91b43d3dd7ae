"""The lines of metrics.jsonl and attempts.jsonl: one class for each kind of line, for all code that uses them.

Epochs and steps count from 1: a line with epoch 2 and step 40 is about the 40th step of the run, in its second epoch.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, TypeVar

VERSION = 2
"""The version of `SaveLine`. Lines of version 1 have no version, and count epochs from 0."""
LARGEST_WHOLE = 2**63
"""Whole numbers in lines are below it: larger ones are no counts, and do not fit a float."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepLine:
    """A line of metrics.jsonl with the numbers of the epoch so far, written every `log.every_steps` steps.

    Attributes:
        epoch: from 1.
        step: number of steps since the start of the run.
        images: number of images since the start of the run.
        train_loss: mean loss of the epoch's images so far.
        train_accuracy: share of these images whose class was predicted, 0..1.
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
    """A line of metrics.jsonl at the end of an epoch; `val_…` are None if the epoch was not validated.

    `val_metrics` has the values of evaluate.metrics by their names, None for a value that is not a finite number; it is
    also None where the config names none. `val_macro_f1` is also None in lines of earlier releases, and `val_loss` if
    the loss is not a finite number.
    """

    KEY: ClassVar = ("kind", "epoch")

    val_loss: float | None = None
    val_accuracy: float | None = None
    val_macro_f1: float | None = None
    val_metrics: dict[str, float | None] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class SaveLine:
    """A line of metrics.jsonl at each save.

    Attributes:
        epoch: of the last step before the save, from 1; None in a line of version 1, which counted from 0 if the save
            was made within an epoch.
        step: number of steps since the start of the run.
        stall_seconds: how long training waited for the save.
        last_write_seconds: how long the previous save took to write; None for the first save of an attempt.
        version: `VERSION`, or 1 for a line without one.
    """

    KEY: ClassVar = ("kind", "save")

    epoch: int | None
    step: int
    stall_seconds: float
    last_write_seconds: float | None = None
    version: int = VERSION


@dataclasses.dataclass(frozen=True, kw_only=True)
class StateLine:
    """A line of metrics.jsonl of an exact run, about its state at the end of an epoch or at a save by steps.

    It is written when the checkpoint is whole, so lines of later steps may come before it in the file. `chain` covers
    the line of the state before and the numbers of the lines between the two, see `run_folder.chain`.

    Attributes:
        epoch: of the last step before, from 1.
        step: number of steps since the start of the run.
        state: SHA-256 (hex) of the state, from `state_sha256`.
        chain: SHA-256 (hex) over this line and all before it, from `chain_sha256`.
        subject: SHA-256 (hex) over config, data and code, which manifest.json has under `subject`.
        since: where the chain begins, if that is not the start of the run: the number of steps before it, which the
            chain does not cover; None for a line that continues a chain, and for the first line of a whole run.
    """

    KEY: ClassVar = ("kind", "state")

    epoch: int
    step: int
    state: str
    chain: str
    subject: str
    since: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class StartLine:
    """A line of attempts.jsonl at the start of an attempt.

    Attributes:
        attempt: its number, from 1.
        time: in UTC, such as 2026-01-31T12:00:00+00:00.
        first_step: number of steps of the run before this attempt.
        world_size: number of processes.
        host: machine of rank 0.
        restart: how many times torchrun had restarted the processes, or SLURM had requeued the job.
        job: `JobAttempt.mark` of the SLURM job's attempt; None outside of SLURM.
        other_bits: what has changed in the arithmetic of an exact run that goes on with other bits from here; None
            where its bits are those of the attempts before.
    """

    KEY: ClassVar = ("event", "start")

    attempt: int
    time: str
    first_step: int
    world_size: int
    host: str = ""
    restart: int = 0
    job: str | None = None
    other_bits: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class EndLine:
    """A line of attempts.jsonl at the end of an attempt.

    Attributes:
        attempt: its number, from 1.
        time: in UTC.
        reason: `finished`, the signal that stopped the attempt, or the error.
        last_step: number of steps since the start of the run.
        seconds_lost: seconds of training that the next attempt repeats; None if they are unknown.
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
        before: how many times the job had been requeued before.
        excluded: the nodes that the job does not come back to; None for none.
    """

    KEY: ClassVar = ("event", "requeue")

    time: str
    why: str
    is_timeout: bool
    job: str
    before: int = 0
    excluded: str | None = None


MetricsLine = StepLine | EpochLine | SaveLine | StateLine
AttemptLine = StartLine | EndLine | RequeueLine
Line = MetricsLine | AttemptLine
LineOfKind = TypeVar("LineOfKind", bound=Line)
METRICS_KINDS: tuple[type[MetricsLine], ...] = (StepLine, EpochLine, SaveLine, StateLine)
"""The kinds of line in metrics.jsonl."""
ATTEMPT_KINDS: tuple[type[AttemptLine], ...] = (StartLine, EndLine, RequeueLine)
"""The kinds of line in attempts.jsonl."""
OMITTED_IF_NONE = (
    "val_loss",
    "val_accuracy",
    "val_macro_f1",
    "val_metrics",
    "last_write_seconds",
    "job",
    "other_bits",
    "excluded",
    "since",
)
"""Fields that a line omits if they are None."""
MEASURED = ("images_per_second", "data_wait_share", "stall_seconds", "last_write_seconds")
"""Fields of metrics.jsonl that depend on the machine's speed."""


def to_fields(line: Line) -> dict[str, Any]:
    """The line as plain values for JSON, its kind first."""
    name, kind = line.KEY
    fields = dataclasses.asdict(line)
    return {name: kind} | {
        key: value for key, value in fields.items() if value is not None or key not in OMITTED_IF_NONE
    }


def parse_line(values: Mapping[str, Any], kinds: Iterable[type[LineOfKind]]) -> LineOfKind | None:
    """The record of a line; None if it is of none of the kinds, lacks a field, or has a value of a wrong type.

    Unknown fields, such as those of a later release, are omitted.
    """
    for kind in kinds:
        name, value = kind.KEY
        if values.get(name) == value:
            known = {field.name: values[field.name] for field in dataclasses.fields(kind) if field.name in values}
            if kind is SaveLine and values.get("version", 1) in (0, 1):
                known |= {"epoch": None, "version": 1}
            try:
                line = kind(**known)
            except TypeError:
                return None
            return line if _fits(line) else None
    return None


def parse_lines(lines: Iterable[Mapping[str, Any]], kinds: Iterable[type[LineOfKind]]) -> list[LineOfKind]:
    """The records of a file's lines in their order; other lines are omitted."""
    kinds = tuple(kinds)
    return [record for line in lines if (record := parse_line(line, kinds)) is not None]


def of_kind(lines: Iterable[Line], kind: type[LineOfKind]) -> list[LineOfKind]:
    """The records of exactly one kind."""
    return [line for line in lines if type(line) is kind]


def _fits(line: Line) -> bool:
    """Whether each value has the type of its field, and each number is finite."""
    for field in dataclasses.fields(line):
        value = getattr(line, field.name)
        wanted = str(field.type)
        if value is None:
            fits = "None" in wanted
        elif wanted.startswith("dict"):
            fits = isinstance(value, dict) and all(_is_named_number(*item) for item in value.items())
        elif wanted.startswith("int"):
            fits = type(value) is int and abs(value) < LARGEST_WHOLE
        elif wanted.startswith("float"):
            is_whole = type(value) is int and abs(value) < LARGEST_WHOLE
            fits = is_whole or (isinstance(value, float) and abs(value) <= sys.float_info.max)
        elif wanted.startswith("bool"):
            fits = isinstance(value, bool)
        else:
            fits = isinstance(value, str)
        if not fits:
            return False
    return True


def _is_named_number(name: object, value: object) -> bool:
    """Whether an entry of a mapping is a finite number, or None, under a text."""
    is_number = type(value) in (int, float) and abs(value) <= sys.float_info.max  # type: ignore[arg-type]
    return isinstance(name, str) and (value is None or is_number)
