"""What this machine and this process allow loader workers: open files, shared memory, a folder for temporary files."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")
"""Where the system keeps shared memory (shm_overview(7))."""


@dataclasses.dataclass(frozen=True)
class Limits:
    """What this process may use.

    Attributes:
        temporary_folder: where temporary files and the sockets of worker processes are made (TMPDIR).
        open_files: how many files a process may have open (`ulimit -n`); None: no limit.
        open_files_ceiling: up to what the user may raise it (`ulimit -Hn`); None: no limit.
        num_open_files: how many this process has open now; 0 on systems without /proc.
        shared_bytes: free bytes of shared memory; None where the system does not say.
        is_shared_writable: whether this process may make shared memory.
    """

    temporary_folder: str
    open_files: int | None
    open_files_ceiling: int | None
    num_open_files: int
    shared_bytes: int | None
    is_shared_writable: bool


def read_limits() -> Limits:
    """The limits of this process now."""
    soft, hard = _open_files()
    shared_bytes, is_writable = _shared_memory(SHARED_MEMORY)
    return Limits(_temporary_folder(), soft, hard, _count_open_files(), shared_bytes, is_writable)


def _temporary_folder() -> str:
    try:
        return tempfile.gettempdir()
    except OSError:  # no folder can be written; whatever needs one reports it
        return os.environ.get("TMPDIR", "")


def _open_files() -> tuple[int | None, int | None]:
    import resource

    numbers = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft, hard = (None if number == resource.RLIM_INFINITY else number for number in numbers)
    return soft, hard


def _count_open_files() -> int:
    try:
        return sum(1 for _ in Path("/proc/self/fd").iterdir())
    except OSError:
        return 0


def _shared_memory(folder: Path) -> tuple[int | None, bool]:
    try:
        status = os.statvfs(folder)
    except OSError:
        return None, True
    # 0 blocks: a file system that does not count, such as a folder of the host in some containers
    free = status.f_bavail * status.f_frsize if status.f_blocks else None
    return free, os.access(folder, os.W_OK)
