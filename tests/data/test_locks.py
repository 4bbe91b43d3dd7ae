"""A lock that another process holds is waited for aloud, and not for ever."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from filelock import FileLock

from signs_dist.data import locks
from signs_dist.data.locks import describe_holder, locked
from signs_dist.errors import UserError
from tests.processes import wait_until


def test_a_free_lock_is_taken_and_released(tmp_path: Path) -> None:
    told: list[str] = []
    for _ in range(2):
        with locked(tmp_path / "a.lock", "packs", tell=told.append, seconds=0):
            pass
    assert told == []


def test_a_lock_that_is_held_is_told_and_taken_when_it_is_free(tmp_path: Path) -> None:
    path, told = tmp_path / "a.lock", []
    held = FileLock(path, thread_local=False)
    held.acquire()

    def release() -> None:
        wait_until(lambda: bool(told))
        held.release()

    thread = threading.Thread(target=release)
    thread.start()
    with locked(path, "packs these images", tell=told.append, notice_seconds=0.05):
        assert "packs these images" in told[0]
        assert str(path) in told[0]
        assert told[0].startswith("waits until ")
    thread.join(60)


def test_a_lock_that_never_comes_ends_the_wait(tmp_path: Path) -> None:
    with FileLock(tmp_path / "a.lock"):
        lock = locked(tmp_path / "a.lock", "packs these images", seconds=0.05)
        with pytest.raises(UserError, match=r"packs these images, and held .*a.lock for 0.05 s. End it"):
            lock.__enter__()


def test_a_file_system_without_locks_is_an_error_of_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def acquire(self: FileLock, timeout: float) -> None:
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr(FileLock, "acquire", acquire)
    with pytest.raises(OSError, match=r"a\.lock"):
        locked(tmp_path / "a.lock", "packs").__enter__()


def test_the_holder_is_named_with_its_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.lock"
    path.touch()
    status = path.stat()
    place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    table = tmp_path / "locks"
    table.write_text(
        f"1: POSIX  ADVISORY  WRITE 77 00:00:1 0 EOF\n2: FLOCK  ADVISORY  WRITE {os.getpid()} {place} 0 EOF\n"
        f"2: -> FLOCK  ADVISORY  WRITE 78 {place} 0 EOF\n"
    )
    monkeypatch.setattr(locks, "LOCKS", table)
    assert describe_holder(path).startswith(f"process {os.getpid()} (")
    assert describe_holder(tmp_path / "missing") == "another process"
    table.write_text(f"2: FLOCK  ADVISORY  WRITE 0 {place} 0 EOF\n")  # the holder is in another container
    assert describe_holder(path) == "another process"
    monkeypatch.setattr(locks, "LOCKS", tmp_path / "missing")  # not Linux
    assert describe_holder(path) == "another process"
