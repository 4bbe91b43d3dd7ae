"""Processes of this machine by their numbers: whether they live, what is below them, and ending them."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path


def process_state(pid: int) -> str:
    """What the system says about a process of this machine: running, stopped, gone, or unknown where it cannot say."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return "gone"
    except PermissionError:
        pass
    try:
        # The command's name, in brackets, may hold anything: the state is the first word behind the last bracket.
        state = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return "unknown"
    return {"T": "stopped", "t": "stopped", "Z": "gone", "X": "gone"}.get(state, "running")


def read_birth(pid: int) -> str:
    """When a process of this machine began, as the system counts; "" where it does not say."""
    try:
        # The 22nd word of the line; the command's name in brackets before it may hold anything.
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def is_alive(pid: int, birth: str) -> bool:
    """Whether the process of this machine that had this number and this birth is there: numbers are used again."""
    return process_state(pid) != "gone" and read_birth(pid) == birth


def kill_tree(pid: int) -> None:
    """Kill a process with all below it: torchrun gives each worker a session of its own."""
    tree = [pid, *find_descendants(pid)]
    for each in tree:
        with contextlib.suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)


def find_descendants(pid: int) -> list[int]:
    """Process ids of all children and theirs, where the system tells (Linux)."""
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # a thread or process that has ended meanwhile
            for child in map(int, path.read_text().split()):
                found += [child, *find_descendants(child)]
    return found
