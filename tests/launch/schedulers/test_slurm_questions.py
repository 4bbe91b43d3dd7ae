"""What SLURM's answers on jobs mean."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from launch import follow
from launch.cluster import ClusterConfig
from launch.schedulers.slurm_questions import (
    JobState,
    ask_state,
    cancel,
    describe_requeue,
    find_alive,
    parse_config,
    parse_job,
)
from signs_dist.errors import UserError
from tests.slurm_cluster import put_scontrol

SHOWN = (
    "JobId=7 JobName=x UserId=root(0) Requeue=1 Restarts=2 BatchFlag=1 Reboot=0 ExitCode=75:0 JobState=RUNNING "
    "Reason=None Dependency=(null) NodeList=n[1-2] BatchHost=n1 StdOut=/a"
)
CONFIG = """\
Configuration data as of 2026-11-25T22:00:00
KillWait                = 30 sec
PreemptMode             = REQUEUE
PreemptType             = preempt/partition_prio
SlurmctldParameters     = enable_configless,preempt_send_user_signal
"""
NO_ANSWER = "echo 'Unable to contact slurm controller (connect failure)' >&2; exit 1"
UNKNOWN = "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1"


@pytest.mark.parametrize(
    ("text", "told", "alive"),
    [
        (SHOWN, "running on n[1-2], requeued 2 times", True),
        (
            SHOWN.replace("RUNNING", "PENDING").replace("Reason=None", "Reason=Resources"),
            "pending (Resources), requeued 2 times",
            True,
        ),
        (SHOWN.replace("RUNNING", "FAILED").replace("Restarts=2", "Restarts=0"), "failed", False),
        (SHOWN.replace("n[1-2]", "(null)").replace("Restarts=2", "Restarts=1"), "running, requeued 1 time", True),
        ("", "not known to SLURM any more", False),
    ],
)
def test_the_state_of_a_job(text: str, told: str, alive: bool) -> None:
    state = parse_job("7", text)
    assert (state.describe(), state.is_alive) == (told, alive)
    assert state.exit_code == (75 if text else 0)


def test_a_waiting_job_says_so() -> None:
    assert JobState("7", "PENDING").is_waiting
    assert not JobState("7", "RUNNING").is_waiting


@pytest.mark.parametrize(
    ("changes", "partition", "told"),
    [
        ({}, {"PreemptMode": "REQUEUE", "GraceTime": "60"}, "signalled 60 s before, saved and requeued"),
        ({}, {"PreemptMode": "REQUEUE", "GraceTime": "0"}, "SIGTERM, saved within 30 s if that is enough"),
        ({"SlurmctldParameters": "(null)"}, {"GraceTime": "60"}, "SIGTERM, saved within 30 s"),
        ({}, {"PreemptMode": "OFF"}, "never on this partition"),
        ({"PreemptType": "preempt/none"}, {}, "never on this partition"),
        ({}, {"PreemptMode": "CANCEL"}, "SLURM does CANCEL here, and the job does not come back by itself"),
        ({}, {"PreemptMode": "CANCEL", "GraceTime": "9"}, "told 9 s before, saved and requeued by its own script"),
        ({}, {"PreemptMode": "SUSPEND,GANG"}, "the job is suspended, and goes on where it was"),
    ],
)
def test_what_a_requeue_will_do(changes: dict[str, str], partition: dict[str, str], told: str) -> None:
    lines = describe_requeue({**parse_config(CONFIG), **changes}, partition, ClusterConfig())
    assert lines[0] == "at the time limit: saved and requeued 120 s before it, at most 20 times; 50 requeues in all"
    assert told in lines[1]


def test_a_controller_that_does_not_answer_is_not_a_job_that_has_ended(some_slurm: Path) -> None:
    put_scontrol(some_slurm, UNKNOWN, NO_ANSWER)
    assert not ask_state("7").is_alive
    put_scontrol(some_slurm, "echo 'Job 33_0 not found' >&2; exit 1")
    assert not ask_state("33_0").is_alive
    put_scontrol(some_slurm, NO_ANSWER)
    with pytest.raises(UserError, match=r"SLURM does not answer about job 7: Unable to contact slurm controller"):
        ask_state("7")


def test_one_who_waits_goes_on_when_the_controller_answers_again(
    some_slurm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "ASK_SECONDS", 0.1)
    monkeypatch.setattr(follow, "POLL_SECONDS", 0.05)
    shown = f"echo '{SHOWN}'"
    put_scontrol(some_slurm, shown, NO_ANSWER, shown, shown.replace("RUNNING", "FAILED"))
    assert follow.follow(tmp_path, "7") == 75
    told = capsys.readouterr()
    assert told.out.splitlines() == [
        "job 7: running on n[1-2], requeued 2 times",
        "job 7: SLURM does not answer about job 7: Unable to contact slurm controller (connect failure). "
        "Type the command again when it does.",
        "job 7: running on n[1-2], requeued 2 times",
        "job 7: failed, requeued 2 times",
    ]
    assert "not finished: job 7 is failed" in told.err


@pytest.mark.parametrize(
    ("state", "waits", "lives"),
    [
        *(("PENDING", True, True), ("REQUEUE_HOLD", True, True), ("RUNNING", False, True), ("COMPLETING", False, True)),
        *(("A_STATE_TO_COME", False, True), ("OUT_OF_MEMORY", False, False), ("ENDED", False, False)),
        ("", False, False),
    ],
)
def test_which_states_are_alive(state: str, waits: bool, lives: bool) -> None:
    assert (JobState("7", state).is_waiting, JobState("7", state).is_alive) == (waits, lives)


def answer_with(folder: Path, name: str, text: str, code: int = 0) -> None:
    (folder / name).write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\nexit {code}\n")
    (folder / name).chmod(0o755)


def test_an_array_is_asked_for_at_once(some_slurm: Path) -> None:
    answer_with(some_slurm, "squeue", "7_0 RUNNING\n7_1 COMPLETED\n7_2 PENDING\n8_0 FAILED\n9_N/A PENDING")
    assert find_alive(["7_0", "7_1", "7_2", "7_3", "8_0", "9"]) == {"7_0", "7_2", "9"}
    answer_with(some_slurm, "squeue", "", code=1)
    assert find_alive(["7_0"]) is None


@pytest.mark.parametrize("said", ["echo 'Invalid job id specified' >&2", "echo 'Job 7_0 not found'"])
def test_what_the_controller_has_forgotten_has_ended_whatever_the_accounting_says(some_slurm: Path, said: str) -> None:
    put_scontrol(some_slurm, f"{said}; exit 1")
    answer_with(some_slurm, "sacct", "RUNNING")
    assert ask_state("7").describe() == "not known to SLURM any more"
    answer_with(some_slurm, "sacct", "CANCELLED by 0")
    assert ask_state("7").describe() == "cancelled"


def test_another_process_is_not_a_local_job() -> None:
    assert not ask_state(f"local{os.getpid()}").is_alive
    cancel([f"local{os.getppid()}"])  # ends nothing: this test goes on
