"""The lines of attempts.jsonl, and winding back the files of a run that was killed."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from signs_dist.checkpointing.store import Cursor
from signs_dist.data.plan import EpochPlan
from signs_dist.environment.context import Context, read_context
from signs_dist.monitoring.beats import Beat, Identity
from signs_dist.run_folder.folder import RunFolder
from signs_dist.run_folder.records import EndLine, SaveLine, StartLine
from signs_dist.training.attempt_log import (
    begin_attempt,
    end_attempt,
    end_of_killed,
    find_last_progress,
    is_sample_before,
    next_attempt,
    wind_back,
)
from signs_dist.training.run_state import RunState
from tests.lines import epoch_line, state_line, step_line

START = StartLine(attempt=2, time="1970-01-12T13:46:40+00:00", first_step=30, world_size=1)


def make_folder(path: Path) -> RunFolder:
    return RunFolder(path / "run").create()


def make_state(cursor: Cursor) -> tuple[EpochPlan, RunState]:
    plan = EpochPlan(80, 8, 0)  # 10 steps an epoch
    state = RunState(plan, 3)
    state.cursor = cursor
    return plan, state


def context(**changes: Any) -> Context:
    return dataclasses.replace(read_context(), **changes)


@pytest.mark.parametrize(
    ("last_time", "saved_at", "lost"),
    [
        (1_000_060.0, None, 60.0),  # nothing saved: all since the start
        (1_000_060.0, 1_000_050.0, 10.0),
        (1_000_060.0, 1_000_059.969, 0.031),  # a loss does not round to none
        (1_000_060.0, 999_000.0, 60.0),  # the save is of an attempt before
        (999_999.0, None, 0.0),
        (None, None, None),
    ],
)
def test_the_last_line_of_a_killed_attempt(last_time: float | None, saved_at: float | None, lost: float | None) -> None:
    line = end_of_killed(START, (40, last_time), saved_at)
    assert (line.attempt, line.reason) == (2, "killed without a message")
    assert (line.last_step, line.seconds_lost) == (40, lost)
    assert end_of_killed(START, (0, last_time), saved_at).last_step == 30


def test_attempts_are_numbered_and_tell_where_they_began(tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    _, state = make_state(Cursor(1, 4))
    first = begin_attempt(folder, context(world_size=2, host="n1", restart_count=0, job=""), state)
    end_attempt(folder, first.attempt, state, "stopped by SIGTERM", seconds_since_save=4.0, is_saved=True)
    second = begin_attempt(folder, context(world_size=3, host="n2", restart_count=1, job="7.1"), state)
    assert (first.attempt, first.first_step, first.world_size, first.job) == (1, 14, 2, None)
    assert (second.attempt, second.host, second.restart, second.job) == (2, "n2", 1, "7.1")
    lines = folder.read_attempts()
    assert next_attempt(folder.attempts) == 3
    assert lines[0] == first
    assert isinstance(lines[1], EndLine)
    assert (lines[1].last_step, lines[1].seconds_lost) == (14, 0.0)


def test_an_attempt_that_was_not_saved_loses_the_time_since_the_save(tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    _, state = make_state(Cursor(0, 4))
    end_attempt(folder, 1, state, "TrainingFailedError: x", seconds_since_save=4.04, is_saved=False)
    (line,) = folder.read_attempts()
    assert isinstance(line, EndLine)
    assert line.seconds_lost == 4.04


def test_the_last_progress_is_the_furthest_step_and_the_newest_time(tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    plan, _ = make_state(Cursor(0, 0))
    assert find_last_progress(folder, {}, plan) == (0, None)
    identity = Identity(0, 1, "n1", 1, "cpu", "")
    beat = Beat(identity, "forward", 2, 4, False, time=50.0, progress_time=50.0)
    assert find_last_progress(folder, {0: beat}, plan) == (13, 50.0)  # in its 14th step: 13 are done
    folder.add(step_line(15, epoch=2))
    assert find_last_progress(folder, {0: beat}, plan)[0] == 15


def test_winding_back_drops_what_is_done_again(tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    plan, state = make_state(Cursor(1, 2))
    begin_attempt(folder, context(world_size=1), make_state(Cursor(0, 0))[1])
    for step in (11, 12, 13):
        folder.add(step_line(step, epoch=2))
    folder.add(SaveLine(epoch=2, step=12, stall_seconds=0.1))
    with folder.metrics.open("a") as stream:
        stream.write('{"kind": "step", "ep')  # cut off by the kill
    samples = folder.logs / "samples-rank0.jsonl"
    rows = [{"epoch": 2, "step": step, "micro_batch": 0, "samples": [step]} for step in (1, 2, 3)]
    samples.write_text("".join(json.dumps(row) + "\n" for row in rows))

    wind_back(folder, plan, state, saved_at=None)

    assert [line["step"] for line in folder.read_lines(folder.metrics)] == [11, 12, 12]
    assert [json.loads(line)["step"] for line in samples.read_text().splitlines()] == [1, 2]
    end = folder.read_attempts()[-1]
    assert isinstance(end, EndLine)
    assert (end.reason, end.last_step) == ("killed without a message", 13)
    assert end.seconds_lost is not None


@pytest.mark.parametrize(
    ("cursor", "kept"),
    [
        (Cursor(1, 0), [("state", 8), ("epoch", 10), ("state", 10)]),
        (Cursor(0, 10), [("state", 8)]),  # saved at a signal, before the validation
        (Cursor(0, 8), [("state", 8)]),
        (Cursor(0, 7), []),
    ],
)
def test_the_line_of_a_state_goes_with_its_state(tmp_path: Path, cursor: Cursor, kept: list[tuple[str, int]]) -> None:
    folder = make_folder(tmp_path)
    plan, state = make_state(cursor)
    for line in (state_line(8), epoch_line(10), step_line(11, epoch=2), state_line(10)):
        folder.add(line)
    wind_back(folder, plan, state, saved_at=None)
    assert [(line["kind"], line["step"]) for line in folder.read_lines(folder.metrics)] == kept


@pytest.mark.parametrize(
    ("place", "cursor", "is_kept"),
    [
        ((1, 10), Cursor(1, 0), True),
        ((2, 1), Cursor(1, 0), False),
        ((2, 1), Cursor(1, 1), True),
        ((2, 2), Cursor(1, 1), False),
    ],
)
def test_samples_of_steps_before_the_cursor_are_kept(place: tuple[int, int], cursor: Cursor, is_kept: bool) -> None:
    assert is_sample_before(place, cursor) is is_kept


def start(number: int) -> str:
    return json.dumps({"event": "start", **dataclasses.asdict(START), "attempt": number}) + "\n"


def end(number: int) -> str:
    return json.dumps({"event": "end", "attempt": number, "time": START.time, "reason": "x", "last_step": 3}) + "\n"


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("", 1),
        (start(1), 2),
        (start(1) + end(1), 2),
        (start(1) + end(1) + '{"event": "st', 3),
        (start(1) + end(1) + '{"event": "start", "att\0\0\0\0', 3),
        (start(1) + end(1) + "\0" * 512, 3),
        (start(1) + end(1) + '{"event": "start", "attempt": 2, "ti', 3),
        (start(1) + '{"event": "e', 2),
        (start(1) + '{"event": "end", "att\0\0', 2),
        (start(1) + end(1) + '{"event": "requeue", "ti', 2),
        # The number may have been 12: its last digit may be what was torn off.
        ("".join(start(number) + end(number) for number in range(1, 12)) + '{"event": "start", "attempt": 1', 13),
        # As earlier releases left it: the next start stands on the torn line.
        (start(1) + '{"event": "end", "att' + start(2), 3),
        (start(1) + '{"event": "st\n' + start(3), 4),
        (start(2) + start(2), 3),  # a number twice, by an earlier release
        ("\n\n" + start(7).replace("\n", "\r\n") + "\n", 8),
        (start(1) + "\ufffd nothing\n" + start(3), 4),
    ],
)
def test_no_number_is_given_twice(tmp_path: Path, text: str, number: int) -> None:
    folder = make_folder(tmp_path)
    folder.attempts.write_text(text, newline="")
    assert next_attempt(folder.attempts) == number
    line = begin_attempt(folder, context(), make_state(Cursor(0, 0))[1])
    assert line.attempt == number
    assert folder.read_attempts()[-1] == line
    assert next_attempt(folder.attempts) == number + 1


def test_a_torn_end_is_written_again_and_the_ledger_only_grows(tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    plan, state = make_state(Cursor(0, 0))
    begun = begin_attempt(folder, context(), state)
    before = folder.attempts.read_bytes() + b'{"event": "end", "attempt": 1, "ti\0\0'
    folder.attempts.write_bytes(before)
    wind_back(folder, plan, state, saved_at=None)
    assert folder.attempts.read_bytes().startswith(before + b"\n")
    first, last = folder.read_attempts()
    assert first == begun
    assert isinstance(last, EndLine)
    assert last.reason == "killed without a message"


def test_a_start_whose_time_was_damaged_is_ended_too() -> None:
    line = end_of_killed(dataclasses.replace(START, time="20\ufffd6"), (40, 50.0), None)
    assert (line.attempt, line.seconds_lost) == (2, 50.0)
