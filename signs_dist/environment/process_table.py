"""The processes of this machine by their ids: their state, their descendants, and how to kill them."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Sequence
from pathlib import Path


def process_state(pid: int) -> str:
    """The state of a process of this machine: running, stopped or gone; unknown if the system has no /proc."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):  # no process has a number of more than 64 bits
        return "gone"
    except PermissionError:
        pass
    try:
        # The command's name, in brackets, may hold anything: the state is the first word after the last bracket.
        state = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return "unknown"
    return {"T": "stopped", "t": "stopped", "Z": "gone", "X": "gone"}.get(state, "running")


def read_birth(pid: int) -> str:
    """When a process of this machine began, in clock ticks since boot; "" if it is gone or the system has no /proc."""
    try:
        # Field 22, starttime (proc(5)). The command's name, in brackets before it, may hold anything.
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def is_alive(pid: int, birth: str) -> bool:
    """Whether the process with this id and this birth still exists. The system reuses ids, so the birth must match.

    A process whose birth cannot be read counts as the same one: /proc may hide the processes of other users.
    """
    return process_state(pid) != "gone" and read_birth(pid) in (birth, "")


def kill_tree(pid: int) -> None:
    """Kill a process and its descendants. A process group is not enough: torchrun gives each worker its own session."""
    tree = [pid, *find_descendants(pid)]
    for each in tree:
        with contextlib.suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)


def find_descendants(pid: int) -> list[int]:
    """Process ids of all descendants; empty on systems other than Linux."""
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread or process has ended meanwhile
            for child in map(int, path.read_text().split()):
                found += [child, *find_descendants(child)]
    return found


def read_held_bytes(pid: int) -> int:
    """Memory in bytes of a process and all its descendants; those that have ended count nothing.

    It is the proportional set size (proc_pid_smaps_rollup(5)): of a page that N processes share, each holds an Nth.
    """
    held = 0
    for each in (pid, *find_descendants(pid)):
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{each}/smaps_rollup").read_text(encoding="ascii", errors="replace").splitlines()
            held += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return held


def describe_process(pid: int) -> str:
    """What a process of this machine does, for messages: `process 12 (asleep)`."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return f"process {pid} (gone)"
    return f"process {pid} ({_STATES.get(state, 'running')})"


def describe_processes(pids: Sequence[int | None], most: int = 8) -> str:
    """What several processes do: the first `most` of them."""
    shown = ", ".join(describe_process(pid) for pid in pids[:most] if pid is not None)
    return f"{shown}{' …' if len(pids) > most else ''}"


_STATES = {
    "S": "asleep",
    "D": "waits for storage",
    "T": "stopped by SIGSTOP; kill -CONT lets it go on",
    "t": "stopped by a debugger",
    "Z": "ended",
    "X": "ended",
}
"""The states of proc(5), in words."""
