"""The lease of a run folder: one process writes there at a time, also across machines that share a file system.

The holder keeps a file in the folder and touches it every few seconds. A lease is stale if its holder was a process of
this machine and has ended, or if nobody touched the file for `takeover_seconds`. The next run takes a stale lease over.

A process that was stopped may wake up after its lease was taken over. So it looks again before it writes.

SLURM may requeue a job while its last attempt still runs on a node that SLURM has lost contact with. The new attempt
then asks the old attempt to release the lease, and the old attempt saves and ends.
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

from signs_dist.environment.slurm_job import JobAttempt
from signs_dist.errors import TrainingFailedError, UserError
from signs_dist.files import explained, write_text
from signs_dist.run_folder.folder import RunFolder
from signs_dist.run_folder.holder import Holder
from signs_dist.run_folder.place import Place

NAME = "lease.json"
"""The file of the lease in a run folder."""
REQUEST = "make-way"
"""The file with which a later attempt of a job asks for the lease; it holds the token of the holder."""
TOUCHES = 10
"""How many times the holder touches the lease within `takeover_seconds`."""
TRIES = 10
"""How many times `acquire` finds the lease free but loses it to a faster process before it gives up."""
WATCH_SECONDS = 0.2
"""The interval at which a process that waits for a lease reads it."""
JOIN_SECONDS = 10.0
"""How long the end of the thread is waited for."""
PATIENCE = 4
"""A holder that was asked for the lease has this many times `takeover_seconds` to save and end."""


class Lease:
    """The right to write into a run folder, kept by a thread. Made by `acquire`."""

    def __init__(self, path: Path, holder: Holder, takeover_seconds: float, on_asked: Callable[[], None]) -> None:
        self._path, self._holder, self._on_asked = path, holder, on_asked
        self._takeover_seconds, self._interval = takeover_seconds, takeover_seconds / TOUCHES
        self._place = Place(path.parent)
        self._loss = ""
        self._has_begun = False
        self._looking = threading.Lock()
        self._done = threading.Event()
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

        The state of a holder on another machine is unknown: its job may have been killed there, and started again here.
        So this waits until that holder touches the lease again, or has not touched it for `takeover_seconds`.

        Args:
            folder: the run folder.
            host: name of this machine.
            pid: of this process.
            takeover_seconds: a lease that was not touched for this long is taken over. All processes that share a
                folder must use the same value.
            job: `JobAttempt.mark` of this process. A requeued job waits `takeover_seconds` for its previous attempt to
                end. If that attempt holds the lease, it is asked to end, and the wait is `PATIENCE` times as long.
            on_asked: called once, in another thread, when a later attempt asks for this lease.

        Raises:
            UserError: another run works in the folder, or it cannot be written.
            FileNotFoundError: the folder does not exist, or was removed meanwhile.
        """
        own = Holder.here(host, pid, job)
        job_attempt = JobAttempt.from_mark(job)
        if job_attempt is None or job_attempt.restart_count == 0:
            return cls._try(folder, own, takeover_seconds, on_asked)
        begun, patience = time.monotonic(), takeover_seconds
        try:
            while True:
                try:
                    return cls._try(folder, own, takeover_seconds, on_asked)
                except UserError:
                    if _request_lease(folder, job_attempt):
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
                if path.is_dir():
                    raise UserError(f"{path} is a folder. Remove it, or choose another --run-dir.")
                is_silent = _wait_for_touch(path, host, takeover_seconds)
                aside.touch()
                if not _set_stale_aside(path, aside, host, takeover_seconds, is_silent=is_silent):
                    break
            raise UserError(describe_busy(folder, path, aside, takeover_seconds))
        except FileNotFoundError:
            raise
        except OSError as error:
            raise explained(error, folder) from error
        finally:
            with contextlib.suppress(OSError):  # report the first error
                aside.unlink(missing_ok=True)

    @property
    def is_lost(self) -> bool:
        """Whether this process may no longer write: another run took the lease over, or the folder is gone."""
        return bool(self._loss)

    def require_held(self) -> None:
        """Raise `TrainingFailedError` if this process may no longer write into the folder. Called before each write."""
        self._look()
        if self._loss:
            raise TrainingFailedError(self._loss)

    def release(self) -> None:
        """Release the lease."""
        self._done.set()
        self._thread.join(JOIN_SECONDS)  # it may hang in a file system that does not answer
        self.abandon()
        self._place.close()

    def abandon(self) -> None:
        """Remove the file of the lease, if it is this process's: for a process that ends at once."""
        self._done.set()
        if not self.is_lost and Holder.read(self._path) == self._holder:
            self._path.unlink(missing_ok=True)

    def _keep(self) -> None:
        was_asked = False
        while not self._done.wait(self._interval):
            self._look()
            if self._loss:
                return
            with contextlib.suppress(OSError):  # the file server may be away for a moment
                os.utime(self._path)
                if not was_asked and (self._path.parent / REQUEST).read_text(encoding="utf-8") == self._holder.token:
                    was_asked = True
                    self._on_asked()

    def _look(self) -> None:
        """Find out whether the lease is still held."""
        folder = RunFolder(self._path.parent)
        with self._looking, contextlib.suppress(OSError):  # the file server may be away for a moment
            if self._loss or self._done.is_set():
                return
            self._has_begun = self._has_begun or folder.is_begun
            holder = Holder.read(self._path)
            if not self._place.is_in_place:
                self._loss = self._place.describe_change()
            elif holder is not None and holder != self._holder:
                self._loss = (
                    f"another run has taken over {folder.path}: this run gave no sign of life for "
                    f"{self._takeover_seconds:g} s. The other run continues."
                )
            elif self._has_begun and not folder.is_begun:
                self._loss = (
                    f"files of the run folder {folder.path} were deleted during the run: {folder.config.name} is gone, "
                    f"so the run cannot be resumed. Choose another --run-dir."
                )
            elif holder is None and not self._path.exists():
                # A person removed it, or another run is taking it over: the first one to write it has it.
                self._put_back()

    def _put_back(self) -> None:
        aside = self._path.with_name(f".{NAME}.{self._holder.token}")
        try:
            aside.write_text(json.dumps(dataclasses.asdict(self._holder)), encoding="utf-8")
            _put_in_place(aside, self._path)
        finally:
            aside.unlink(missing_ok=True)


def _request_lease(folder: Path, own: JobAttempt) -> bool:
    """If an earlier attempt of this job holds the lease, ask it to end and return True."""
    holder = Holder.read(folder / NAME)
    if holder is None or not own.is_after(JobAttempt.from_mark(holder.job)):
        return False
    request = folder / REQUEST
    with contextlib.suppress(OSError):
        if not request.exists() or request.read_text(encoding="utf-8") != holder.token:
            write_text(request, holder.token)
    return True


def find_holder(folder: Path, *, host: str, takeover_seconds: float) -> str:
    """The message that a process of this machine uses the folder, or "". `Lease.acquire` checks all machines."""
    holder = Holder.read(folder / NAME)
    if holder is None or not holder.is_here(host) or holder.is_gone(host):
        return ""
    return describe_busy(folder, folder / NAME, None, takeover_seconds)


def describe_busy(folder: Path, path: Path, fresh: Path | None, takeover_seconds: float) -> str:
    """The message that the folder is in use. `fresh` is a file written just now, or None to omit the lease's age."""
    holder = Holder.read(path)
    who = f"process {holder.pid} on {holder.host}" if holder is not None else "another process"
    seen = ""
    if fresh is not None:
        with contextlib.suppress(FileNotFoundError):  # released just now
            seen = f", seen {max(0.0, _age(path, fresh)):.0f} s ago"
    return (
        f"{folder} is in use by {who}{seen}. Wait until it ends, or choose another --run-dir. If it is dead, the "
        f"folder becomes free {takeover_seconds:g} s after it was last seen."
    )


def _wait_for_touch(path: Path, host: str, takeover_seconds: float) -> bool:
    """If the holder is on another machine, wait until its file is touched or removed, at most `takeover_seconds`.

    Returns:
        Whether the file was there all the time, and nobody touched it. This does not depend on anybody's clock.
    """
    holder = Holder.read(path)
    if holder is not None and holder.is_here(host):
        return False
    deadline = time.monotonic() + takeover_seconds + WATCH_SECONDS
    with contextlib.suppress(FileNotFoundError):
        seen = path.stat().st_mtime_ns
        while path.stat().st_mtime_ns == seen:
            if time.monotonic() >= deadline:
                return True
            time.sleep(WATCH_SECONDS)
    return False


def _set_stale_aside(path: Path, fresh: Path, host: str, takeover_seconds: float, *, is_silent: bool) -> bool:
    """Remove the lease if it is stale, or if `is_silent`. False if it is in use."""
    moved = path.with_name(f".{NAME}.stale.{uuid.uuid4().hex}")
    try:
        stale = Holder.read(path)
        if not is_silent and not _is_stale(path, fresh, host, takeover_seconds):
            return False
        path.rename(moved)
    except FileNotFoundError:
        return True  # another process is taking it over, or its holder released it
    try:
        if Holder.read(moved) != stale:
            # Another run took the stale lease over just before it was moved: the moved file is that run's new lease.
            with contextlib.suppress(FileExistsError):
                _put_in_place(moved, path)
            return False
        return True
    finally:
        moved.unlink(missing_ok=True)


def _put_in_place(aside: Path, path: Path) -> None:
    """Link the file to `path`. Only one of several processes succeeds; the others get FileExistsError."""
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
    """Seconds since `path` was touched, up to when `fresh` was. Both times are from the file system's clock.

    Raises:
        FileNotFoundError: `path` does not exist.
    """
    return fresh.stat().st_mtime - path.stat().st_mtime
