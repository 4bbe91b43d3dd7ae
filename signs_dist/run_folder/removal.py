"""Removing a run folder, or its checkpoints, so that no run that works there is touched.

The lease is taken first: no run can begin meanwhile. Then the folder is renamed, and only then its files are deleted.
So a kill at any moment leaves the folder whole, or leaves a folder whose name says that it is partly removed.
"""

from __future__ import annotations

import collections
import contextlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from signs_dist.errors import UserError
from signs_dist.files import NO_SPACE
from signs_dist.run_folder.holder import Holder
from signs_dist.run_folder.lease import NAME as LEASE
from signs_dist.run_folder.lease import Lease

REMOVING = ".removing"
"""What the name of a folder ends with that is being removed, or whose removal was interrupted."""
_IS_REMOVING = re.compile(rf"{re.escape(REMOVING)}(-\d+)?$")
BLOCK_BYTES = 512
"""The unit of `st_blocks` (stat(2))."""


def is_partly_removed(path: Path) -> bool:
    """Whether a folder is what an interrupted removal has left."""
    return _IS_REMOVING.search(path.name) is not None and path.is_dir() and not path.is_symlink()


def left_by_removal(path: Path) -> Path:
    """What an interrupted removal has left of a folder that is gone; else the path itself."""
    left = path.with_name(f"{path.name}{REMOVING}")
    return left if not os.path.lexists(path) and is_partly_removed(left) else path


def removing_path(path: Path) -> Path:
    """A free name beside a folder, which the folder gets before it is removed."""
    number = 1
    while os.path.lexists(aside := path.with_name(f"{path.name}{REMOVING}{'' if number == 1 else f'-{number}'}")):
        number += 1
    return aside


def freed_bytes(paths: Iterable[Path]) -> int:
    """How much space on the disk the removal of files and folders frees.

    A file with several names counts once, and not at all if one of its names is elsewhere. Links are not followed.
    """
    seen: collections.Counter[tuple[int, int]] = collections.Counter()
    sizes: dict[tuple[int, int], tuple[int, int]] = {}
    for status in _statuses(paths):
        key = status.st_dev, status.st_ino
        seen[key] += 1
        sizes[key] = status.st_blocks * BLOCK_BYTES, status.st_nlink
    return sum(size for key, (size, num_names) in sizes.items() if seen[key] >= num_names)


def _statuses(paths: Iterable[Path]) -> Iterator[os.stat_result]:
    """The status of each file and link at and below the paths."""
    for path in paths:
        with contextlib.suppress(OSError):
            if path.is_symlink() or not path.is_dir():
                yield path.lstat()
            if path.is_symlink():  # what it leads to stays
                continue
        for folder, _, names in os.walk(path):
            for name in names:
                with contextlib.suppress(OSError):  # vanished meanwhile
                    yield Path(folder, name).lstat()


def find_runs_within(path: Path) -> list[Path]:
    """The folders within a run folder that are run folders themselves, and would be removed with it."""
    return [
        Path(folder)
        for folder, _, names in os.walk(path)
        if Path(folder) != path and (LEASE in names or {"config.yaml", "attempts.jsonl"} <= set(names))
    ]


def remove_run(path: Path, *, host: str, takeover_seconds: float) -> None:
    """Remove a run folder that nobody works in. A link is removed, and what it leads to stays.

    Args:
        path: a run folder, what an interrupted removal has left, or a link to a run folder.
        host: name of this machine.
        takeover_seconds: as in `Lease.acquire`, which this waits for if the last process of the run was elsewhere.

    Raises:
        UserError: a run works in the folder, or the folder cannot be renamed or deleted.
    """
    try:
        if path.is_symlink():
            path.unlink()
            return
        if is_partly_removed(path):
            shutil.rmtree(path)
            return
        aside = removing_path(path)
        with _held(path, host, takeover_seconds):
            path.rename(aside)
        shutil.rmtree(aside)
    except OSError as error:
        raise _explained(error, path) from error


def has_checkpoints(path: Path) -> bool:
    """Whether a run folder has checkpoints, or what an interrupted removal has left of them."""
    folders = [path / "checkpoints", *path.glob(f"checkpoints{REMOVING}*")]
    return any(folder.is_dir() and any(folder.iterdir()) for folder in folders)


def remove_checkpoints(path: Path, *, host: str, takeover_seconds: float) -> None:
    """Remove the checkpoints of a run that nobody works in; an empty folder for them stays. As `remove_run`."""
    checkpoints = path / "checkpoints"
    try:
        for left in path.glob(f"checkpoints{REMOVING}*"):
            shutil.rmtree(left)
        if not checkpoints.is_dir():
            return
        aside = removing_path(checkpoints)
        with _held(path, host, takeover_seconds):
            checkpoints.rename(aside)
            checkpoints.mkdir()
        shutil.rmtree(aside)
    except OSError as error:
        raise _explained(error, path) from error


@contextlib.contextmanager
def _held(path: Path, host: str, takeover_seconds: float) -> Iterator[None]:
    """Hold the lease of a run folder within the block. On a full disk nobody can take it: no run, nor this process."""
    try:
        lease = Lease.acquire(path, host=host, pid=os.getpid(), takeover_seconds=takeover_seconds)
    except UserError as error:
        if not (isinstance(error.__cause__, OSError) and error.__cause__.errno in NO_SPACE):
            raise
        if Holder.read(path / LEASE) is not None:
            raise UserError(
                f"{path} has a lease, and the disk is too full to take it. Free some space first."
            ) from error
        yield
        return
    try:
        yield
    finally:
        lease.release()


def _explained(error: OSError, path: Path) -> UserError:
    where = error.filename if isinstance(error.filename, str) else path
    return UserError(f"cannot remove {where}: {error.strerror or error}. Repeat the command when it can be removed.")
