"""What is typed after `python launch/submit.py`: refusals, and what is shown without a SLURM."""

from __future__ import annotations

from pathlib import Path

import pytest

from launch import follow
from launch.jobs import note_job
from launch.notices import leave_notice
from launch.submit import main
from signs_dist.command import run_command
from signs_dist.rundir import RunFolder
from slurm.dev_cluster import main as dev_cluster


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["statsu"], "there is no command statsu. Did you mean status? They are status, logs, cancel, wait."),
        (["cancel", ""], "which run? Type its folder, or its job's id."),
        (["--parallel", "4"], "--parallel is for --array"),
        (["--array", "seeds=0,1", "--parallel", "0"], "--parallel 0: at least 1."),
        (["--max-restarts", "2"], "--max-restarts is for --agent torchrun"),
        (["--array", "seeds=0,0"], "--array 'seeds=0,0': 0 stands there twice. Each value is one run: type it once."),
        (["--array", "seeds=0,1", "--", "seed=3"], "seed stands behind -- and in --array, which would win."),
        (["--extra", "time=5"], "extra time=5: that has a flag of its own. Type --time."),
        (["--", "--run-dir", "."], "--run-dir is this very folder."),
        (["--cluster", "local", "--gpus-per-node", "2"], "--gpus-per-node 2: this machine shows no GPUs."),
    ],
)
def test_what_cannot_be_meant_is_refused(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_command(main, arguments) == 2
    assert told in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that was submitted, on a machine where no SLURM answers."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/nowhere")
    run = tmp_path / "runs" / "a"
    folder = RunFolder(run).create()
    note_job(run, "7", "001")
    for rank in (0, 1):
        (folder.logs / f"job7.0.rank{rank}.txt").write_text(f"said by {rank}\n")
    start = {"event": "start", "attempt": 1, "time": "now", "world_size": 1, "first_step": 0}
    folder.append(folder.attempts, start)
    return run


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


def test_the_logs_of_a_rank(a_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(main, ["logs", "runs/a", "--rank", "1"]) == 0
    assert "said by 1" in capsys.readouterr().out
    assert run_command(main, ["logs", "runs/a", "--rank", "7"]) == 2
    assert "--rank 7: job 7 has the ranks 0, 1." in capsys.readouterr().err


def test_who_failed_before_training_is_shown_by_its_own_log(a_run: Path) -> None:
    assert follow.last_words(a_run, "7") == "said by 0"
    environment = {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "0"}
    leave_notice(a_run, environment, 0, "code3")  # it lost the other
    leave_notice(a_run, environment, 1, "code2")
    assert follow.last_words(a_run, "7") == "said by 1"
    # Of an attempt after that nothing is known but its own notices.
    leave_notice(a_run, environment | {"SLURM_RESTART_COUNT": "1"}, 0, "code1")
    assert follow.last_words(a_run, "7") == "said by 0"


def test_one_process_is_one(a_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    RunFolder(a_run).write_result({"finished": True})
    assert "1 process, from step 0" in follow.describe_run(a_run, ["7"])


def test_a_cluster_that_is_not_there_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(dev_cluster, ["down", str(tmp_path / "none")]) == 0
    assert "is not there: nothing to end." in capsys.readouterr().out
