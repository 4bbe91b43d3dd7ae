"""What a job has said, and why it has ended."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import pytest

from launch.logs import explain_end, last_error
from launch.notices import leave_notice
from launch.submit import main
from signs_dist.console.command import run_command
from signs_dist.monitoring.failure_card import FailureCard


def test_the_logs_of_a_rank(a_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(main, ["logs", "runs/a", "--rank", "1"]) == 0
    assert "said by 1" in capsys.readouterr().out
    assert run_command(main, ["logs", "runs/a", "--rank", "7"]) == 2
    assert "--rank 7: job 7 has the ranks 0, 1." in capsys.readouterr().err


def test_who_failed_before_training_is_shown_by_its_own_log(a_run: Path) -> None:
    assert explain_end(a_run, "7") == "said by 0"
    environment = {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "0"}
    leave_notice(a_run, environment, 0, "code3")  # it lost the other
    leave_notice(a_run, environment, 1, "code2")
    assert explain_end(a_run, "7") == "said by 1"
    # Of an attempt after that nothing is known but its own notices.
    leave_notice(a_run, environment | {"SLURM_RESTART_COUNT": "1"}, 0, "code1")
    assert explain_end(a_run, "7") == "said by 0"


def test_the_card_of_an_earlier_job_is_not_this_ones(a_run: Path) -> None:
    texts = dict.fromkeys(("host", "device", "log", "phase", "place"), "")
    numbers = dict(
        zip(("rank", "world_size", "epoch", "step", "told_by", "exit_code"), (0, 1, 1, 1, 0, 2), strict=True)
    )
    old = FailureCard(**texts, **numbers, error="an old error", kind="error", time=time.time() - 3600)
    (a_run / "logs" / "failure-rank0.json").write_text(old.to_json())
    assert explain_end(a_run, "7") == "said by 0"
    (a_run / "logs" / "failure-rank0.json").write_text(dataclasses.replace(old, time=time.time()).to_json())
    assert "an old error" in explain_end(a_run, "7")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("well\nerror: no data\n", "no data"),
        (
            " error  ValueError: words that\n        do not fit\n    at  mine.py:7\n",
            "ValueError: words that do not fit",
        ),
        ("error: old\nerror: new\n", "new"),
        ("an error\n", ""),
    ],
)
def test_the_newest_error_is_found_whole(a_run: Path, text: str, told: str) -> None:
    (a_run / "logs" / "job7.0.rank0.txt").write_text(text)
    assert last_error(a_run, "7") == told
