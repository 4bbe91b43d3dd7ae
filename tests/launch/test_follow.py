"""Following a run to its end."""

from __future__ import annotations

from pathlib import Path

import pytest

from launch import follow
from launch.jobs import note_job
from launch.notices import leave_notice
from launch.trials import make_trials, write_trials
from signs_dist.run_folder.folder import RunFolder
from tests.slurm_cluster import answer_with, put_scontrol

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


@pytest.mark.parametrize("is_finished", [True, False])
def test_an_array_is_followed_until_no_trial_is_alive(
    some_slurm: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    is_finished: bool,
) -> None:
    monkeypatch.setattr(follow, "ARRAY_POLL_SECONDS", 0.05)
    trials = make_trials(tmp_path, [("seed=0",), ("seed=1",)])
    write_trials(tmp_path, trials)
    for number, trial in enumerate(trials):
        note_job(RunFolder(trial.path).create().path, f"7_{number}", "001")
    RunFolder(trials[0].path).write_result({"finished": True, "val_accuracy": 0.5})
    if is_finished:
        RunFolder(trials[1].path).write_result({"finished": True})
    put_scontrol(some_slurm, "echo 'JobId=7 JobState=FAILED'")
    (some_slurm / "squeue").write_text(
        f"#!/bin/sh\n[ -e {tmp_path}/asked ] && echo '7_1 FAILED' || echo '7_1 RUNNING'\ntouch {tmp_path}/asked\n"
    )
    (some_slurm / "squeue").chmod(0o755)
    assert follow.follow_array(tmp_path) == (0 if is_finished else 1)
    said = capsys.readouterr().out
    if is_finished:
        assert said.startswith("2 of 2 trials finished, 0 wait or run\n")
    else:
        assert said.startswith("1 of 2 trials finished, 1 wait or run\n1 of 2 trials finished, 0 wait or run\n")
        assert "not finished (failed)" in said
    assert "seed=0  finished" in said


def test_one_who_waits_for_an_array_goes_on_when_the_controller_answers_again(
    some_slurm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "ARRAY_POLL_SECONDS", 0.05)
    trials = make_trials(tmp_path, [("seed=0",)])
    write_trials(tmp_path, trials)
    note_job(RunFolder(trials[0].path).create().path, "7", "001")
    answer_with(some_slurm, "squeue", "", code=1)
    put_scontrol(some_slurm, NO_ANSWER, "echo 'JobId=7 JobState=FAILED'")
    assert follow.follow_array(tmp_path) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("SLURM does not answer about job 7")
    assert said[1] == "0 of 1 trials finished, 0 wait or run"


@pytest.mark.parametrize(
    ("codes", "worst"),
    [
        ([], 0),
        ([0, 0], 0),
        ([0, 75], 75),
        ([75, 2, 0], 2),
        ([130, 1], 1),
        ([137, 2], 137),
        ([75, 130], 130),
        ([3, 74, 75], 74),
    ],
)
def test_the_worst_exit_code_of_several_runs(codes: list[int], worst: int) -> None:
    assert follow.worst_code(codes) == worst


def test_an_array_ends_with_the_code_of_its_worst_run(
    some_slurm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trials = make_trials(tmp_path, [("seed=0",), ("seed=1",), ("seed=2",)])
    write_trials(tmp_path, trials)
    for number, trial in enumerate(trials):
        note_job(RunFolder(trial.path).create().path, f"7_{number}", "001")
    RunFolder(trials[0].path).write_result({"finished": True})
    job = {"SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "7"}
    for number, code in ((1, 75), (2, 2)):
        leave_notice(trials[number].path, {**job, "SLURM_ARRAY_TASK_ID": str(number)}, 0, f"code{code}")
    put_scontrol(some_slurm, "echo 'JobId=7 JobState=FAILED'")
    answer_with(some_slurm, "squeue", "7_0 COMPLETED\n7_1 FAILED\n7_2 FAILED")
    assert follow.follow_array(tmp_path) == 2
    assert "1 of 3 trials finished, 0 wait or run" in capsys.readouterr().out
