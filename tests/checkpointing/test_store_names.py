"""The names of checkpoints, those of earlier releases, and what has such a name and is no file."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from signs_dist.checkpointing.resume_rules import find_checkpoint, set_aside
from signs_dist.checkpointing.store import CheckpointStore, Cursor
from signs_dist.run_folder.digest import digest_path, find_damage
from tests.checkpointing.stored import content, put, write


def test_names_of_both_releases_are_ordered_by_place(tmp_path: Path) -> None:
    names = ["epoch0001-step000000.pt", "epoch-0002-step-000003.pt", "epoch0001-step000004.pt", "epoch-0002.pt"]
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / "epoch0002-step000000.pt").touch()
    (tmp_path / "epoch-10000.pt").touch()
    store = CheckpointStore(tmp_path)
    found = [path.name for _, path in reversed(store.files())]
    assert found == [*names[:3], "epoch0002-step000000.pt", "epoch-0002.pt", "epoch-10000.pt"]


def test_old_checkpoints_of_an_earlier_release_are_deleted_in_turn(tmp_path: Path) -> None:
    for number in (1, 2):
        torch.save(content(number), tmp_path / "a.pt")
        old = put(tmp_path, (tmp_path / "a.pt").read_bytes(), number)
        old.rename(tmp_path / f"epoch{number:04}-step000000.pt")
        digest_path(old).rename(digest_path(tmp_path / f"epoch{number:04}-step000000.pt"))
    (tmp_path / "a.pt").unlink()
    CheckpointStore(tmp_path, 2).write(Cursor(3, 0), content(3), Cursor(1, 0))
    assert {path.name for path in tmp_path.glob("epoch*.pt")} == {
        "epoch0001-step000000.pt",  # the best
        "epoch0002-step000000.pt",
        "epoch-0003.pt",
    }


def make_socket(path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(f"/proc/self/fd/{folder}/{path.name}")  # a socket's path is short
    finally:
        os.close(folder)


OTHER_KINDS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "folder": (Path.mkdir, "it is a folder, not a file"),
    "pipe": (os.mkfifo, "it is a pipe (FIFO), not a file"),
    "socket": (make_socket, "it is a socket, not a file"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "it is a device, not a file"),
    "loop": (lambda path: path.symlink_to(path.name), "it is a loop of links, not a file"),
    "link": (lambda path: path.symlink_to("nowhere"), "it is a link to nothing, not a file"),
}


@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_what_is_no_file_is_passed_over_and_renamed(tmp_path: Path, kind: str) -> None:
    make, told = OTHER_KINDS[kind]
    store = write(tmp_path, range(1, 2))
    newest = tmp_path / "epoch-0002.pt"
    make(newest)
    digest_path(newest).write_text(f"{'0' * 64}  {newest.name}\n")
    found = find_checkpoint(store, has_saved=True)
    assert found.path == tmp_path / "epoch-0001.pt"
    assert found.notes[0] == f"{newest} is broken: {told}."
    set_aside(store, [newest])
    assert os.path.lexists(f"{newest}.broken")
    assert store.write(Cursor(2, 0), content(2), None) > 0


@pytest.mark.parametrize("kind", ["folder", "pipe", "loop"])
def test_a_digest_that_is_no_file(tmp_path: Path, kind: str) -> None:
    make, told = OTHER_KINDS[kind]
    write(tmp_path, range(1, 3))
    digest = digest_path(tmp_path / "epoch-0002.pt")
    digest.unlink()
    make(digest)
    assert find_damage(tmp_path / "epoch-0002.pt") == told.replace("it is", f"{digest.name} is")
    found = find_checkpoint(CheckpointStore(tmp_path, 2), has_saved=True)
    assert found.path == tmp_path / "epoch-0001.pt"


def test_remains_that_cannot_be_removed_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / ".epoch-0001.pt.part").mkdir()
    (tmp_path / "epoch-0001.pt.sha256").mkdir()
    assert find_checkpoint(CheckpointStore(tmp_path), has_saved=False).path is None
