"""Whether a process works in a run folder, as a third process can tell: on this machine or on another one."""

from __future__ import annotations

import os
import platform
import tempfile
import time
from pathlib import Path

from signs_dist.run_folder.holder import Holder
from signs_dist.run_folder.lease import NAME as LEASE

CLOCK_SECONDS = 60.0
"""How much the clocks of two machines may differ, where the file system's own clock cannot be read."""


class FileClock:
    """The clock with which a file system stamps its files. A file server's clock may differ from this machine's.

    Args:
        folder: where a nameless file is made for a moment, once, to read the clock: not a run folder.

    Attributes:
        doubt_seconds: how wrong `now` may be: 0, or `CLOCK_SECONDS` where no file can be made there.
    """

    def __init__(self, folder: Path) -> None:
        self._ahead, self.doubt_seconds = 0.0, 0.0
        try:
            with tempfile.TemporaryFile(dir=folder) as file:
                self._ahead = os.fstat(file.fileno()).st_mtime - time.time()
        except OSError:
            self.doubt_seconds = CLOCK_SECONDS

    def now(self) -> float:
        """Seconds since 1970."""
        return time.time() + self._ahead


def is_held(run_path: Path, takeover_seconds: float, clock: FileClock | None = None) -> bool:
    """Whether a process holds the lease of a run folder.

    A holder on this machine is looked up by its process id and birth. A holder elsewhere touches its lease all the
    time: it counts as gone when it has not done so for `takeover_seconds`, as for a run that wants to take over.

    Args:
        run_path: the run folder.
        takeover_seconds: `checkpoint.takeover_seconds` of the run.
        clock: of the file system; None: it is read if it is needed.
    """
    path = run_path / LEASE
    holder = Holder.read(path)  # opening the file also lets NFS fetch its present time
    if holder is None:
        return False
    host = platform.node()
    if holder.is_here(host):
        return not holder.is_gone(host)
    clock = clock or FileClock(run_path.absolute().parent)
    try:
        touched = path.stat().st_mtime
    except OSError:  # released just now
        return False
    return clock.now() - touched <= takeover_seconds + clock.doubt_seconds
