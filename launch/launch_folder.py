"""The temporary folder of a launch, which its agent reads and writes. What a killed launch leaves, the next removes."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from signs_dist.environment.process_table import is_alive, read_birth
from signs_dist.run_folder.holder import process_id_scope

PREFIX = "signs_dist-launch-"
OWNERS = "owners.jsonl"
"""A line for each process that uses the folder: where its id is unique, its id, and when it began."""


@contextlib.contextmanager
def launch_folder() -> Iterator[Path]:
    """A new folder for this launch, removed at the end. Folders that killed launches have left are removed first."""
    remove_left_folders(Path(tempfile.gettempdir()))
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    try:
        note_owner(folder, os.getpid())
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def note_owner(folder: Path, pid: int) -> None:
    """Note that a process of this machine uses the folder."""
    owner = {"scope": process_id_scope(socket.gethostname()), "pid": pid, "birth": read_birth(pid)}
    with (folder / OWNERS).open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(owner) + "\n")


def remove_left_folders(temporary: Path) -> None:
    """Remove this user's folders of launches whose processes have all ended. Any other folder stays."""
    for folder in temporary.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # another launch removes it too
            if _is_left(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _is_left(folder: Path) -> bool:
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        return False
    scope = process_id_scope(socket.gethostname())
    try:
        owners = [json.loads(line) for line in (folder / OWNERS).read_text(encoding="utf-8").splitlines()]
        return bool(owners) and all(
            owner["scope"] == scope and not is_alive(owner["pid"], owner["birth"]) for owner in owners
        )
    except (ValueError, LookupError, TypeError):
        return False
