"""The commands after a submission."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from launch.jobs import note_job
from launch.look_after import cancel_alive, find_run, find_runs
from launch.submit import main
from launch.trials import make_trials, write_trials
from signs_dist.console.command import run_command
from signs_dist.errors import UserError
from signs_dist.run_folder.folder import RunFolder
from tests.slurm_cluster import answer_with


def test_status_shows_what_is_known_where_slurm_does_not_answer(
    a_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = a_run.parent / "b"
    RunFolder(done).create().write_result({"finished": True})
    note_job(done, "8", "001")
    assert run_command(main, ["status"]) == 0
    said = capsys.readouterr().out
    assert "runs/a" in said
    assert "not known: SLURM does not answer" in said
    assert "finished" in said


@pytest.mark.parametrize("name", ["runs/a", "7"])
def test_a_run_is_found_by_its_folder_and_by_its_job(a_run: Path, name: str) -> None:
    assert find_run(name).resolve() == a_run


def test_a_trial_is_found_by_its_element_wherever_its_array_lies(some_slurm: Path, tmp_path: Path) -> None:
    trials = make_trials(tmp_path / "far", [("seed=0",), ("seed=1",)])
    for number, trial in enumerate(trials):
        RunFolder(trial.path).create()
        note_job(trial.path, f"7_{number}", "001")
    write_trials(tmp_path / "far", trials)
    answer_with(some_slurm, "scontrol", f"JobId=7 StdOut={tmp_path}/far/submit/001/submitit/7_1_0_log.out")
    assert find_run("7_1") == trials[1].path
    assert find_run("7") == tmp_path / "far"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("", "which run?"),
        ("runs", "runs: no job was submitted for this folder."),
        ("nowhere", "nowhere is neither a run folder nor a job that python launch/submit.py has submitted."),
        ("99", "99 is neither a run folder nor a job"),
    ],
)
def test_a_name_that_is_no_run_is_refused(a_run: Path, name: str, told: str) -> None:
    with pytest.raises(UserError) as caught:
        find_run(name)
    assert told in str(caught.value)


def test_runs_are_found_two_folders_deep(a_run: Path) -> None:
    note_job(RunFolder(a_run.parent / "grid" / "000").create().path, "8_0", "001")
    assert sorted(path.name for path in find_runs(a_run.parent)) == ["000", "a"]


def test_only_jobs_that_are_alive_are_cancelled(tmp_path: Path) -> None:
    number = 4_000_001
    task = subprocess.Popen(["sleep", "60"], env={**os.environ, "SUBMITIT_LOCAL_JOB_ID": str(number)})
    try:
        said = cancel_alive(tmp_path, ["local4000002", f"local{number}"])
        assert said == f"{tmp_path}: cancelled local{number}"
        task.wait(timeout=10)
    finally:
        task.kill()
    assert cancel_alive(tmp_path, [f"local{number}"]) == f"{tmp_path}: has no job that waits or runs"


def test_where_no_run_has_a_job_it_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_command(main, ["status"]) == 0
    assert capsys.readouterr().out == "no run below runs/ has a job. For a run elsewhere type its folder\n"


def test_an_array_has_no_logs_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    trials = make_trials(Path("grid"), [("seed=0",)])
    RunFolder(Path("grid")).create()
    write_trials(Path("grid"), trials)
    note_job(Path("grid"), "7", "001")
    assert run_command(main, ["logs", "grid"]) == 2
    assert "grid is an array. Name one of its runs:\n  grid/000-seed=0" in capsys.readouterr().err
