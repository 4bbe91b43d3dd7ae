"""What SLURM's answers on jobs mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from launch.schedulers.slurm_questions import ask_state, find_alive, parse_job
from signs_dist.errors import UserError
from tests.slurm_cluster import answer_with, put_scontrol

SHOWN = (
    "JobId=7 JobName=x UserId=root(0) Requeue=1 Restarts=2 BatchFlag=1 Reboot=0 ExitCode=75:0 JobState=RUNNING "
    "Reason=None Dependency=(null) NodeList=n[1-2] BatchHost=n1 StdOut=/a"
)


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


def test_a_controller_that_does_not_answer_is_not_a_job_that_has_ended(some_slurm: Path) -> None:
    put_scontrol(some_slurm, UNKNOWN, NO_ANSWER)
    assert not ask_state("7").is_alive
    put_scontrol(some_slurm, "echo 'Job 33_0 not found' >&2; exit 1")
    assert not ask_state("33_0").is_alive
    put_scontrol(some_slurm, NO_ANSWER)
    with pytest.raises(UserError, match=r"SLURM does not answer about job 7: Unable to contact slurm controller"):
        ask_state("7")


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
