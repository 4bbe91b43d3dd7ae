"""Lock files: one process works while the others wait, say for whom, and give up after a limit."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from signs_dist.environment.process_table import describe_process
from signs_dist.errors import UserError
from signs_dist.monitoring.waiting import telling

LOCK_SECONDS = 24 * 3600.0
"""How long a lock is waited for: the holder may pack or convert a million images."""
LOCKS = Path("/proc/locks")


@contextlib.contextmanager
def locked(
    path: Path,
    what: str,
    *,
    tell: Callable[[str], None] | None = None,
    seconds: float = LOCK_SECONDS,
    notice_seconds: float | None = None,
) -> Iterator[None]:
    """Within the block this process holds a lock file. The system releases the lock of a process that ends.

    Args:
        path: the lock file.
        what: what the holder does, such as `packs these images`.
        tell: gets a line after 10 seconds, and again each minute; None: standard error.
        seconds: how long to wait.
        notice_seconds: None: 10.

    Raises:
        OSError: the file cannot be made, or the file system knows no locks.
        UserError: another process held it for `seconds`.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path)
    with telling(
        lambda: f"waits until {describe_holder(path)} {what} (lock {path})", tell=tell, notice_seconds=notice_seconds
    ):
        try:
            lock.acquire(timeout=seconds)
        except Timeout:
            raise UserError(
                f"{describe_holder(path)} {what}, and held {path} for {seconds:g} s. End it, and repeat the command."
            ) from None
        except NotImplementedError as error:  # what early releases of filelock make of ENOSYS
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), str(path)) from error
    try:
        yield
    finally:
        lock.release()


def describe_holder(path: Path) -> str:
    """The process that holds a lock file, and what it does; `another process` if it is on another machine."""
    try:
        status = path.stat()
        lines = LOCKS.read_text(encoding="ascii").splitlines()
    except OSError:
        return "another process"
    # proc_locks(5): number, kind, mode, access, process id, MAJOR:MINOR:INODE (hexadecimal, hexadecimal, decimal)
    place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    for line in lines:
        words = line.split()
        if "->" not in words and place in words and words[4].isdigit() and words[4] != "0":
            return describe_process(int(words[4]))
    return "another process"
