"""The process that holds a lease, as its file names it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import uuid
from pathlib import Path
from typing import Any

from signs_dist.environment.process_table import is_alive, read_birth


@dataclasses.dataclass(frozen=True)
class Holder:
    """The process that holds a lease.

    Attributes:
        token: a random name, new for each lease.
        machine: from `process_id_scope`. Process ids can be compared within it only.
        host: name of the machine, for messages.
        pid: process id.
        born: when the process began, from `read_birth`. A later process with the same id began at another time.
        job: `JobAttempt.mark` of the SLURM job's attempt that the process belongs to; "" without one.
    """

    token: str
    machine: str
    host: str
    pid: int
    born: str
    job: str = ""

    @classmethod
    def here(cls, host: str, pid: int, job: str = "") -> Holder:
        """A process of this machine."""
        return cls(uuid.uuid4().hex, process_id_scope(host), host, pid, read_birth(pid), job)

    @classmethod
    def read(cls, path: Path) -> Holder | None:
        """The holder that a file names; None if there is no file or it is unreadable."""
        try:
            if not path.is_file():  # to open a pipe would wait for a writer
                return None
            values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            holder = cls(**values)
        except (OSError, ValueError, TypeError, RecursionError):
            return None
        texts = (holder.token, holder.machine, holder.host, holder.born, holder.job)
        is_whole = all(isinstance(text, str) for text in texts) and type(holder.pid) is int and holder.pid > 0
        return holder if is_whole else None

    def is_here(self, host: str) -> bool:
        """Whether the process runs or ran on this machine, so that the system knows its state."""
        return self.machine == process_id_scope(host)

    def is_gone(self, host: str) -> bool:
        """Whether the process is known to have ended. False for a process of another machine."""
        return self.is_here(host) and not is_alive(self.pid, self.born)


def process_id_scope(host: str) -> str:
    """Where a process id is unique: host, boot, and process-id namespace (of a container)."""
    boot, namespace = "", ""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    with contextlib.suppress(OSError):
        namespace = str(Path("/proc/self/ns/pid").readlink())
    return f"{host} {boot} {namespace}"
