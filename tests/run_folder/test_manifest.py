"""The manifest: command, versions, commit and machine."""

from __future__ import annotations

import hashlib
import importlib.machinery
import json
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

from signs_dist.run_folder.manifest import (
    changed_files,
    changed_software,
    describe_code,
    describe_invocation,
    describe_software,
    explain_no_commit,
    imported_files,
)


def test_the_command_versions_and_machine_are_described(tmp_path: Path) -> None:
    about = describe_invocation(["python", "-m", "signs_dist.train"])
    assert about["command"] == ["python", "-m", "signs_dist.train"]
    assert about["started"].endswith("+00:00")
    assert set(about["versions"]) >= {"signs_dist", "torch", "torchvision", "numpy"}
    json.dumps(about)
    assert describe_code(tmp_path, {}) == {"commit": None, "dirty": None, "why": "", "files": {}}


LINUX = "Linux-6.1.0-x86_64-with-glibc2.36"


@pytest.mark.parametrize(
    ("before", "told"),
    [
        ({}, []),
        ({"versions": {"torch": "2.1", "numpy": None}, "python": "3.11", "platform": LINUX}, []),
        ({"versions": {"torch": "2.0"}}, ["torch 2.0 → 2.1"]),
        ({"versions": {"pillow": "9", "numpy": "1.26"}, "python": "3.10"}, ["numpy 1.26 → 2.0", "Python 3.10 → 3.11"]),
        ({"versions": {"pydantic": "1"}}, []),  # it computes nothing
        ({"platform": "Linux-5.4.0-generic-x86_64-with-glibc2.31"}, []),
        (
            {"platform": "Linux-6.1.0-aarch64-with-glibc2.36"},
            [f"platform Linux-6.1.0-aarch64-with-glibc2.36 → {LINUX}"],
        ),
        ({"platform": "macOS-14.5-arm64-arm-64bit"}, [f"platform macOS-14.5-arm64-arm-64bit → {LINUX}"]),
        ({"versions": {"torch": "\x1b[2J"}}, ["torch \\x1b[2J → 2.1"]),
        ({"versions": ["2.0"], "python": 3, "platform": None}, []),  # by another program
        ({"versions": {"torch": {}}}, []),
    ],
)
def test_software_that_computes_and_has_changed_is_named(before: dict[str, Any], told: list[str]) -> None:
    now = {"versions": {"torch": "2.1", "numpy": "2.0"}, "python": "3.11", "platform": LINUX}
    assert changed_software(before, now) == told


def test_this_process_has_the_software_of_its_manifest() -> None:
    about = describe_invocation(["x"])
    assert changed_software(about, describe_software()) == []
    assert changed_software({**about, "platform": "Plan9-4-mips"}, describe_software())


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A git checkout with the tracked file tracked.py."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "tracked.py").write_text("1")
    git(folder, "add", "tracked.py")
    git(folder, "commit", "-q", "-m", "one")
    return folder


def git(folder: Path, *arguments: str) -> None:
    author = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    subprocess.run(["git", *author, *arguments], cwd=folder, check=True, capture_output=True)


def module(path: Path, text: str = "") -> types.ModuleType:
    """A module that was imported from `path`."""
    if text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    made = types.ModuleType(path.stem)
    made.__file__ = str(path)
    return made


def test_the_commit_and_whether_it_is_dirty(checkout: Path) -> None:
    clean = describe_code(checkout, {})
    (checkout / "tracked.py").write_text("2")
    assert len(clean["commit"]) == 40
    assert clean["dirty"] is False
    assert describe_code(checkout, {}) == {**clean, "dirty": True}


def test_an_imported_file_that_git_does_not_track_makes_the_checkout_dirty(checkout: Path) -> None:
    (checkout / "notes.py").write_text("not imported")
    tracked = {"tracked": module(checkout / "tracked.py")}
    assert describe_code(checkout, tracked)["dirty"] is False
    mine = {**tracked, "mynet": module(checkout / "deep" / "mynet.py", "x = 1")}
    assert describe_code(checkout, mine)["dirty"] is True
    elsewhere = {**tracked, "mynet": module(checkout.parent / "elsewhere.py", "x = 1")}
    assert describe_code(checkout, elsewhere)["dirty"] is False
    assert list(describe_code(checkout, elsewhere)["files"]) == ["mynet", "tracked"]


def test_an_ignored_file_counts_too(checkout: Path) -> None:
    (checkout / ".git" / "info" / "exclude").write_text("mynet.py\n")
    assert describe_code(checkout, {"mynet": module(checkout / "mynet.py", "x = 1")})["dirty"] is True


@pytest.mark.parametrize(
    ("name", "source", "is_recorded"),
    [
        ("mynet", "mynet.py", True),
        ("my.package.net", "my/package/net.py", True),
        ("__main__", "script.py", True),
        ("__mp_main__", "script.py", False),  # multiprocessing's second name of __main__
        ("signs_dist.models.mine", "mine.py", True),
        ("signs_dist.training.run", "run.py", False),
        ("launch.local", "local.py", False),
        ("slurm.dev_cluster", "dev.py", False),
        ("compiled", "compiled.so", False),
        ("gone", None, False),
    ],
)
def test_which_imported_files_are_recorded(tmp_path: Path, name: str, source: str | None, is_recorded: bool) -> None:
    path = tmp_path / (source or "never-written.py")
    found = imported_files({name: module(path, "x = 1" if source else "")})
    digest = hashlib.sha256(b"x = 1").hexdigest()
    assert found == ({name: {"path": str(path), "sha256": digest}} if is_recorded else {})


@pytest.mark.parametrize(
    ("command", "is_recorded"),
    [("signs_dist.train", False), ("signs_dist.evaluate", False), ("launch.local", False), ("mytools.train", True)],
)
def test_a_command_of_the_toolkit_is_not_recorded_as_own_code(tmp_path: Path, command: str, is_recorded: bool) -> None:
    program = module(tmp_path / "train.py", "x = 1")
    program.__spec__ = importlib.machinery.ModuleSpec(command, None)  # as `python -m` sets it
    assert list(imported_files({"__main__": program, "__mp_main__": program})) == (["__main__"] if is_recorded else [])


def test_installed_packages_and_the_standard_library_are_not_recorded() -> None:
    assert imported_files({"json": json, "numpy": numpy, "torch": torch, "sys": sys, "nothing": None}) == {}


def test_a_link_counts_as_the_file_that_it_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed, own = tmp_path / "installed", tmp_path / "own"
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(installed))
    modules = {name: module(installed / f"{name}.py", name) for name in ("plain", "theirs")}
    modules["mine"] = module(own / "mine.py", "mine")
    for link, target in ((installed / "to_mine.py", own / "mine.py"), (own / "to_theirs.py", installed / "theirs.py")):
        link.symlink_to(target)
        modules[link.stem] = module(link)
    (tmp_path / "to_installed").symlink_to(installed)
    modules["through_a_folder"] = module(tmp_path / "to_installed" / "plain.py")
    found = imported_files(modules)
    assert {name: file["path"] for name, file in found.items()} == dict.fromkeys(
        ("mine", "to_mine"), str(own / "mine.py")
    )


@pytest.mark.parametrize(
    ("before", "now", "changed"),
    [
        ({"a": "1"}, {"a": "1"}, []),
        ({"a": "1"}, {"a": "2"}, ["/x/a.py"]),
        ({"a": "1", "b": "1"}, {"a": "2", "b": "2"}, ["/x/a.py", "/x/b.py"]),
        ({}, {"a": "2"}, []),
        ({"a": "1"}, {}, []),
        ({"__main__": "1"}, {"__main__": "2"}, ["/x/__main__.py"]),  # a script that holds the network
    ],
)
def test_files_that_both_have_imported_are_compared(
    before: dict[str, str], now: dict[str, str], changed: list[str]
) -> None:
    def described(digests: dict[str, str]) -> dict[str, Any]:
        return {"files": {name: {"path": f"/x/{name}.py", "sha256": digest} for name, digest in digests.items()}}

    assert changed_files(described(before), described(now)) == changed
    assert changed_files({}, described(now)) == []  # a run of an earlier release


def test_two_programs_are_not_compared() -> None:
    trained, evaluated = (
        {"files": {"__main__": {"path": f"/x/{name}.py", "sha256": name}}} for name in ("train", "evaluate")
    )
    assert changed_files(trained, evaluated) == []


@pytest.mark.parametrize(
    ("trouble", "told"),
    [
        ("", ""),
        ("fatal: not a git repository (or any of the parent directories): .git", ""),
        (
            "fatal: detected dubious ownership in repository at '/home/b/code'\nTo add an exception for this "
            "directory, call:\n\n\tgit config --global --add safe.directory /home/b/code\n",
            "no commit is recorded: the checkout belongs to another user, and git does not read it. "
            "Type: git config --global --add safe.directory /home/b/code",
        ),
    ],
)
def test_why_there_is_no_commit(trouble: str, told: str) -> None:
    assert explain_no_commit(trouble) == told


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file to another user")
def test_git_really_refuses_a_checkout_of_another_user(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(checkout.parent))  # without a safe.directory
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.delenv("SUDO_UID", raising=False)
    for path in (checkout, checkout / ".git"):
        os.chown(path, 12345, 12345)
    found = describe_code(checkout, {})
    assert (found["commit"], found["dirty"]) == (None, None)
    assert found["why"].endswith(f"Type: git config --global --add safe.directory {checkout}")
