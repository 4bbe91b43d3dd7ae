"""The commands after a submission."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from launch.jobs import note_job
from launch.look_after import cancel_alive, find_run, find_runs
from launch.submit import main
from launch.trials import Trial, make_trials, write_trials
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


def test_the_first_run_of_an_array_on_this_machine_is_found_by_its_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    grid = Path("runs/grid")
    trials = make_trials(grid, [("seed=0",), ("seed=1",)])
    for number, trial in enumerate(trials):
        note_job(RunFolder(trial.path).create().path, f"local400002{number}", "001")
    write_trials(grid, trials)
    note_job(grid, "local4000020", "001")
    assert [find_run(f"local400002{number}") for number in range(2)] == [trial.path for trial in trials]
    assert find_run("runs/grid") == grid


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


def make_array(folder: Path, count: int) -> list[Trial]:
    """An array of runs that wait, each with a log, but the last one without; the first is finished."""
    trials = make_trials(folder, [(f"seed={seed}",) for seed in range(count)])
    for number, trial in enumerate(trials):
        run = RunFolder(trial.path).create()
        note_job(trial.path, f"7_{number}", "001")
        if trial is not trials[-1]:
            (run.logs / f"job7_{number}.0.rank0.txt").write_text("".join(f"{number}: line {n}\n" for n in range(50)))
    RunFolder(trials[0].path).write_result({"finished": True})
    write_trials(folder, trials)
    note_job(folder, "7", "001")
    return trials


@pytest.mark.parametrize("name", ["grid", "7"])
def test_the_logs_of_an_array_are_those_of_its_runs(
    some_slurm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    make_array(Path("grid"), 3)
    where = f"StdOut={tmp_path}/grid/submit/001/submitit/7_2_0_log.out"
    answer_with(some_slurm, "scontrol", f"JobId=7 JobState=PENDING Reason=Priority {where}")
    assert run_command(main, ["logs", name]) == 0
    said = capsys.readouterr().out.splitlines()
    # What is not finished comes first.
    assert [line.partition(":")[0] for line in said if line.startswith("═")] == [
        f"════ seed={seed}" for seed in (1, 2, 0)
    ]
    assert "job 7_2 has written no log yet: it is pending (Priority)." in said
    assert "1: line 42" in said
    assert "1: line 41" not in said
    assert said[-1].startswith("The log of one run: python launch/submit.py logs ")
    # What is advised works.
    assert run_command(main, said[-1].partition("submit.py ")[2].split()) == 0
    assert "1: line 20" in capsys.readouterr().out
    assert run_command(main, ["logs", name, "--all"]) == 0
    assert "0: line 0" in capsys.readouterr().out


def test_the_advised_run_of_an_array_has_a_log(
    some_slurm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    trials = make_array(Path("-grid"), 3)
    (trials[1].path / "logs" / "job7_1.0.rank0.txt").unlink()
    answer_with(some_slurm, "scontrol", "JobId=7 JobState=PENDING Reason=Priority")
    assert run_command(main, ["logs", "./-grid"]) == 0
    assert capsys.readouterr().out.endswith("\nThe log of one run: python launch/submit.py logs ./-grid/000-seed=0\n")


def test_of_a_large_array_a_few_logs_are_shown(
    some_slurm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_array(Path("grid"), 13)
    assert run_command(main, ["logs", "grid"]) == 0
    said = capsys.readouterr().out
    assert said.count("════") == 10
    assert "\n3 runs more. The log of one run: python launch/submit.py logs grid/001-seed=1\n" in said
