"""Limits of the system: which one an error ran into, and who can raise it."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys

import pytest

from signs_dist.environment.limit_errors import explain_limit, session_limits

LIMITS = {"memory": (2**30, -1), "files": (256, 4096), "processes": (100, 100)}
NONE = {"memory": (-1, -1), "files": (-1, -1), "processes": (-1, -1)}


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            MemoryError(),
            "the memory of a process to 1,073,741,824 bytes (ulimit -v). To raise it, type: ulimit -v unlimited",
        ),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "ulimit -v unlimited"),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), "ulimit -v unlimited"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"), "ulimit -v"),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."), "ulimit -v"),
        (
            OSError(errno.EMFILE, "Too many open files", "a.jpg"),
            "open files of a process to 256 (ulimit -n). To raise it, type: ulimit -n 4096",
        ),
        (OSError(errno.ENFILE, "Too many open files in system"), ""),  # of the whole machine
        (RuntimeError("unable to open file in read-only mode: Too many open files (24)"), "ulimit -n"),
        (RuntimeError("can't start new thread"), "(ulimit -u): a new session may have a higher one"),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), "ulimit -u"),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ""),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), ""),
        (OSError(errno.ENOENT, "No such file or directory"), ""),
        (ValueError("too few"), ""),
    ],
)
def test_which_limit_and_who_can_raise_it(error: BaseException, told: str) -> None:
    found = explain_limit(error, LIMITS)
    assert told in found
    assert bool(found) == bool(told)
    assert explain_limit(error, NONE) == ""


def test_the_limits_of_this_process_are_read() -> None:
    assert session_limits()["files"] == resource.getrlimit(resource.RLIMIT_NOFILE)
    assert set(session_limits()) == set(LIMITS)


@pytest.mark.parametrize(
    ("limit", "statement", "told"),
    [
        ("-S -v 600000", "import torch", "To raise it, type: ulimit -v unlimited"),
        ("-v 600000", "import torch", "a new session may have a higher one"),
        ("-S -n 12", "x = [open('/dev/null') for _ in range(20)]", "open files of a process to 12 (ulimit -n)"),
        ("-v 600000", "bytearray(2**30)", "error: out of memory. This session limits the memory of a process to 614,4"),
    ],
)
def test_a_command_names_the_limit_and_no_traceback(limit: str, statement: str, told: str) -> None:
    code = [
        "import sys",
        "from signs_dist.console.command import run_command",
        "def main(_):",
        f"    {statement}",
        "    return 0",
        "sys.exit(run_command(main, []))",
    ]
    shell = f'ulimit {limit}; exec {sys.executable} -c "$CODE"'
    done = subprocess.run(
        ["bash", "-c", shell],
        env={**os.environ, "CODE": "\n".join(code)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert told in done.stderr
