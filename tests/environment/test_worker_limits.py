"""Limits of this process, as the system tells them."""

from __future__ import annotations

import os
import resource
import tempfile
from pathlib import Path

import pytest

from signs_dist.environment import worker_limits
from signs_dist.environment.worker_limits import read_limits


def test_limits_are_those_of_the_system(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = read_limits()
    with (tmp_path / "a").open("w"), (tmp_path / "b").open("w"):
        found = read_limits()
    assert found.open_files == (None if soft == resource.RLIM_INFINITY else soft)
    assert found.open_files_ceiling == (None if hard == resource.RLIM_INFINITY else hard)
    assert found.temporary_folder == tempfile.gettempdir()
    if Path("/proc/self/fd").exists():
        assert found.num_open_files == before.num_open_files + 2


def test_shared_memory_of_a_machine(tmp_path: Path) -> None:
    free, is_writable = worker_limits._shared_memory(tmp_path)
    assert free is None or free > 0
    assert is_writable
    assert worker_limits._shared_memory(tmp_path / "missing") == (None, True)  # no such folder: another system


def test_shared_memory_that_may_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert worker_limits._shared_memory(tmp_path)[1] is False


def test_no_temporary_folder_is_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", fail)
    monkeypatch.setenv("TMPDIR", "/nowhere")
    assert read_limits().temporary_folder == "/nowhere"
