"""A thread reports what its process is doing, so that the other processes also see a hang."""

from __future__ import annotations

import datetime
import faulthandler
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

from signs_dist.monitoring.beats import Beat, Identity, Work, beat_path, failed_path, read_beats
from signs_dist.monitoring.pulse import Pulse
from signs_dist.monitoring.signals import end_now
from signs_dist.monitoring.standings import describe_wait, judge_processes
from signs_dist.monitoring.waiting import NOTICE_SECONDS, tell_on_standard_error

ORPHAN_SECONDS = 30.0
"""How long a process has to save and end after its launcher is gone: as long as torchrun waits after a stop signal."""
STOPPED_SECONDS = 5.0
"""A process that has made no beat for so long was stopped. A busy machine delays a beat by less."""
JOIN_SECONDS = 10.0
"""How long the end of the thread is waited for."""


class Heartbeat:
    """A thread that writes this process's beat, and its stacks when it makes no progress.

    The thread also ends the process when the run cannot continue: `grace_seconds` after another process failed, or
    `orphan_seconds` after the launcher is gone. When the launcher is gone, the thread first sends the process SIGTERM,
    as the launcher would have done.

    Args:
        folder: the run's logs folder, visible to all processes.
        identity: this process.
        pulse: what it is doing.
        stall_seconds: time without progress after which all threads' stacks are written to the log, once per stall.
        attempt: number of the run's attempt.
        end_with: exit code of this process if the thread ends it.
        grace_seconds: time to end by itself after another process failed.
        launcher_pid: the parent process, if this process must end with it.
        orphan_seconds: time to end by itself after the launcher is gone.
        interval_seconds: time between two beats.
        on_beat: called at each beat.
        find_work: returns what the progress bar shows.
        notice_seconds: a wait for other processes that takes longer is told.
        tell: gets a line about such a wait.

    Attributes:
        last_error: why the last beat could not be written, or None if every beat was.
    """

    def __init__(
        self,
        folder: Path,
        identity: Identity,
        pulse: Pulse,
        *,
        stall_seconds: float,
        end_with: int,
        attempt: int = 1,
        grace_seconds: float = 5.0,
        launcher_pid: int | None = None,
        orphan_seconds: float = ORPHAN_SECONDS,
        interval_seconds: float = 0.5,
        on_beat: Callable[[], None] | None = None,
        find_work: Callable[[], Work | None] = lambda: None,
        notice_seconds: float = NOTICE_SECONDS,
        tell: Callable[[str], None] = tell_on_standard_error,
    ) -> None:
        self._folder, self._identity, self._pulse = folder, identity, pulse
        self._stall_seconds, self._end_with, self._grace_seconds = stall_seconds, end_with, grace_seconds
        self._launcher_pid, self._orphan_seconds = launcher_pid, orphan_seconds
        self._interval_seconds, self._on_beat = interval_seconds, on_beat
        self._find_work = find_work
        self._notice_seconds, self._tell = notice_seconds, tell
        self._path, self._failed = beat_path(folder, identity.rank), failed_path(folder, attempt)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._seen_beats = -1
        self._beat_time = self._progress_time = time.time()
        self._has_logged_stall = self._has_told_wait = False
        self._failed_since: float | None = None
        self._orphaned_since: float | None = None
        self.last_error: OSError | None = None

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, *, keep_beat: bool = False) -> None:
        """End the thread. With `keep_beat` the last beat stays, to show other processes how this process ended."""
        self._done.set()
        self._thread.join(JOIN_SECONDS)  # it may hang in a write to a file system that does not answer
        if not keep_beat:
            self._path.unlink(missing_ok=True)

    def _run(self) -> None:
        while True:
            try:
                self._beat()
            except OSError as error:  # a full disk stops neither training nor the heartbeat
                self.last_error = error
            if self._done.wait(self._interval_seconds):
                return

    def _beat(self) -> None:
        now = time.time()
        if now - self._beat_time > STOPPED_SECONDS:
            self._progress_time += now - self._beat_time  # this process was stopped, as by Ctrl-Z: that is no stall
        self._beat_time = now
        self._end_with_launcher(now)
        if self._pulse.beats != self._seen_beats:
            self._seen_beats, self._progress_time = self._pulse.beats, now
            self._has_logged_stall = self._has_told_wait = False
        elif now - self._progress_time > self._stall_seconds and not self._has_logged_stall:
            self._has_logged_stall = True
            self._write_stacks(f"no progress for {now - self._progress_time:.0f} s")
        self._tell_wait(now)
        self._end_with_others(now)
        pulse = self._pulse
        beat = Beat(
            self._identity,
            pulse.phase,
            pulse.epoch,
            pulse.step,
            pulse.collective,
            now,
            self._progress_time,
            self._find_work(),
        )
        aside = self._path.with_suffix(".aside")
        aside.write_text(beat.to_json(), encoding="utf-8")
        aside.replace(self._path)
        if self._on_beat is not None:
            self._on_beat()

    def _tell_wait(self, now: float) -> None:
        """Say for whom the processes of the run wait, once per wait, on one of them."""
        waits = self._pulse.collective and not self._pulse.is_told and now - self._progress_time > self._notice_seconds
        if not waits or self._has_told_wait:
            return
        self._has_told_wait = True
        identity = self._identity
        standings = judge_processes(
            read_beats(self._path.parent), world_size=identity.world_size, now=now, host=identity.host
        )
        if line := describe_wait(standings, identity.rank):
            self._tell(line)

    def _end_with_others(self, now: float) -> None:
        if self._failed_since is None:
            self._failed_since = now if self._failed.exists() else None
        elif now - self._failed_since > self._grace_seconds:
            self._write_stacks("another process failed, and this process did not end")
            end_now(self._end_with)

    def _end_with_launcher(self, now: float) -> None:
        if self._launcher_pid is None or os.getppid() == self._launcher_pid:
            return
        if self._orphaned_since is None:
            self._orphaned_since = now
            self._write_stacks(f"its launcher (process {self._launcher_pid}) is gone, and it stops as after SIGTERM")
            os.kill(os.getpid(), signal.SIGTERM)
        elif now - self._orphaned_since > self._orphan_seconds:
            end_now(self._end_with)

    def _write_stacks(self, why: str) -> None:
        """Append the stacks of all threads to the log, by file descriptor: a stuck thread may hold the log's lock."""
        pulse = self._pulse
        head = (
            f"{datetime.datetime.now():%Y-%m-%d %H:%M:%S}  rank {self._identity.rank}: {why}, "
            f"in {pulse.phase}, epoch {pulse.epoch} step {pulse.step}"
            f"{' (waits for other processes)' if pulse.collective else ''}\n"
        )
        with Path(self._identity.log).open("ab", buffering=0) as stream:
            stream.write(head.encode())
            faulthandler.dump_traceback(stream.fileno(), all_threads=True)
