"""One class a kind of line: what is written reads back, and lines of earlier releases are understood."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from signs_dist.run_folder.records import (
    ATTEMPT_KINDS,
    METRICS_KINDS,
    EndLine,
    EpochLine,
    Line,
    RequeueLine,
    SaveLine,
    StartLine,
    StateLine,
    StepLine,
    of_kind,
    parse_line,
    parse_lines,
    to_fields,
)

KINDS = (*METRICS_KINDS, *ATTEMPT_KINDS)
NUMBERS: dict[str, Any] = {
    "epoch": 2,
    "step": 40,
    "images": 1280,
    "train_loss": 0.5,
    "train_accuracy": 0.75,
    "lr": 0.1,
    "images_per_second": 300.0,
    "data_wait_share": 0.01,
}
LINES: list[Line] = [
    StepLine(**NUMBERS),
    EpochLine(**NUMBERS),
    EpochLine(**NUMBERS, val_loss=0.25, val_accuracy=1.0),
    SaveLine(epoch=2, step=40, stall_seconds=0.01),
    SaveLine(epoch=2, step=40, stall_seconds=0.01, last_write_seconds=0.3),
    StartLine(attempt=1, time="2026-01-31T12:00:00+00:00", first_step=0, world_size=2, host="n1", restart=1, job="7.1"),
    StartLine(attempt=1, time="2026-01-31T12:00:00+00:00", first_step=0, world_size=2),
    EndLine(attempt=1, time="2026-01-31T12:00:00+00:00", reason="finished", last_step=40, seconds_lost=0.0),
    EndLine(attempt=1, time="2026-01-31T12:00:00+00:00", reason="killed", last_step=40, seconds_lost=None),
    RequeueLine(time="2026-01-31T12:00:00+00:00", why="preempted", is_timeout=False, job="7", before=0),
    StateLine(epoch=2, step=40, state="a" * 64, chain="b" * 64, subject="c" * 64),
    StateLine(epoch=2, step=40, state="a" * 64, chain="b" * 64, subject="c" * 64, since=40),
]


@pytest.mark.parametrize("line", LINES, ids=lambda line: type(line).__name__)
def test_what_is_written_reads_back(line: Line) -> None:
    assert parse_line(json.loads(json.dumps(to_fields(line))), KINDS) == line


def test_the_kind_comes_first_and_nothing_empty_is_written() -> None:
    assert to_fields(SaveLine(epoch=2, step=40, stall_seconds=0.01)) == {
        "kind": "save",
        "epoch": 2,
        "step": 40,
        "stall_seconds": 0.01,
        "version": 2,
    }
    assert next(iter(to_fields(LINES[0]))) == "kind"
    assert "job" not in to_fields(LINES[6])
    assert to_fields(LINES[8])["seconds_lost"] is None


def test_a_save_of_version_1_has_no_epoch_to_rely_on() -> None:
    line = parse_line({"kind": "save", "epoch": 1, "step": 40, "stall_seconds": 0.01}, KINDS)
    assert line == SaveLine(epoch=None, step=40, stall_seconds=0.01, version=1)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"kind": "gallop", "step": 3},
        {"kind": "step", "step": 3},
        {"kind": "step", **NUMBERS, "step": "40"},
        {"kind": "step", **NUMBERS, "step": True},
        {"kind": "step", **NUMBERS, "train_loss": 10**400},
        {"kind": "step", **NUMBERS, "train_loss": 2**70},
        {"kind": "step", **NUMBERS, "step": 2**70},
        {"kind": "step", **NUMBERS, "train_loss": float("inf")},
        {"kind": "save", "epoch": 1, "step": 3, "stall_seconds": 0.1, "version": "2"},
        {"kind": "save", "epoch": 1, "step": 3, "stall_seconds": 0.1, "version": None},
        {"kind": "save", "epoch": 1, "step": 3, "stall_seconds": 0.1, "version": []},
        {"kind": "save", "step": 3, "stall_seconds": 0.1, "version": 2},
        {"event": "end", "attempt": 1, "time": "now", "reason": 5, "last_step": 3},
        {"event": "start", "attempt": None, "time": "now", "first_step": 0, "world_size": 1},
    ],
)
def test_what_is_no_record_is_omitted(values: dict[str, Any]) -> None:
    assert parse_line(values, KINDS) is None
    assert parse_lines([values, to_fields(LINES[0])], KINDS) == [LINES[0]]


def test_fields_of_a_later_release_are_omitted() -> None:
    assert parse_line(to_fields(LINES[0]) | {"colour": "red"}, KINDS) == LINES[0]


def test_an_epochs_line_is_not_taken_for_a_steps() -> None:
    assert of_kind(LINES, StepLine) == [LINES[0]]
    assert of_kind(LINES, EpochLine) == LINES[1:3]


def test_a_line_of_the_other_file_is_no_record() -> None:
    assert parse_line(to_fields(LINES[0]), ATTEMPT_KINDS) is None
    assert parse_line(to_fields(LINES[7]), METRICS_KINDS) is None


@pytest.mark.parametrize("values", [{"kappa": 0.5}, {"kappa": None, "hits": 3}, {}])
def test_own_metrics_of_an_epoch_are_read_back(values: dict[str, float | None]) -> None:
    line = EpochLine(**NUMBERS, val_metrics=values)
    assert parse_line(json.loads(json.dumps(to_fields(line))), [EpochLine]) == line


@pytest.mark.parametrize("values", [3, {"kappa": "high"}, {"kappa": math.inf}, {"kappa": True}, ["kappa"]])
def test_other_values_of_metrics_are_no_line(values: object) -> None:
    assert parse_line({**to_fields(EpochLine(**NUMBERS)), "val_metrics": values}, [EpochLine]) is None
