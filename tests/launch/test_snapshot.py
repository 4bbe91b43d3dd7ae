"""Copies of the code that a job runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from launch.snapshot import take_snapshot, without_snapshot
from signs_dist.errors import UserError
from tests.processes import REPOSITORY


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=n", "-c", "user.email=e@x"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def test_a_snapshot_of_a_working_tree(tmp_path: Path) -> None:
    tree, target = tmp_path / "my tree", tmp_path / "copy"
    (tree / "sub").mkdir(parents=True)
    git(tree, "init", "-q")
    (tree / ".gitignore").write_text("big.bin\n")
    (tree / "one.py").write_text("x = 1\n")
    (tree / "gone.py").write_text("x = 1\n")
    git(tree, "add", ".")
    git(tree, "commit", "-q", "-m", "first")
    (tree / "one.py").write_text("x = 2\n")
    (tree / "gone.py").unlink()
    (tree / "sub" / "new name.py").write_text("y = 1\n")
    (tree / "big.bin").write_bytes(b"0" * 1000)
    snapshot = take_snapshot(tree / "sub", target)
    copied = {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}
    assert {name for name in copied if name.startswith("tree/")} == {
        "tree/.gitignore",
        "tree/one.py",
        "tree/sub/new name.py",
    }
    assert (target / "tree" / "one.py").read_text() == "x = 2\n"  # as it is, not as it was committed
    # All of the toolkit, also a package with the name of a folder that a working tree's copy omits.
    for package in ("signs_dist", "launch"):
        modules = {file.relative_to(REPOSITORY) for file in (REPOSITORY / package).rglob("*.py")}
        assert modules == {
            file.relative_to(target / "toolkit") for file in (target / "toolkit" / package).rglob("*.py")
        }
    assert snapshot.import_folders == (target / "toolkit", target / "tree" / "sub")
    assert snapshot.about["dirty"]
    assert len(snapshot.about["commit"]) == 40
    assert b"+x = 2" in snapshot.diff
    # A job's Python begins in the first folder: what it imports is the copy.
    program = "import signs_dist, launch.job; print(signs_dist.__file__, launch.job.__file__, sep='\\n')"
    told = subprocess.run(
        [sys.executable, "-c", program],
        cwd=snapshot.import_folders[0],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, snapshot.import_folders))},
        capture_output=True,
        text=True,
        check=True,
    )
    assert all(path.startswith(str(target)) for path in told.stdout.splitlines())


def test_untracked_files_that_look_like_secrets_are_left_out_and_said(tmp_path: Path) -> None:
    tree, target = tmp_path / "tree", tmp_path / "copy"
    (tree / ".ssh").mkdir(parents=True)
    git(tree, "init", "-q")
    (tree / "tests.pem").write_text("a certificate for tests\n")
    git(tree, "add", ".")
    git(tree, "commit", "-q", "-m", "first")
    for name in (".env", "id_rsa", "prod.key", ".ssh/config", "mine.py", "secrets.py"):
        (tree / name).write_text("x = 1\n")
    (tree / "link.pem").symlink_to("/etc/hostname")
    snapshot = take_snapshot(tree, target)
    copied = {str(path.relative_to(target / "tree")) for path in (target / "tree").rglob("*") if not path.is_dir()}
    assert copied == {"tests.pem", "mine.py", "secrets.py"}
    assert snapshot.about["left_out"] == [".env", ".ssh/config", "id_rsa", "link.pem", "prod.key"]
    assert snapshot.lines == (
        "not copied, since they look like secrets: .env, .ssh/config, id_rsa, link.pem, prod.key. The job finds them "
        "where they are",
        "copied although they look like secrets, since git tracks them: tests.pem",
    )


def test_a_snapshot_without_git_and_one_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = tmp_path / "tree"
    for name in (
        "one.py",
        "conf.yaml",
        "photo.jpg",
        "runs/a/b.py",
        ".hidden/c.py",
        "venv/pyvenv.cfg",
        "venv/d.py",
        "sub/e.py",
        "secrets.yaml",
    ):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("x = 1\n")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    snapshot = take_snapshot(tree, tmp_path / "copy")
    copied = {str(path.relative_to(tmp_path / "copy" / "tree")) for path in (tmp_path / "copy" / "tree").rglob("*.*")}
    assert copied == {"one.py", "conf.yaml", "sub/e.py"}
    assert snapshot.about["commit"] is None
    assert snapshot.diff == b""
    monkeypatch.setattr("launch.snapshot.MOST_BYTES", 10)
    with pytest.raises(UserError, match="too much to copy for each job"):
        take_snapshot(tree, tmp_path / "other")
    assert not (tmp_path / "other").exists()
    # The installed toolkit may lie in the working tree, in a virtual environment that is not copied.
    (tree / "venv" / "signs_dist").mkdir()
    (tree / "venv" / "signs_dist" / "__init__.py").write_text("x = 1\n")
    with monkeypatch.context() as patch:
        patch.setattr("launch.snapshot.MOST_BYTES", 2**20)
        patch.setattr("launch.snapshot.PACKAGES", ("signs_dist",))  # a wheel has no other
        patch.setattr("launch.snapshot.toolkit_folder", lambda: tree / "venv")
        snapshot = take_snapshot(tree, tmp_path / "installed")
    assert snapshot.import_folders == (tmp_path / "installed" / "toolkit", tmp_path / "installed" / "tree")
    assert (snapshot.import_folders[0] / "signs_dist" / "__init__.py").is_file()
    plain = without_snapshot(tree)
    assert plain.import_folders == (REPOSITORY, tree)
    assert plain.about["snapshot"] is False
