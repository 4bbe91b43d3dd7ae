"""Who works in a run folder: one run at a time, also across machines that share a file system.

The owner keeps a file there and touches it every few seconds. A lease is stale when its process is gone from this very
machine, or when nobody has touched it for a stated time; then the next run takes it over.

A job may be requeued while its last attempt still runs, on a node that SLURM has lost sight of. The new attempt then
asks the old one to make way: that saves and ends.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from signs_dist.environment.process_table import is_alive, read_birth
from signs_dist.environment.slurm_job import JobAttempt
from signs_dist.errors import UserError
from signs_dist.files import write_text

NAME = "lease.json"
"""The lease's file in a run folder."""
REQUEST = "make-way"
"""The file with which a later attempt of the same job asks for the lease: it holds the token of that lease."""
TOUCHES = 10
"""How often the owner touches the lease within the time after which it is stale."""
TRIES = 10
"""How often `acquire` finds a lease gone or stale, and then that another was faster, before it gives up."""
WATCH_SECONDS = 0.2
PATIENCE = 4
"""How many times `takeover_seconds` one that was asked to make way has to save and end."""


@dataclasses.dataclass(frozen=True)
class Holder:
    """Which process holds a lease.

    Attributes:
        token: made anew for each lease.
        machine: boot, process-id namespace and name of the machine; process ids mean something within it only.
        host: name of the machine, for people.
        pid: process id there.
        born: when the process began, in the machine's own count, so that a reused number is not taken for it.
        job: which attempt of which SLURM job it belongs to, by `JobAttempt.mark`; "" without one.
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
        """The holder that a file names; None if there is no such file, or no such thing in it."""
        try:
            values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return cls(**values)
        except (OSError, ValueError, TypeError):
            return None

    def is_here(self, host: str) -> bool:
        """Whether the process is, or was, on this machine, so that the system can tell of it."""
        return self.machine == process_id_scope(host)

    def is_gone(self, host: str) -> bool:
        """Whether the process is known to have ended. False where this cannot be known from here."""
        return self.is_here(host) and not is_alive(self.pid, self.born)


class Lease:
    """The right to write into a run folder, kept alive by a thread. Made by `acquire`."""

    def __init__(self, path: Path, holder: Holder, takeover_seconds: float, on_asked: Callable[[], None]) -> None:
        self._path, self._holder, self._on_asked = path, holder, on_asked
        self._interval = takeover_seconds / TOUCHES
        self._done = threading.Event()
        self._lost = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._thread.start()

    @classmethod
    def acquire(
        cls,
        folder: Path,
        *,
        host: str,
        pid: int,
        takeover_seconds: float,
        job: str = "",
        on_asked: Callable[[], None] = lambda: None,
    ) -> Lease:
        """Take the lease of an existing run folder.

        A holder on another machine cannot be asked. If it was seen lately, this waits until it gives another sign of
        life, or has given none for `takeover_seconds`: a job that was killed there may be started again here.

        Args:
            folder: the run folder.
            host: name of this machine.
            pid: of this process.
            takeover_seconds: after which a lease that nobody touches is taken over. The same for all who share a
                folder.
            job: `JobAttempt.mark` of this process. Of a requeued job the attempt before may be just ending: it has
                `takeover_seconds` for that. If it holds the lease it is asked to end, and has `PATIENCE` times as long.
            on_asked: called once, in another thread, when this lease's holder is asked to make way in turn.

        Raises:
            UserError: another run works in the folder.
        """
        own = Holder.here(host, pid, job)
        attempt = JobAttempt.from_mark(job)
        if attempt is None or attempt.restart_count == 0:
            return cls._try(folder, own, takeover_seconds, on_asked)
        begun, patience = time.monotonic(), takeover_seconds
        try:
            while True:
                try:
                    return cls._try(folder, own, takeover_seconds, on_asked)
                except UserError:
                    if _ask_to_make_way(folder, attempt):
                        patience = PATIENCE * takeover_seconds
                    if time.monotonic() > begun + patience:
                        raise
                time.sleep(WATCH_SECONDS)
        finally:
            (folder / REQUEST).unlink(missing_ok=True)

    @classmethod
    def _try(cls, folder: Path, own: Holder, takeover_seconds: float, on_asked: Callable[[], None]) -> Lease:
        path, host = folder / NAME, own.host
        aside = folder / f".{NAME}.{own.token}"
        try:
            for _ in range(TRIES):
                aside.write_text(json.dumps(dataclasses.asdict(own)), encoding="utf-8")
                with contextlib.suppress(FileExistsError):
                    _put_in_place(aside, path)
                    return cls(path, own, takeover_seconds, on_asked)
                _wait_for_a_sign(path, host, takeover_seconds)
                aside.touch()
                if not _set_stale_aside(path, aside, host, takeover_seconds):
                    break
            raise UserError(describe_busy(folder, path, aside, takeover_seconds))
        finally:
            aside.unlink(missing_ok=True)

    @property
    def is_lost(self) -> bool:
        """Whether another run has taken the lease over, since this one seemed to be dead."""
        return self._lost.is_set()

    def release(self) -> None:
        """Give the lease back."""
        self._done.set()
        self._thread.join()
        if not self.is_lost and Holder.read(self._path) == self._holder:
            self._path.unlink(missing_ok=True)

    def _keep(self) -> None:
        was_asked = False
        while not self._done.wait(self._interval):
            holder = Holder.read(self._path)
            if holder is not None and holder != self._holder:
                self._lost.set()
                return
            with contextlib.suppress(OSError):  # a server that is away for a moment
                os.utime(self._path)
                if not was_asked and (self._path.parent / REQUEST).read_text(encoding="utf-8") == self._holder.token:
                    was_asked = True
                    self._on_asked()


def _ask_to_make_way(folder: Path, own: JobAttempt) -> bool:
    """Ask the holder of the lease to end, if it is of an earlier attempt of the same job; whether that is so."""
    holder = Holder.read(folder / NAME)
    if holder is None or not own.is_after(JobAttempt.from_mark(holder.job)):
        return False
    request = folder / REQUEST
    with contextlib.suppress(OSError):
        if not request.exists() or request.read_text(encoding="utf-8") != holder.token:
            write_text(request, holder.token)
    return True


def find_holder(folder: Path, *, host: str, takeover_seconds: float) -> str:
    """Why a run cannot begin in `folder`, or "", as far as it is known at once. `Lease.acquire` decides."""
    holder = Holder.read(folder / NAME)
    if holder is None or not holder.is_here(host) or holder.is_gone(host):
        return ""
    return describe_busy(folder, folder / NAME, None, takeover_seconds)


def describe_busy(folder: Path, path: Path, fresh: Path | None, takeover_seconds: float) -> str:
    """Why the folder cannot be used; `fresh` is a file that was written just now, if there is one."""
    holder = Holder.read(path)
    who = f"process {holder.pid} on {holder.host}" if holder is not None else "another process"
    seen = ""
    if fresh is not None:
        with contextlib.suppress(FileNotFoundError):  # given back just now
            seen = f", seen {max(0.0, _age(path, fresh)):.0f} s ago"
    return (
        f"{folder} is in use by {who}{seen}. Wait for its end, or choose "
        f"another --run-dir. If it is dead, the folder is free {takeover_seconds:g} s after it was last seen."
    )


def _wait_for_a_sign(path: Path, host: str, takeover_seconds: float) -> None:
    """Wait while it is not known whether the holder lives: until its file is touched, goes, or is old enough."""
    holder = Holder.read(path)
    if holder is not None and holder.is_here(host):
        return
    deadline = time.monotonic() + takeover_seconds + WATCH_SECONDS
    with contextlib.suppress(FileNotFoundError):
        seen = path.stat().st_mtime_ns
        while time.monotonic() < deadline and path.stat().st_mtime_ns == seen:
            time.sleep(WATCH_SECONDS)


def _set_stale_aside(path: Path, fresh: Path, host: str, takeover_seconds: float) -> bool:
    """Remove a lease that is stale; False if it is not."""
    moved = path.with_name(f".{NAME}.stale.{uuid.uuid4().hex}")
    try:
        stale = Holder.read(path)
        if not _is_stale(path, fresh, host, takeover_seconds):
            return False
        path.rename(moved)
    except FileNotFoundError:
        return True  # another is taking it over, or its owner gave it back
    try:
        if Holder.read(moved) != stale:
            # Between the look and the move another run took the stale lease over: this is its new one.
            with contextlib.suppress(FileExistsError):
                _put_in_place(moved, path)
            return False
        return True
    finally:
        moved.unlink(missing_ok=True)


def _put_in_place(aside: Path, path: Path) -> None:
    """Give the file the name `path` as well, if nothing has it: FileExistsError. Only one of several succeeds."""
    try:
        os.link(aside, path)  # atomic, on NFS too
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        with path.open("x", encoding="utf-8") as stream:
            stream.write(aside.read_text(encoding="utf-8"))


def _is_stale(path: Path, fresh: Path, host: str, takeover_seconds: float) -> bool:
    holder = Holder.read(path)
    if holder is not None and holder.is_gone(host):
        return True
    return _age(path, fresh) > takeover_seconds


def _age(path: Path, fresh: Path) -> float:
    """Seconds since `path` was touched, by the clock of the file system: machines' own clocks may differ.

    Raises:
        FileNotFoundError: it is gone.
    """
    return fresh.stat().st_mtime - path.stat().st_mtime


def process_id_scope(host: str) -> str:
    """Within what a process id means something: name, boot, and process-id namespace (of a container)."""
    boot, namespace = "", ""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    with contextlib.suppress(OSError):
        namespace = str(Path("/proc/self/ns/pid").readlink())
    return f"{host} {boot} {namespace}"
