"""Fixtures for all tests."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_photos() -> Path:
    """The published SIGNS photos at 64 x 64 pixels: train_signs (864) and val_signs (216)."""
    folder = REPOSITORY.parent / "shared" / "data" / "64x64_SIGNS"
    if not folder.is_dir():
        pytest.skip(f"the real SIGNS photos are not in {folder}")
    return folder


@pytest.fixture(autouse=True)
def _one_thread_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests run side by side: more than one thread each, here and in what they start, would only take turns."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def _nothing_is_left_running() -> Iterator[None]:
    """A test that leaves a process or an environment variable behind fails."""
    environment, before = dict(os.environ), _children()
    yield
    deadline = time.monotonic() + 5
    while (left := _children() - before) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not left, f"the test left processes running: {left}"
    changed = {name for name in {*environment, *os.environ} if environment.get(name) != os.environ.get(name)}
    # pytest's own, and what torch and the OpenMP library note down for their children.
    assert not {name for name in changed if not name.startswith(("PYTEST_", "KMP_", "TORCH"))}, changed


def _children() -> set[tuple[int, str]]:
    """(process id, command line) of this process's children, without multiprocessing's helpers, which are to stay."""
    found = set()
    for thread in Path(f"/proc/{os.getpid()}/task").glob("*/children"):
        for child in _read(thread).split():
            command = _read(Path(f"/proc/{child}/cmdline")).replace("\0", " ")
            if command and "resource_tracker" not in command and "forkserver" not in command:
                found.add((int(child), command))
    return found


def _read(path: Path) -> str:
    """The text of a file in /proc, empty when the thread or process it tells of has ended meanwhile."""
    try:
        return path.read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""
