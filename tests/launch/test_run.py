"""Submitting a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launch import check, run
from launch.jobs import jobs_of
from launch.schedulers import SCHEDULERS
from launch.submit import main
from signs_dist.config.reading import dump_config, load_config
from signs_dist.console.command import run_command
from signs_dist.errors import UserError
from signs_dist.run_folder.folder import RunFolder
from signs_dist.train import main as train


def test_a_finished_run_refuses_what_would_have_given_another_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = RunFolder(tmp_path / "run").create()
    folder.write_config(dump_config(load_config(None, ["train.epochs=2"])))
    folder.write_result({"finished": True})
    here = ["--run-dir", "run"]
    for command, before in ((train, []), (main, ["--cluster", "local", "--"])):
        assert run_command(command, [*before, *here, "train.epochs=3"]) == 2
        assert "train.epochs: 2 → 3. Restore them, choose another --run-dir, or type" in capsys.readouterr().err
        assert run_command(command, [*before, *here, "train.epochs=2", "log.every_steps=7"]) == 0
        assert "holds the result of this run" in capsys.readouterr().out
        assert run_command(command, [*before, *here, "train.epochs=2", "seed=1", "--accept-change", "seed"]) == 2
        assert "The run is finished after 2 epochs, and they can no longer change it." in capsys.readouterr().err


def test_a_finished_run_is_submitted_to_be_trained_further(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted = []
    monkeypatch.setattr(SCHEDULERS["local"], "submit", lambda submission: submitted.append(submission) or ["local7"])
    folder = RunFolder(here / "run").create()
    folder.write_config(dump_config(load_config(None, ["train.epochs=2"])))
    folder.write_result({"finished": True})
    further = [*LOCAL, "--", "--run-dir", "run", "train.epochs=3", "--accept-change", "train.epochs"]
    assert run_command(main, further) == 0
    assert len(submitted) == 1
    assert jobs_of(here / "run") == ["local7"]
    assert folder.is_finished  # the job sets the result aside, when it begins


def test_a_run_that_finishes_before_the_folder_is_claimed_is_finished(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(here / "run")

    def finish(request: object) -> None:
        folder.create().write_config(dump_config(load_config(None, ["train.epochs=2"])))
        folder.write_result({"finished": True})

    monkeypatch.setattr(run, "check_request", finish)
    monkeypatch.setattr(SCHEDULERS["local"], "submit", lambda submission: pytest.fail("it was submitted"))
    assert run_command(main, [*LOCAL, "--", "--run-dir", "run", "train.epochs=2"]) == 0
    assert "holds the result of this run" in capsys.readouterr().out
    assert jobs_of(here / "run") == []
    assert not list(here.glob("run/submit/*"))


def test_submissions_of_one_second_get_folders_of_their_own(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SCHEDULERS["local"], "submit", lambda submission: ["local7"])
    monkeypatch.setattr("signs_dist.run_folder.folder.default_run_path", lambda *arguments: Path("runs", "default-now"))
    for _ in range(2):
        assert run_command(main, LOCAL) == 0
    assert run_command(main, [*LOCAL, "--dry-run"]) == 0
    capsys.readouterr()
    assert sorted(path.name for path in (here / "runs").iterdir()) == ["default-now", "default-now-2"]
    for path in (here / "runs").iterdir():
        assert jobs_of(path) == ["local7"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to submit from, where the check of the model takes no time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(check, "check_training", lambda request: ["a model: one step tried"])
    return tmp_path


LOCAL = ["--cluster", "local", "--no-snapshot"]


def test_a_dry_run_leaves_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(main, [*LOCAL, "--dry-run", "--", "--run-dir", "a/run"]) == 0
    said = capsys.readouterr().out
    assert said.endswith("dry run: everything is in order, nothing was submitted\n")
    assert "  devices  this machine, 1 process, on the CPU\n" in said
    assert list(here.iterdir()) == []


def test_a_job_is_noted_and_told(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SCHEDULERS["local"], "submit", lambda submission: ["local4000003"])
    assert run_command(main, [*LOCAL, "--", "--run-dir", "a run"]) == 0
    assert jobs_of(here / "a run") == ["local4000003"]
    assert not (here / "a run" / "submit" / "001" / "claim.json").exists()
    written = json.loads((here / "a run" / "submit" / "001" / "submission.json").read_text())
    assert (written["arguments"], written["cluster"]["kind"]) == (["--run-dir", "a run"], "local")
    told = capsys.readouterr().out.splitlines()[-3:]
    assert told == [
        "      job  local4000003",
        f"     logs  {here}/a run/logs/local4000003.*, {here}/a run/submit/001/submitit/*_log.out",
        "     then  python launch/submit.py wait 'a run'    (or status, logs, cancel)",
    ]


def test_a_refused_job_leaves_nothing(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(submission: object) -> list[str]:
        raise UserError("not today")

    monkeypatch.setattr(SCHEDULERS["local"], "submit", refuse)
    assert run_command(main, [*LOCAL, "--", "--run-dir", "a/run"]) == 2
    assert "not today" in capsys.readouterr().err
    assert list(here.iterdir()) == []


def test_with_wait_the_exit_code_is_the_runs(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SCHEDULERS["local"], "submit", lambda submission: ["local4000003"])
    followed = []
    monkeypatch.setattr(run, "follow", lambda path, job: followed.append((path, job)) or 74)
    assert run_command(main, [*LOCAL, "--wait", "--", "--run-dir", "run"]) == 74
    assert followed == [(here / "run", "local4000003")]


def test_with_debug_this_process_trains(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = []
    monkeypatch.setattr("signs_dist.train.main", lambda arguments: trained.append(arguments) or 75)
    command = ["--cluster", "debug", "--no-snapshot", "--", "--run-dir", "run", "optim.lr=0.5"]
    assert run_command(main, command) == 75
    folder = here / "run" / "submit" / "001"
    assert trained == [("--config", f"{folder}/config.yaml", "--run-dir", f"{here}/run", "--device", "auto")]
    assert load_config(folder / "config.yaml", []).optim.lr == 0.5
    assert not (folder / "claim.json").exists()
    assert jobs_of(here / "run") == []
