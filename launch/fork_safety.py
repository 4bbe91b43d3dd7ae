"""Whether workers may be forked from a process that has imported torch, and why not."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .forked_interpreter import can_run

SWITCH = "SIGNS_DIST_FORK"
"""An environment variable: with the value 0 each worker is a new interpreter."""
DEVICE_FILES = ("/dev/nvidia", "/dev/kfd", "/dev/dri")
"""How the names of files begin that a process has open once it has a context on a GPU, which no fork survives."""


def reason_before_imports(switch: str | None, platform: str, arguments: Sequence[str]) -> str:
    """Why workers are not forked, as far as it is known before the imports; "" if nothing speaks against it.

    Args:
        switch: SIGNS_DIST_FORK, or None.
        platform: sys.platform.
        arguments: of Python, for each worker.
    """
    if switch == "0":
        return f"{SWITCH}=0"
    if platform != "linux":
        return f"a fork after imports is not safe on {platform}"
    if not can_run(arguments):
        return f"python {' '.join(arguments[:1])} is not a program that begins with -m or -c"
    return ""


def reason_after_imports(num_threads: int, open_files: Sequence[str], has_cuda: bool) -> str:
    """Why this process must not be forked; "" if it may be.

    Args:
        num_threads: of this process. A fork copies the locks of threads, but not the threads that release them.
        open_files: of this process.
        has_cuda: whether torch has initialised CUDA.
    """
    if has_cuda or any(name.startswith(DEVICE_FILES) for name in open_files):
        return "the imports have opened a GPU"
    if num_threads != 1:
        return f"after the imports there are {num_threads} threads"
    return ""


def reason_now() -> str:
    """`reason_after_imports` for this process as it is now."""
    if _count_threads() > 1:
        # OpenBLAS, which numpy loads, ends its threads at a fork, and starts them again when they are needed.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of a fork beside threads
            pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
    torch: Any = sys.modules.get("torch")
    return reason_after_imports(_count_threads(), _open_files(), torch is not None and torch.cuda.is_initialized())


def _count_threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def _open_files() -> list[str]:
    found = []
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the folder itself, which was open while it was listed
            found.append(str(path.readlink()))
    return found
