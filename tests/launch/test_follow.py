"""Following a run to its end."""

from __future__ import annotations

from pathlib import Path

import pytest

from launch import follow
from tests.slurm_cluster import put_scontrol

SHOWN = (
    "JobId=7 JobName=x UserId=root(0) Requeue=1 Restarts=2 BatchFlag=1 Reboot=0 ExitCode=75:0 JobState=RUNNING "
    "Reason=None Dependency=(null) NodeList=n[1-2] BatchHost=n1 StdOut=/a"
)


NO_ANSWER = "echo 'Unable to contact slurm controller (connect failure)' >&2; exit 1"


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
