"""Who requeues a job, and when: decisions as tables."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from launch.notices import leave_notice
from launch.requeue import (
    Ending,
    count_idle,
    decide,
    main,
    read_ending,
    read_own_code,
)
from signs_dist.console.command import run_command
from signs_dist.environment.slurm_job import JobAttempt, read_job_attempt
from signs_dist.monitoring.failure_card import FailureCard
from signs_dist.run_folder.folder import RunFolder
from signs_dist.run_folder.other_machine import WRONG_RESULTS, note_other_machine
from signs_dist.run_folder.records import AttemptLine, EndLine, RequeueLine, StartLine
from tests.lines import NOON, end_line, start_line

STOPPED = Ending(
    exit_code=75,
    signals=frozenset({"SIGUSR2"}),
    seconds_left=3000.0,
    signal_seconds=120.0,
    restart_count=0,
    timeouts=0,
    idle_attempts=0,
)


@pytest.mark.parametrize(
    ("changes", "is_requeue", "why"),
    [
        ({}, True, "it was signalled"),
        ({"seconds_left": 110.0}, True, "its time limit was near"),
        ({"seconds_left": None}, True, "it was signalled"),
        ({"exit_code": 0}, False, "finished"),
        ({"exit_code": 1}, False, "the attempt failed by itself (exit code 1)"),
        ({"exit_code": 137}, False, "the attempt failed by itself (exit code 137)"),
        ({"exit_code": 143}, True, "it was signalled"),  # srun ended a task that was slower than another
        ({"exit_code": 143, "signals": frozenset()}, False, "a task was killed, and srun ended the others"),
        ({"exit_code": 143, "signals": frozenset(), "is_preempted": True}, True, "it was preempted"),
        ({"exit_code": 140}, True, "it was signalled"),  # before a task had a handler
        ({"exit_code": 74}, False, "the attempt failed by itself (exit code 74)"),
        # SLURM says TERM when it ends a job: it requeues what is to come back, and what was cancelled is not.
        (
            {"signals": frozenset({"SIGTERM"})},
            False,
            "stopped by SIGTERM: SLURM ends the job, or has requeued it already",
        ),
        ({"signals": frozenset({"SIGTERM", "SIGUSR2"})}, False, "stopped by SIGTERM"),
        # With some time of grace it is ours: once the job has ended, SLURM has nothing to requeue.
        ({"signals": frozenset({"SIGTERM"}), "is_preempted": True}, True, "it was preempted"),
        ({"is_preempted": True, "seconds_left": 10.0}, True, "it was preempted"),
        ({"signals": frozenset()}, False, "stopped by a person"),
        # SLURM says USR2 and TERM at once when it preempts without grace, and has requeued the job when its tasks end.
        ({"job_state": "COMPLETING"}, False, "SLURM ends or requeues it already: the job is completing"),
        ({"job_state": ""}, True, "it was signalled"),
        ({"restart_count": 50}, False, "it was signalled, but it was requeued 50 times: max_requeues"),
        ({"restart_count": 49}, True, "it was signalled"),
        ({"timeouts": 3, "seconds_left": 10.0}, False, "its time limit was near, but it was requeued for that 3 times"),
        ({"timeouts": 3}, True, "it was signalled"),  # that does not count as one
        ({"timeouts": 2, "seconds_left": 10.0}, True, "its time limit was near"),
        ({"idle_attempts": 1}, True, "it was signalled"),
        ({"idle_attempts": 2}, False, "two attempts in a row made no step"),
    ],
)
def test_who_requeues(changes: dict[str, Any], is_requeue: bool, why: str) -> None:
    decision = decide(dataclasses.replace(STOPPED, **changes), max_requeues=50, max_timeouts=3)
    assert decision.is_requeue == is_requeue
    assert why in decision.why


ELSEWHERE = {"exit_code": 4, "signals": frozenset(), "other_machines": "n2", "idle_attempts": 2}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, "requeue-without n2 n2 computes other bits than the run did"),
        ({"excluded": "n1,n[7-9]"}, "requeue-without n1,n[7-9],n2 n2 computes other bits than the run did"),
        ({"elsewhere": 2}, "requeue-without n2 "),
        (
            {"elsewhere": 3},
            "end n2 computes other bits than the run did, and it was requeued for that 3 times; submit ",
        ),
        (
            {"restart_count": 50},
            "end n2 computes other bits than the run did, and it was requeued 50 times: max_requeues",
        ),
        ({"job_state": "COMPLETING"}, "end SLURM ends or requeues it already"),
        ({"other_machines": ""}, "end the attempt failed by itself (exit code 4)"),  # the run had not begun
        ({"exit_code": 1}, "end the attempt failed by itself (exit code 1)"),
        ({"exit_code": 1, "why_other": WRONG_RESULTS}, "requeue-without n2 n2 gave wrong results"),
        (
            {"exit_code": 1, "why_other": WRONG_RESULTS, "elsewhere": 3},
            "end n2 gave wrong results, and it was requeued for that 3 times; submit it with --exclude n2",
        ),
    ],
)
def test_who_comes_back_elsewhere(changes: dict[str, Any], line: str) -> None:
    ending = dataclasses.replace(STOPPED, **{**ELSEWHERE, **changes})
    assert decide(ending, max_requeues=50, max_timeouts=3).line.startswith(line)


def test_a_job_on_other_machines_is_read_from_its_note(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("JOB_ID", "7"), ("RESTART_COUNT", "1"), ("JOB_NODELIST", "n[2-3]")):
        monkeypatch.setenv(f"SLURM_{name}", value)
    folder = RunFolder(tmp_path).create()
    folder.write_config("seed: 0\n")
    note_other_machine(folder, "7.1", ())
    shown = "JobId=7 JobState=RUNNING ExcNodeList=n1 RunTime=00:00:05 TimeLimit=01:00:00"
    assert run_command(main, [str(tmp_path), "--exit-code", "4", "--job", shown]) == 4
    assert capsys.readouterr().out == "requeue-without n1,n[2-3] n[2-3] computes other bits than the run did\n"
    assert json.loads(folder.attempts.read_text())["excluded"] == "n1,n[2-3]"
    environment = {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "1"}
    for unknown in (shown.replace("=n1 ", "=(null) "), ""):  # SLURM did not take the nodes, or does not answer
        ending = read_ending(folder, 4, environment, job=unknown, signal_seconds=0)
        assert (ending.elsewhere, ending.excluded) == (1, "n1,n[2-3]")
    assert read_ending(folder, 4, environment, job=shown, signal_seconds=0).excluded == "n1"
    assert read_ending(folder, 4, {"SLURM_JOB_ID": "8"}, job="", signal_seconds=0).excluded == ""
    note_other_machine(folder, "7.1", ("n2",), WRONG_RESULTS)
    ending = read_ending(folder, 1, environment, job=shown, signal_seconds=0)
    assert (ending.other_machines, ending.why_other) == ("n2", WRONG_RESULTS)
    environment["SLURM_RESTART_COUNT"] = "2"  # the note is about the attempt before
    assert read_ending(folder, 4, environment, job=shown, signal_seconds=0).other_machines == ""


def write_lines(path: Path, lines: Sequence[AttemptLine]) -> None:
    for line in lines:
        RunFolder(path).add(line)


def start(attempt: int, step: int, job: str) -> StartLine:
    return start_line(attempt, first_step=step, job=job)


def end(attempt: int, step: int, reason: str = "") -> EndLine:
    return end_line(attempt, last_step=step, reason=reason)


def requeue(job: str, *, is_timeout: bool) -> RequeueLine:
    return RequeueLine(time=NOON, why="", is_timeout=is_timeout, job=job)


REQUEUED = requeue("7", is_timeout=False)


@pytest.mark.parametrize(
    ("lines", "restart_count", "idle"),
    [
        ([], 0, 1),  # signalled before it began to train
        ([start(1, 0, "7.0"), end(1, 5)], 0, 0),
        ([start(1, 0, "7.0"), end(1, 0)], 0, 1),
        ([start(1, 0, "7.0"), end(1, 5), start(2, 5, "7.1"), end(2, 5)], 1, 1),
        ([start(1, 0, "7.0"), end(1, 0), REQUEUED, start(2, 0, "7.1"), end(2, 0)], 1, 2),
        ([start(1, 0, "7.0"), end(1, 0), start(2, 0, "7.1"), end(2, 9)], 1, 0),
        ([start(1, 0, "7.0"), start(2, 0, "7.1"), end(2, 0)], 1, 2),  # the first was killed, and had saved nothing
        ([start(1, 0, "7.0"), start(2, 7, "7.1"), end(2, 7)], 1, 1),  # it had saved
        ([start(1, 0, "7.0")], 0, 1),
        # Attempts that never began have no line: after one that made steps, and then again.
        ([start(1, 0, "7.0"), end(1, 5), REQUEUED], 1, 1),
        ([start(1, 0, "7.0"), end(1, 5), REQUEUED, REQUEUED], 2, 2),
        ([REQUEUED], 1, 2),
        # torchrun began twice within an attempt of the job.
        ([start(1, 0, "7.0"), end(1, 4), start(2, 4, "7.0"), end(2, 4)], 0, 0),
        # Another job of the same run is another matter.
        ([start(1, 0, "6.0"), end(1, 0), start(2, 0, "7.0"), end(2, 0)], 0, 1),
    ],
)
def test_attempts_without_a_step_are_counted(lines: list[AttemptLine], restart_count: int, idle: int) -> None:
    assert count_idle(lines, JobAttempt("7", restart_count)) == idle


def test_what_is_known_of_an_attempt_is_put_together(tmp_path: Path) -> None:
    environment = {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "2"}
    assert read_job_attempt(environment).mark == "7.2"
    folder = RunFolder(tmp_path)
    lines: list[AttemptLine] = [start(1, 0, "7.2"), end(1, 4, "stopped by SIGUSR2 after epoch 1, step 4 of 9")]
    lines += [requeue("7", is_timeout=answer) for answer in (True, False)]
    # Of an earlier job of this run: a new one may use up its own time-outs.
    lines.append(requeue("6", is_timeout=True))
    write_lines(tmp_path, lines)
    shown = "JobId=7 JobState=RUNNING Reason=None RunTime=00:59:55 TimeLimit=01:00:00 PreemptTime=None"
    ending = read_ending(folder, 75, environment, job=shown, signal_seconds=60.0)
    assert ending == Ending(75, frozenset({"SIGUSR2"}), 5.0, 60.0, 2, 1, 0)
    preempted = shown.replace("PreemptTime=None", "PreemptTime=2026-11-25T22:00:00")
    assert read_ending(folder, 75, environment, job=preempted, signal_seconds=60.0).is_preempted
    gone = preempted.replace("RUNNING", "COMPLETING")  # SLURM ends or requeues it already
    assert not read_ending(folder, 75, environment, job=gone, signal_seconds=60.0).is_preempted
    later = environment | {"SLURM_RESTART_COUNT": "3"}
    assert read_ending(folder, 140, later, job="", signal_seconds=0).signals == {"SIGUSR2"}
    # A signal before training leaves a notice; that of an earlier attempt is not this one's.
    leave_notice(tmp_path, {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "1"}, 0, "SIGTERM")
    leave_notice(tmp_path, environment, 3, "SIGUSR2")
    assert read_ending(folder, 75, environment, job="", signal_seconds=0).signals == {"SIGUSR2"}
    leave_notice(tmp_path, environment, 1, "SIGTERM")
    assert read_ending(folder, 75, environment, job="", signal_seconds=0).signals == {"SIGUSR2", "SIGTERM"}


def test_what_a_task_noted_outranks_what_its_launcher_made_of_it(tmp_path: Path) -> None:
    """torchrun's processes hear SIGTERM, whatever torchrun's task was told, and the later of two signals counts."""
    lines: list[AttemptLine] = [start(1, 0, "7.0"), end(1, 4, "stopped by SIGTERM after epoch 1, step 4 of 9")]
    write_lines(tmp_path, lines)
    environment = {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "0"}
    shown = "JobId=7 JobState=RUNNING Reason=None RunTime=00:10:00 TimeLimit=01:00:00 PreemptTime=None"

    def decision(job: str) -> tuple[bool, str]:
        ending = read_ending(RunFolder(tmp_path), 75, environment, job=job, signal_seconds=60.0)
        found = decide(ending, max_requeues=50, max_timeouts=3)
        return found.is_requeue, found.why

    assert not decision(shown)[0]  # nothing but the run's own word
    for rank in (0, 1):
        leave_notice(tmp_path, environment, rank, "SIGUSR2")
    assert decision(shown) == (True, "it was signalled")
    assert decision(shown.replace("RUNNING", "COMPLETING")) == (
        False,
        "SLURM ends or requeues it already: the job is completing",
    )


@pytest.mark.parametrize("began", [False, True])
def test_an_attempt_is_not_judged_by_the_one_before(tmp_path: Path, began: bool) -> None:
    """Cancelled in its first seconds, a requeued job must not come back by the word of its earlier attempt."""
    lines: list[AttemptLine] = [start(1, 0, "7.0"), end(1, 4, "stopped by SIGUSR2 after epoch 1"), REQUEUED]
    lines += [start(2, 4, "7.1")] if began else []
    write_lines(tmp_path, lines)
    environment = {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "1"}
    ending = read_ending(RunFolder(tmp_path), 143, environment, job="", signal_seconds=0)
    assert ending.signals == frozenset()
    assert not decide(ending, max_requeues=50, max_timeouts=3).is_requeue


def test_a_requeue_is_written_down(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.delenv("SLURM_RESTART_COUNT", raising=False)
    leave_notice(tmp_path, {"SLURM_JOB_ID": "7"}, 0, "SIGUSR2")
    flags = [
        "--exit-code",
        "75",
        "--job",
        " RunTime=00:59:00 TimeLimit=01:00:00",
        "--signal-seconds",
        "120",
        "--max-timeouts",
        "1",
    ]
    assert run_command(main, [str(tmp_path), *flags]) == 75
    assert capsys.readouterr().out == "requeue its time limit was near\n"
    line = json.loads((tmp_path / "attempts.jsonl").read_text())
    assert (line["event"], line["why"], line["is_timeout"]) == ("requeue", "its time limit was near", True)
    assert run_command(main, [str(tmp_path), *flags]) == 75
    assert capsys.readouterr().out.startswith("end its time limit was near, but it was requeued for that once")
    assert len((tmp_path / "attempts.jsonl").read_text().splitlines()) == 1


def card(rank: int, kind: str, exit_code: int) -> FailureCard:
    return FailureCard(
        **dict.fromkeys(("host", "device", "log", "phase", "place"), ""),
        rank=rank,
        world_size=2,
        epoch=1,
        step=1,
        error="broken",
        kind=kind,
        time=0.0,
        told_by=0,
        exit_code=exit_code,
    )


@pytest.mark.parametrize(
    ("codes", "cards", "expected"),
    [
        ({0: 2, 1: 3}, [], 2),  # the other only lost it
        ({0: 75, 1: 74}, [], 74),
        ({0: 143, 1: 1}, [], 1),
        ({}, [], None),  # killed before it could leave anything
        ({0: 3}, [card(1, "killed", 3)], 137),
        ({0: 3}, [card(1, "lost_peer", 3)], 1),
        ({}, [card(1, "error", 2)], 2),  # the templates' tasks leave no codes
        ({}, [card(1, "lost_peer", 3), card(0, "error", 74)], 74),
    ],
)
@pytest.mark.parametrize("highest", [143, 3])
def test_a_job_ends_with_the_code_of_the_task_that_failed_by_itself(
    tmp_path: Path, highest: int, codes: dict[int, int], cards: list[FailureCard], expected: int | None
) -> None:
    environment = {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "0"}
    leave_notice(tmp_path, {"SLURM_JOB_ID": "6"}, 0, "code9")  # of another job
    for rank, code in codes.items():
        leave_notice(tmp_path, environment, rank, f"code{code}")
    folder = RunFolder(tmp_path)
    folder.logs.mkdir()
    folder.add(start(1, 0, "7.0"))
    for each in cards:
        (folder.logs / f"failure-rank{each.rank}.json").write_text(each.to_json())
    ending = read_ending(folder, highest, environment, job="", signal_seconds=0)
    assert ending.exit_code == (highest if expected is None else expected)
    assert ending.signals == frozenset()
    assert not decide(ending, max_requeues=50, max_timeouts=3).is_requeue


def test_the_card_of_an_earlier_job_says_nothing_of_this_one(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.logs.mkdir()
    folder.add(start(1, 0, "6.0"))
    (folder.logs / "failure-rank0.json").write_text(card(0, "error", 2).to_json())
    environment = {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "0"}
    assert read_ending(folder, 3, environment, job="", signal_seconds=0).exit_code == 3


def test_a_task_that_failed_while_others_prepared_is_not_taken_for_a_cancelled_job(tmp_path: Path) -> None:
    environment = {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "0"}
    leave_notice(tmp_path, environment, 1, "code1")
    leave_notice(tmp_path, environment, 0, "SIGTERM")  # from srun, which ends the others
    leave_notice(tmp_path, environment, 0, "code75")
    ending = read_ending(RunFolder(tmp_path), 75, environment, job="", signal_seconds=0)
    assert ending.exit_code == 1
    assert decide(ending, max_requeues=50, max_timeouts=3).why == "the attempt failed by itself (exit code 1)"
    # With time of grace it is a preemption, whatever became of a task in it.
    shown = " JobState=RUNNING PreemptTime=2026-11-25T22:00:00"
    ending = read_ending(RunFolder(tmp_path), 75, environment, job=shown, signal_seconds=0)
    assert decide(ending, max_requeues=50, max_timeouts=3).is_requeue


def test_after_a_signal_the_codes_of_tasks_do_not_count(tmp_path: Path) -> None:
    environment = {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "0"}
    leave_notice(tmp_path, environment, 0, "SIGUSR2")
    leave_notice(tmp_path, environment, 1, "code1")  # as where srun ended one in the middle of its last words
    ending = read_ending(RunFolder(tmp_path), 143, environment, job="", signal_seconds=0)
    assert (ending.exit_code, ending.signals) == (143, frozenset({"SIGUSR2"}))
    assert decide(ending, max_requeues=50, max_timeouts=3).is_requeue


def test_a_stopped_local_job_ends_as_its_tasks_did(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert read_own_code(folder, "local7", []) is None
    leave_notice(tmp_path, {"SUBMITIT_LOCAL_JOB_ID": "7"}, 0, "code75")
    assert read_own_code(folder, "local7", []) == 75
    leave_notice(tmp_path, {"SUBMITIT_LOCAL_JOB_ID": "7"}, 1, "code2")
    assert read_own_code(folder, "local7", []) == 2
