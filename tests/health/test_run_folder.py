"""The run folder: what cannot be done there, how fast it is, and what other machines see of it."""

from __future__ import annotations

import dataclasses
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from signs_dist.health import run_folder
from signs_dist.health.finding import places_of
from signs_dist.health.run_folder import (
    FolderReading,
    SharedView,
    existing,
    file_system_of,
    judge,
    judge_machine,
    judge_view,
    measure,
)
from tests.processes import printed_in_own_mounts

GOOD = FolderReading("/runs", "", 200 * 2**20, 0.01, 100 * 2**30, "ext4", 0.0)


@pytest.mark.parametrize(
    ("changes", "status", "told", "mend"),
    [
        ({}, "ok", "/runs (ext4): written and flushed at 200 MiB/s, a flush in 10 ms, 100.0 GiB free", ""),
        ({"problem": "cannot make a folder: Read-only file system"}, "fail", "Read-only", "remount,rw /runs"),
        ({"problem": "cannot write a file: No space left on device"}, "fail", "No space left", "df -h /runs"),
        ({"problem": "cannot make a folder: Permission denied"}, "fail", "Permission", "chmod u+rwx /runs"),
        ({"problem": "cannot lock a file: No locks available"}, "fail", "No locks", "flock"),
        ({"free_bytes": 2**20}, "warn", "0.0 GiB free", "free some space"),
        ({"write_bytes_per_second": 2**20}, "warn", "slow: ", "checkpoint.every_seconds"),
        ({"flush_seconds": 3.0}, "warn", "a flush in 3000 ms", "checkpoint.every_seconds"),
        ({"clock_seconds": 7.0}, "warn", "its file server is 7.0 s ahead of this machine's", "chronyc"),
    ],
)
def test_judging(changes: dict[str, Any], status: str, told: str, mend: str) -> None:
    finding = judge_machine(dataclasses.replace(GOOD, **changes))
    assert finding.status == status
    assert told in finding.measured
    assert mend in finding.mend


def test_the_machine_that_cannot_write_is_named() -> None:
    bad = dataclasses.replace(GOOD, problem="cannot make a folder: Read-only file system")
    found = judge({0: vars(GOOD), 2: vars(bad)}, places_of({0: "n1", 1: "n1", 2: "n2"}))
    assert found[0].status == "fail"
    assert found[0].measured == "n2: /runs (ext4): cannot make a folder: Read-only file system"


def test_a_folder_that_is_in_order(tmp_path: Path) -> None:
    reading = FolderReading(**measure(tmp_path / "not" / "there", 2**20))
    assert (reading.folder, reading.problem) == (str(tmp_path), "")
    assert reading.write_bytes_per_second > 0
    assert list(tmp_path.iterdir()) == []  # nothing stays


def test_a_folder_that_is_a_dead_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise OSError(37, os.strerror(37))

    monkeypatch.setattr(run_folder, "_lock", refuse)
    reading = FolderReading(**measure(tmp_path, 2**20))
    assert reading.problem == "cannot lock a file: No locks available"
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_whose_locks_do_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fcntl.flock", lambda file, operation: None)
    finding = judge_machine(FolderReading(**measure(tmp_path, 2**20)))
    assert finding.status == "fail"
    assert finding.measured.endswith("cannot lock a file: two programs got the same lock")
    assert finding.mend.startswith("mount it with locks ")


CODE = """
import json, pathlib, sys
from signs_dist.health.run_folder import measure
print(json.dumps(measure(pathlib.Path(sys.argv[1]), 2**20)))
"""


@pytest.mark.parametrize(
    ("mount", "told"),
    [
        ('mount --bind "$2" "$2" && mount -o remount,ro,bind "$2"', "cannot make a folder: Read-only file system"),
        ('mount -t tmpfs -o size=64k tmpfs "$2"', "cannot write a file: No space left on device"),
    ],
)
def test_a_real_folder_that_cannot_be_written(tmp_path: Path, mount: str, told: str) -> None:
    reading = FolderReading(**json.loads(printed_in_own_mounts(mount, CODE, str(tmp_path))))
    assert (reading.folder, reading.problem) == (str(tmp_path), told)
    assert judge_machine(reading).status == "fail"


def test_the_nearest_folder_that_exists(tmp_path: Path) -> None:
    assert existing(tmp_path / "a" / "b") == tmp_path
    (tmp_path / "file").touch()
    assert existing(tmp_path / "file") == tmp_path


def test_the_file_system() -> None:
    mounts = "/dev/a / ext4 rw 0 0\nserver:/x /runs nfs4 rw 0 0\ntmpfs /runs/my\\040own tmpfs rw 0 0\n"
    assert file_system_of(Path("/home/me"), mounts) == "ext4"
    assert file_system_of(Path("/runs/a"), mounts) == "nfs4"
    assert file_system_of(Path("/runs/my own"), mounts) == "tmpfs"
    assert file_system_of(Path("/runs"), "") == ""


def test_a_view_that_is_shared(tmp_path: Path) -> None:
    writer, other = SharedView(tmp_path, "a"), SharedView(tmp_path, "a")
    timer = threading.Timer(0.1, lambda: writer.write("first"))
    timer.start()
    late = other.look("first", 10.0)
    timer.join(5)
    assert late is not None
    assert 0.05 < late < 9
    writer.write("second")
    assert other.look("second", 10.0) is not None
    assert other.look("first", 0.05) is None
    writer.remove()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("seen", "status", "told"),
    [
        ({}, "skip", "all ranks are on one machine"),
        ({1: (0.1, 0.2)}, "ok", "2 machines see the same files in /runs, the last one after 0.20 s"),
        ({1: (None, None)}, "fail", "n2 does not see in /runs what n1 writes there"),
        ({1: (0.1, 7.5)}, "warn", "n2 sees 7.5 s late what n1 writes to /runs"),
        ({1: (0.1, None)}, "warn", "n2 sees more than 12 s late what n1 writes"),
    ],
)
def test_judging_the_view(seen: dict[int, tuple[float | None, float | None]], status: str, told: str) -> None:
    (finding,) = judge_view(seen, places_of({0: "n1", 1: "n2"}), "/runs")
    assert finding.status == status
    assert told in finding.measured
