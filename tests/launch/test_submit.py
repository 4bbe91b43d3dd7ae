"""What is typed after `python launch/submit.py`: refusals, and what is shown without a SLURM."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import time
from pathlib import Path

import pytest

from launch import follow
from launch.notices import leave_notice
from launch.requeue import read_own_code
from launch.schedulers.slurm_questions import ask_state, cancel, note_job
from launch.submit import main
from signs_dist.config.reading import dump_config, load_config
from signs_dist.console.command import run_command
from signs_dist.monitoring.failure_card import FailureCard
from signs_dist.run_folder.folder import RunFolder
from signs_dist.train import main as train
from slurm.dev_cluster import main as dev_cluster
from tests.sets import write_colour_set


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["statsu"], "there is no command statsu. Did you mean status? They are status, logs, cancel, wait."),
        (
            ["--nodes", "1", "--", "--wait", "optim.lr=0.1"],
            "--wait is a flag of this command: type it before --, as in",
        ),
        (["--", "--nodes=2"], "--nodes is a flag of this command: type it before --"),
        (
            ["--cluster", "debug", "--", "--run-dir", "/etc/hostname"],
            "--run-dir /etc/hostname is a file. Name a folder.",
        ),
        (["--cluster", "/nowhere/site"], "--cluster /nowhere/site: there is no /nowhere/site."),
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


def test_a_flag_that_comes_first_is_no_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run_command(main, ["--waitt"])
    assert "unrecognized arguments: --waitt. Did you mean --wait?" in capsys.readouterr().err
    assert run_command(main, ["--wait", "--nodes", "0"]) == 2
    assert "--nodes 0: a number from 1" in capsys.readouterr().err


def test_the_card_of_an_earlier_job_is_not_this_ones(a_run: Path) -> None:
    texts = dict.fromkeys(("host", "device", "log", "phase", "place"), "")
    numbers = dict(
        zip(("rank", "world_size", "epoch", "step", "told_by", "exit_code"), (0, 1, 1, 1, 0, 2), strict=True)
    )
    old = FailureCard(**texts, **numbers, error="an old error", kind="error", time=time.time() - 3600)
    (a_run / "logs" / "failure-rank0.json").write_text(old.to_json())
    assert follow.last_words(a_run, "7") == "said by 0"
    (a_run / "logs" / "failure-rank0.json").write_text(dataclasses.replace(old, time=time.time()).to_json())
    assert "an old error" in follow.last_words(a_run, "7")


def test_a_stopped_local_job_ends_as_its_tasks_did(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert read_own_code(folder, "local7", []) is None
    leave_notice(tmp_path, {"SUBMITIT_LOCAL_JOB_ID": "7"}, 0, "code75")
    assert read_own_code(folder, "local7", []) == 75
    leave_notice(tmp_path, {"SUBMITIT_LOCAL_JOB_ID": "7"}, 1, "code2")
    assert read_own_code(folder, "local7", []) == 2


def test_a_local_job_lives_as_long_as_one_of_its_tasks() -> None:
    # What has started it is gone, as after kill -9 of it.
    number = 4_000_000
    task = subprocess.Popen(["sleep", "60"], env={**os.environ, "SUBMITIT_LOCAL_JOB_ID": str(number)})
    try:
        assert ask_state(f"local{number}").is_alive
        cancel([f"local{number}"])
        task.wait(timeout=10)
    finally:
        task.kill()
    assert not ask_state(f"local{number}").is_alive


def test_a_finished_run_refuses_what_would_have_given_another_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = RunFolder(tmp_path / "run").create()
    folder.write_config(dump_config(load_config(None, ["train.epochs=2"]).config))
    folder.write_result({"finished": True})
    here = ["--run-dir", "run"]
    for command, before in ((train, []), (main, ["--cluster", "local", "--"])):
        assert run_command(command, [*before, *here, "train.epochs=3"]) == 2
        assert "train.epochs: 2 → 3. Put that back, take another --run-dir, or type" in capsys.readouterr().err
        for more in (["train.epochs=2", "log.every_steps=7"], ["train.epochs=3", "--accept-change", "train.epochs"]):
            assert run_command(command, [*before, *here, *more]) == 0
            assert "holds the result of this run" in capsys.readouterr().out


def test_a_model_that_cannot_be_meant_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    write_colour_set(tmp_path / "photos", counts={"train": 3, "val": 1})
    (tmp_path / "ends_python.py").write_text("import sys\nsys.exit(0)\n")
    (tmp_path / "too_few.py").write_text(
        "from torch import nn\n"
        "def network(num_classes, image_size):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(3 * image_size**2, 2))\n"
    )
    small = ["data.root=photos", "data.cache=cache", "data.image_size=16", "train.global_batch=4"]
    for name, told in (
        ("ends_python:network", "importing ends_python ends Python (sys.exit). Put what it runs as a script below"),
        ("too_few:network", "model.name=too_few:network gives [4, 2] for 4 images of 3 classes: it must give [4, 3]"),
    ):
        arguments = ["--cluster", "local", "--dry-run", "--", "--run-dir", "run", f"model.name={name}", *small]
        assert run_command(main, arguments) == 2
        assert told in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_one_process_is_one(a_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    RunFolder(a_run).write_result({"finished": True})
    assert "1 process, from step 0" in follow.describe_run(a_run, ["7"])


def test_a_cluster_that_is_not_there_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(dev_cluster, ["down", str(tmp_path / "none")]) == 0
    assert "is not there: nothing to end." in capsys.readouterr().out
