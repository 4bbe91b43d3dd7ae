from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from signs_dist.data import folder_state
from signs_dist.data.folder_state import DEAD_LINK, FILE, FOLDER, LINKED_FILE, LINKED_FOLDER, OTHER
from tests.data.photo_files import write_files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_files(tmp_path, {"there/x": b"", "all/0.jpg": b"12345", "all/inner/1.jpg": b""})
    folder = tmp_path / "all"
    (folder / "file").symlink_to(folder / "0.jpg")
    (folder / "linked").symlink_to(tmp_path / "there")
    (folder / "gone").symlink_to("nowhere")
    (folder / "self").symlink_to("self")
    os.mkfifo(folder / "pipe")
    return folder


KINDS = {
    "0.jpg": FILE,
    "file": LINKED_FILE,
    "gone": DEAD_LINK,
    "inner": FOLDER,
    "linked": LINKED_FOLDER,
    "pipe": OTHER,
    "self": DEAD_LINK,
}


@pytest.mark.parametrize("with_stamps", [False, True])
def test_the_kinds_of_entries(folder: Path, with_stamps: bool) -> None:
    names, numbers = folder_state.read_folder(folder, with_stamps=with_stamps)
    assert dict(zip(names, numbers[::4], strict=True)) == KINDS
    assert names == sorted(KINDS)
    status = (folder / "0.jpg").stat()
    stamps = [5, status.st_mtime_ns, status.st_ctime_ns]
    assert list(numbers[1:4]) == (stamps if with_stamps else [0, 0, 0])


def test_what_may_not_be_looked_at_is_a_folder_where_its_name_tells(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a folder that may be read and not entered is refused, instead of being passed over as a file."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as changed:
        changed.setattr(os, "stat", refuse)
        names, numbers = folder_state.read_folder(folder)
    kinds = {name: FOLDER if kind == FOLDER else OTHER for name, kind in KINDS.items()}
    assert dict(zip(names, numbers[::4], strict=True)) == kinds


def test_a_file_of_a_far_future_has_the_last_time_that_64_bits_hold(folder: Path) -> None:
    os.utime(folder / "0.jpg", ns=(0, 2**63))  # in the year 2262; some file systems have an earlier last time
    names, numbers = folder_state.read_folder(folder)
    last = min((folder / "0.jpg").stat().st_mtime_ns, 2**63 - 1)
    assert [numbers[4 * names.index(name) + 2] for name in ("0.jpg", "file")] == [last, last]
    assert len(numbers) == 4 * len(names)


def grow(folder: Path) -> None:
    (folder / "0.jpg").write_bytes(b"123456")


def touch(folder: Path) -> None:
    os.utime(folder / "0.jpg", ns=(0, 0))


def lead_elsewhere(folder: Path) -> None:
    (folder / "linked").unlink()
    (folder / "linked").symlink_to(folder / "inner")


CHANGES: dict[str, Callable[[Path], object]] = {
    "a file grows": grow,
    "a file is written again": touch,
    "a file is added": lambda folder: (folder / "1.jpg").touch(),
    "a file is removed": lambda folder: (folder / "0.jpg").unlink(),
    "a file is renamed": lambda folder: (folder / "0.jpg").rename(folder / "00.jpg"),
    "a folder is added": lambda folder: (folder / "more").mkdir(),
    "a link leads to another folder": lead_elsewhere,
    "a linked file grows": grow,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_change_gives_another_digest(folder: Path, change: Callable[[Path], object]) -> None:
    before = folder_state.digest_now(folder)
    assert folder_state.digest_now(folder) == before
    change(folder)
    assert folder_state.digest_now(folder) != before


def test_what_happens_in_a_folder_below_is_told_by_that_folder(folder: Path) -> None:
    before = folder_state.digest_now(folder)
    (folder / "inner/2.jpg").touch()
    assert folder_state.digest_now(folder) == before


def test_as_a_process_of_its_own(folder: Path) -> None:
    odd = folder / os.fsdecode(b"odd\xff\n")
    odd.mkdir()
    given = b"".join(os.fsencode(path) + b"\0" for path in (folder, odd, folder / "nowhere"))
    command = [sys.executable, "-I", "-S", folder_state.__file__]
    done = subprocess.run(command, input=given, capture_output=True, check=True, timeout=60)
    digests = [folder_state.digest_now(path) for path in (folder, odd)]
    assert done.stdout.decode().split() == [*digests, folder_state.UNREADABLE]
    assert done.stderr == b""
