"""What became of a folder that is moved, replaced or deleted while it is open."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from signs_dist.run_folder import place
from signs_dist.run_folder.place import Place


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Place]:
    (tmp_path / "run").mkdir()
    opened = Place(tmp_path / "run")
    yield opened
    opened.close()


def test_a_folder_stays_in_place(tmp_path: Path, opened: Place) -> None:
    assert opened.is_in_place
    (tmp_path / "run" / "file").touch()
    assert opened.is_in_place


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="the system does not tell the path of an open folder")
def test_a_folder_that_was_moved_is_named_by_its_new_name(tmp_path: Path, opened: Place) -> None:
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    assert not opened.is_in_place
    assert opened.describe_change() == (
        f"the run folder {tmp_path}/run was moved to {tmp_path}/elsewhere during the run. What was saved is in it. To "
        f"resume, repeat the command with --run-dir {tmp_path}/elsewhere"
    )
    (tmp_path / "run").mkdir()
    assert not opened.is_in_place
    assert "elsewhere during the run, and another folder is in its place." in opened.describe_change()
    shutil.rmtree(tmp_path / "run")
    (tmp_path / "elsewhere").rename(tmp_path / "run")
    assert opened.is_in_place


def test_without_proc_the_new_name_is_not_told(tmp_path: Path, opened: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    monkeypatch.setattr(place, "Path", lambda text: Path("/nowhere"))
    assert "was moved during the run. What was saved is in it." in opened.describe_change()
    assert opened.describe_change().endswith("with --run-dir and its new name")


def test_a_deleted_folder_and_a_file_in_its_place(tmp_path: Path, opened: Place) -> None:
    (tmp_path / "run").rmdir()
    assert not opened.is_in_place
    assert opened.describe_change().startswith(f"the run folder {tmp_path}/run was deleted during the run")
    (tmp_path / "run").write_text("a file")
    assert not opened.is_in_place


def test_a_file_server_that_is_away_says_nothing(
    tmp_path: Path, opened: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> None:
        raise OSError(5, os.strerror(5))

    monkeypatch.setattr(Path, "stat", fail)
    assert opened.is_in_place


def test_no_folder_is_no_place(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Place(tmp_path / "run")
