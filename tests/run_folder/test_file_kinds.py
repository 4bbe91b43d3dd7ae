"""What has the name of a run's file and is none is named before it is read."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from signs_dist.console.command import run_command
from signs_dist.errors import UserError
from signs_dist.evaluate import main as evaluate
from signs_dist.predict import main as predict
from signs_dist.run_folder.file_kinds import FILES, require_run_files
from signs_dist.run_folder.folder import RunFolder, require_run_or_empty
from signs_dist.train import main as train
from signs_dist.training.earlier_attempt import find_earlier_attempt
from tests.training.parts import make_config, make_process

KINDS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "folder": (Path.mkdir, "a folder"),
    "pipe": (os.mkfifo, "a pipe (FIFO)"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "a device"),
    "loop": (lambda path: path.symlink_to(path.name), "a loop of links"),
}


def begun(path: Path) -> Path:
    folder = RunFolder(path).create()
    folder.write_config("seed: 0\n")
    return path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [*FILES, "logs/rank0.log", "logs/samples-rank1.jsonl"])
def test_what_is_no_file_is_named(tmp_path: Path, name: str, kind: str) -> None:
    make, told = KINDS[kind]
    path = begun(tmp_path / "run")
    require_run_files(path)
    (path / name).unlink(missing_ok=True)
    make(path / name)
    with pytest.raises(UserError) as refused:
        require_run_files(path)
    assert str(refused.value) == (
        f"{path / name} must be a file of the run, and is {told}. Rename or remove it, and repeat the command."
    )
    for action in (require_run_or_empty, RunFolder.open):
        with pytest.raises(UserError, match="must be a file of the run"):
            action(path)


@pytest.mark.parametrize("name", ["checkpoints", "logs"])
@pytest.mark.parametrize("make", [Path.touch, os.mkfifo])
def test_what_is_no_folder_is_named(tmp_path: Path, name: str, make: Callable[[Path], Any]) -> None:
    path = begun(tmp_path / "run")
    (path / name).rmdir()
    make(path / name)
    with pytest.raises(UserError, match=f"{name} must be a folder of the run, and is a (file|pipe)"):
        require_run_files(path)


def test_links_to_files_and_other_logs_are_left_alone(tmp_path: Path) -> None:
    path = begun(tmp_path / "run")
    (tmp_path / "elsewhere").touch()
    (path / "metrics.jsonl").symlink_to(tmp_path / "elsewhere")
    (path / "logs" / "profile").mkdir()
    require_run_files(path)
    require_run_files(tmp_path / "none")


@pytest.mark.parametrize("name", ["config.yaml", "model.pt", "metrics.jsonl"])
def test_a_finished_run_without_one_of_its_files(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = begun(tmp_path / "run")
    (path / "result.json").write_text('{"finished": true}', encoding="utf-8")
    assert run_command(train, ["--run-dir", str(path)]) == 0
    assert "holds the result of this run" in capsys.readouterr().out
    (path / name).unlink(missing_ok=True)
    (path / name).mkdir()
    assert run_command(train, ["--run-dir", str(path)]) == 2
    assert f"{path / name} must be a file of the run, and is a folder" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["attempts.jsonl", "lease.json", "result.json", "config.yaml"])
def test_no_command_waits_for_a_pipe(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = begun(tmp_path / "run")
    (path / name).unlink(missing_ok=True)
    os.mkfifo(path / name)
    for command, arguments in (
        (train, ["--run-dir", str(path)]),
        (evaluate, [str(path)]),
        (predict, [str(path), "x.jpg"]),
    ):
        assert run_command(command, arguments) == 2
        assert f"{path / name} must be a file of the run, and is a pipe (FIFO)" in capsys.readouterr().err
    with contextlib.ExitStack() as cleanup, pytest.raises(UserError, match="must be a file of the run"):
        find_earlier_attempt(make_config(tmp_path), RunFolder(path), (), make_process(), cleanup)
