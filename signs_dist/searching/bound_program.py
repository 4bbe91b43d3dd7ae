"""Becomes another program that does not outlive the process which started it, and stays on some cores.

python bound_program.py PARENT CORES PROGRAM ARGUMENT …

PARENT is the process id of the starter, CORES numbers with commas between them or "". When the starter ends, by SIGKILL
too, the system sends SIGTERM to the program, which saves and ends. Without such a signal in the system, as outside of
Linux, the program is started all the same. This file imports the standard library only: it starts in hundredths of a
second.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Sequence

PR_SET_PDEATHSIG = 1
"""From prctl(2). The setting survives execve(2)."""
EXIT_STOPPED = 75
"""As `signs_dist.errors.EXIT_STOPPED`."""


def main(arguments: Sequence[str]) -> None:
    """Bind this process, and become the program."""
    parent, cores, *program = arguments
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != int(parent):  # it ended before the call
        sys.exit(EXIT_STOPPED)
    if cores and hasattr(os, "sched_setaffinity"):
        with contextlib.suppress(OSError):  # a core was taken from this process meanwhile
            os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
    os.execv(program[0], program)


if __name__ == "__main__":
    main(sys.argv[1:])
