"""The run folder: it is made by one run, and never among other files."""

from __future__ import annotations

import datetime
import json
import os
from pathlib import Path

import pytest

from signs_dist.errors import UserError
from signs_dist.run_folder.folder import (
    RunFolder,
    default_run_path,
    make_new_folder,
    missing_folders,
    remove_empty,
)

NOW = datetime.datetime(2026, 1, 31, 12, 0, 5)


@pytest.mark.parametrize("name", ["a b", 'it\'s "one"', "line\nbreak", "ü", "sub/../up", "-x", "$HOME", "deep/er/run"])
def test_awkward_names_are_names(tmp_path: Path, name: str) -> None:
    (tmp_path / "sub").mkdir()
    folder = RunFolder(tmp_path / name).create()
    folder.write_config("seed: 0\n")
    folder.append(folder.metrics, {"name": name, "odd": os.fsdecode(b"\xff")})
    assert json.loads(folder.metrics.read_text(encoding="utf-8")) == {"name": name, "odd": os.fsdecode(b"\xff")}
    assert RunFolder.open(tmp_path / name).path == tmp_path / name


def test_existing_files_are_refused_and_unchanged(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "folder" / "photo.jpg").write_text("mine")
    for name, told in {
        "file": "is not a folder. Choose another name, or omit --run-dir for a new",
        "folder": "exists and holds other files: photo.jpg. Choose another name, or remove the folder first.",
        "link": "Choose another name",
        "file/run": "cannot write",
        "file/deep/run": "cannot write",
        "x" * 300: "cannot write",
    }.items():
        with pytest.raises(UserError) as caught:
            RunFolder(tmp_path / name).create()
        assert told in str(caught.value), name
    assert (tmp_path / "file").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder", "link"]


@pytest.mark.skipif(not Path("/proc/version").is_file(), reason="there is no /proc, where not even root may make files")
def test_a_place_that_cannot_be_written_is_told() -> None:
    with pytest.raises(UserError, match=r"cannot (make|write) /proc/run: "):
        RunFolder(Path("/proc/run")).create()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="cannot write"):
        RunFolder(tmp_path / "run").create()


def test_opening_another_folder_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"is not a run folder: it has no config.yaml\. To make one under runs/, type: python"
    ):
        RunFolder.open(tmp_path)
    with pytest.raises(UserError, match="nowhere does not exist"):
        RunFolder.open(tmp_path / "nowhere")
    (tmp_path / "last.pt").touch()
    with pytest.raises(
        UserError, match=r"last\.pt is a file, not a run folder\. Give its run folder, and the file with"
    ):
        RunFolder.open(tmp_path / "last.pt")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("signs", "signs-20260131-120005"),
        ("my config (2)", "my-config-2-20260131-120005"),
        ("..", "run-20260131-120005"),
        ("a/../b", "a-..-b-20260131-120005"),
        ("ü", "run-20260131-120005"),
    ],
)
def test_default_names(tmp_path: Path, name: str, expected: str) -> None:
    assert default_run_path(name, NOW, tmp_path) == tmp_path / expected


def test_runs_of_one_second_get_folders_of_their_own(tmp_path: Path) -> None:
    proposed = [default_run_path("a", NOW, tmp_path / "runs") for _ in range(3)]  # all before the first is made
    names = [make_new_folder(path).name for path in proposed]
    assert names == ["a-20260131-120005", "a-20260131-120005-2", "a-20260131-120005-3"]


def test_a_new_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("file/run", "link/run"):
        with pytest.raises(UserError, match="cannot write"):
            make_new_folder(tmp_path / name)


def test_folders_that_were_made_for_nothing_are_removed(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "runs" / "a")
    missing = missing_folders(run.checkpoints, run.logs)
    assert missing[2:] == [tmp_path / "runs" / "a", tmp_path / "runs"]
    run.create()
    (tmp_path / "runs" / "another").mkdir()
    remove_empty(missing)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["another"]
    assert missing_folders(tmp_path) == []


def test_metrics_refuse_nan(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run").create()
    folder.append(folder.metrics, {"loss": 1.0})
    with pytest.raises(ValueError, match="JSON"):
        folder.append(folder.metrics, {"loss": float("nan")})
    assert folder.metrics.read_text() == '{"loss": 1.0}\n'


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_is_told(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run").create()
    folder.metrics.symlink_to("/dev/full")
    with pytest.raises(UserError, match="no space left while writing"):
        folder.append(folder.metrics, {"loss": 1.0})


RESULT = {"finished": True, "epochs": 3, "val_accuracy": 0.5}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 300,
        json.dumps(RESULT).encode()[:-1],
        b"[]",
        b"null",
        b"{}",
        b'{"finished": false}',
        b'{"finished": "true"}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_a_result_that_cannot_be_read_is_none(tmp_path: Path, content: bytes) -> None:
    folder = RunFolder(tmp_path / "run").create()
    folder.result.write_bytes(content)
    assert not folder.is_finished
    assert folder.read_result() is None
    folder.write_result(RESULT)
    assert folder.is_finished
    assert folder.read_result() == RESULT


def test_a_result_that_is_no_file_is_none_and_is_not_waited_for(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run").create()
    folder.result.mkdir()
    assert not folder.is_finished
    folder.result.rmdir()
    os.mkfifo(folder.result)
    assert not folder.is_finished


def test_a_result_is_kept_when_the_run_is_trained_further(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run").create()
    assert folder.set_result_aside() == []
    folder.write_result(RESULT)
    folder.model.write_bytes(b"weights")
    assert [path.name for path in folder.set_result_aside()] == ["result-3-epochs.json", "model-3-epochs.pt"]
    assert not folder.is_finished
    assert not folder.model.exists()
    assert json.loads((folder.path / "result-3-epochs.json").read_text()) == RESULT
    folder.write_result(RESULT)
    assert [path.name for path in folder.set_result_aside()] == ["result-3-epochs.json"]  # without weights
    folder.write_result(RESULT)
    assert RunFolder(folder.path, is_writer=False).set_result_aside() == []
    assert folder.is_finished
