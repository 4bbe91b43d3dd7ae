"""What a killed launch leaves in the temporary directory, the next launch removes; and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from launch.launch_folder import OWNERS, PREFIX, launch_folder, note_owner, remove_left_folders
from signs_dist.environment.process_table import read_birth
from signs_dist.run_folder.holder import process_id_scope


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def left(temporary: Path, *owners: dict[str, Any], name: str = "abc") -> Path:
    folder = temporary / f"{PREFIX}{name}"
    folder.mkdir()
    (folder / OWNERS).write_text("".join(f"{json.dumps(owner)}\n" for owner in owners))
    (folder / "settings.json").write_text("{}")
    return folder


def owner(pid: int, birth: str, scope: str | None = None) -> dict[str, Any]:
    return {"scope": process_id_scope(socket.gethostname()) if scope is None else scope, "pid": pid, "birth": birth}


def gone() -> dict[str, Any]:
    with subprocess.Popen(["true"]) as process:
        process.wait()
    return owner(process.pid, "1")


def alive() -> dict[str, Any]:
    return owner(os.getpid(), read_birth(os.getpid()))


def test_a_launch_removes_its_folder_and_those_that_were_left(temporary: Path) -> None:
    old = left(temporary, gone(), gone())
    with launch_folder() as folder:
        assert folder.parent == temporary
        assert not old.exists()
        remove_left_folders(temporary)
        assert folder.exists()  # its owner lives
    assert list(temporary.iterdir()) == []


def test_a_folder_stays_while_the_agent_of_a_killed_launch_stops_its_workers(temporary: Path) -> None:
    folder = left(temporary, gone())
    note_owner(folder, os.getpid())
    remove_left_folders(temporary)
    assert folder.exists()


def test_a_process_with_the_same_number_is_another_one(temporary: Path) -> None:
    folder = left(temporary, owner(os.getpid(), "1"))
    remove_left_folders(temporary)
    assert not folder.exists()


@pytest.mark.parametrize(
    "owners",
    [
        [],
        [{"pid": 1}],
        [{"scope": "another machine", "pid": 2**30, "birth": "1"}],  # a temporary directory that machines share
        ["text"],
    ],
    ids=["none", "half", "another machine", "no object"],
)
def test_a_folder_whose_owner_is_unknown_stays(temporary: Path, owners: list[Any]) -> None:
    folder = left(temporary, *owners)
    remove_left_folders(temporary)
    assert folder.exists()


def test_a_folder_without_a_note_a_link_and_a_file_stay(
    temporary: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / OWNERS).write_text(json.dumps(gone()))
    (temporary / f"{PREFIX}link").symlink_to(elsewhere)
    (temporary / f"{PREFIX}file").touch()
    (temporary / f"{PREFIX}empty").mkdir()
    (temporary / "other").mkdir()
    remove_left_folders(temporary)
    assert len(list(temporary.iterdir())) == 4
    assert (elsewhere / OWNERS).exists()


def test_another_users_folder_stays(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = left(temporary, gone())
    monkeypatch.setattr(os, "getuid", lambda: folder.stat().st_uid + 1)
    remove_left_folders(temporary)
    assert folder.exists()


def test_a_folder_that_another_launch_removes_meanwhile_is_no_error(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = left(temporary, gone())
    monkeypatch.setattr(Path, "glob", lambda self, pattern: [folder])
    shutil.rmtree(folder)
    remove_left_folders(temporary)
