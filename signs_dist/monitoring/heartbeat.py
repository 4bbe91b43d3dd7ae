"""What each process of a run is doing, for the others to see: told by a thread, so that a hang is told too."""

from __future__ import annotations

import dataclasses
import datetime
import faulthandler
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from signs_dist.monitoring.signals import end_now

FAILED = "failed"
"""With the attempt's number behind it: a file in a run's logs folder, there as soon as a process of it has failed. That
of an earlier attempt may still be seen by another machine after it was removed: NFS remembers for a minute."""
ORPHAN_SECONDS = 30.0
"""How long a process has to save and end when its launcher has gone; as long as torchrun gives after a stop signal."""


class Pulse:
    """What this process does now, set from the training loop many times a second.

    Attributes:
        phase: such as `forward`.
        epoch, step: as people count them, from 1; 0 before the first.
        collective: whether the phase waits for other processes.
        beats: how often anything was set.
    """

    def __init__(self) -> None:
        self.phase = "start"
        self.epoch = self.step = self.beats = 0
        self.collective = False

    def enter(self, phase: str, *, epoch: int | None = None, step: int | None = None, collective: bool = False) -> None:
        """Begin a phase; `epoch` and `step` stay as they are where they are not given."""
        self.phase, self.collective = phase, collective
        if epoch is not None:
            self.epoch = epoch
        if step is not None:
            self.step = step
        self.beats += 1


@dataclasses.dataclass(frozen=True)
class Identity:
    """Which process this is: rank of world size, host, process id, device, and the path of its log."""

    rank: int
    world_size: int
    host: str
    pid: int
    device: str
    log: str


@dataclasses.dataclass(frozen=True)
class Work:
    """What a bar shows: what is done, how much of it, and numbers beside it."""

    what: str
    done: int
    total: int
    numbers: str


@dataclasses.dataclass(frozen=True)
class Beat:
    """What a process last said of itself.

    Attributes:
        identity: which process.
        phase, epoch, step, collective: its pulse.
        time: when it said so, seconds since 1970.
        progress_time: when its pulse last changed.
        work: what its bar shows; None between.
    """

    identity: Identity
    phase: str
    epoch: int
    step: int
    collective: bool
    time: float
    progress_time: float
    work: Work | None = None

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Beat:
        """From `to_json`. Raises ValueError, KeyError or TypeError for anything else."""
        values: dict[str, Any] = json.loads(text)
        work = Work(**values["work"]) if values.get("work") else None
        return cls(**{**values, "identity": Identity(**values["identity"]), "work": work})

    @property
    def place(self) -> str:
        """Where in the run it is, for people."""
        return f"{self.phase}, epoch {self.epoch} step {self.step}"


class Heartbeat:
    """A thread that writes this process's beat, its stack when nothing moves, and ends it when it is left over.

    It is left over when another process of the run has failed; and when its launcher has gone without a word, since
    nobody would tell it of anything that happens to the others. It then gets the stop signal that the launcher would
    have sent: SIGTERM.

    Args:
        folder: the run's logs folder, which all processes see.
        identity: which process this is.
        pulse: what it does.
        stall_seconds: without progress, after which all threads' stacks are written to the log, once per stall.
        attempt: number of the run's attempt.
        end_with: exit code with which this process is ended when another has failed and this one is still here.
        grace_seconds: how long it has for an end of its own.
        launcher_pid: the parent process, if this one is to end with it.
        orphan_seconds: how long it has to end when that has gone.
        interval_seconds: between two beats.
        on_beat: called each time.
        find_work: tells what the beat is to say of its work.
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
    ) -> None:
        self._folder, self._identity, self._pulse = folder, identity, pulse
        self._stall_seconds, self._end_with, self._grace_seconds = stall_seconds, end_with, grace_seconds
        self._launcher_pid, self._orphan_seconds = launcher_pid, orphan_seconds
        self._interval_seconds, self._on_beat = interval_seconds, on_beat
        self._find_work = find_work
        self._path, self._failed = beat_path(folder, identity.rank), failed_path(folder, attempt)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._seen_beats = -1
        self._progress_time = time.time()
        self._has_told_stall = False
        self._failed_since: float | None = None
        self._orphaned_since: float | None = None
        self.last_error: OSError | None = None

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, *, keep_beat: bool = False) -> None:
        """End; the beat is removed, unless it is to tell others how this process ended."""
        self._done.set()
        self._thread.join()
        if not keep_beat:
            self._path.unlink(missing_ok=True)

    def _run(self) -> None:
        while True:
            try:
                self._beat()
            except OSError as error:  # a full disk is no reason to stop training, or watching
                self.last_error = error
            if self._done.wait(self._interval_seconds):
                return

    def _beat(self) -> None:
        now = time.time()
        self._end_with_launcher(now)
        if self._pulse.beats != self._seen_beats:
            self._seen_beats, self._progress_time, self._has_told_stall = self._pulse.beats, now, False
        elif now - self._progress_time > self._stall_seconds and not self._has_told_stall:
            self._has_told_stall = True
            self._write_stacks(f"no progress for {now - self._progress_time:.0f} s")
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

    def _end_with_others(self, now: float) -> None:
        if self._failed_since is None:
            self._failed_since = now if self._failed.exists() else None
        elif now - self._failed_since > self._grace_seconds:
            self._write_stacks("another process has failed, and this one did not end")
            end_now(self._end_with)

    def _end_with_launcher(self, now: float) -> None:
        if self._launcher_pid is None or os.getppid() == self._launcher_pid:
            return
        if self._orphaned_since is None:
            self._orphaned_since = now
            self._write_stacks(f"its launcher (process {self._launcher_pid}) has gone, and it stops as at SIGTERM")
            os.kill(os.getpid(), signal.SIGTERM)
        elif now - self._orphaned_since > self._orphan_seconds:
            end_now(self._end_with)

    def _write_stacks(self, why: str) -> None:
        """Write where every thread is to the log. By file descriptor: the log may be in use by a stuck thread."""
        pulse = self._pulse
        head = (
            f"{datetime.datetime.now():%Y-%m-%d %H:%M:%S}  rank {self._identity.rank}: {why}, "
            f"in {pulse.phase}, epoch {pulse.epoch} step {pulse.step}"
            f"{' (waits for other processes)' if pulse.collective else ''}\n"
        )
        with Path(self._identity.log).open("ab", buffering=0) as stream:
            stream.write(head.encode())
            faulthandler.dump_traceback(stream.fileno(), all_threads=True)


def end_stopped(identity: Identity, own: Identity) -> bool:
    """Kill a stopped process of the same run on this machine: it cannot end by itself, and its launcher waits for it.

    Returns:
        Whether it was killed: not if it runs, is on another machine, or its number is now another program's.
    """
    if identity.host != own.host or process_state(identity.pid) != "stopped":
        return False
    try:
        same = Path(f"/proc/{identity.pid}/cmdline").read_bytes() == Path("/proc/self/cmdline").read_bytes()
        if same:
            os.kill(identity.pid, signal.SIGKILL)
    except OSError:
        return False
    return same


def failed_path(folder: Path, attempt: int) -> Path:
    """The file that is there as soon as a process of an attempt has failed."""
    return folder / f"{FAILED}.{attempt}"


def beat_path(folder: Path, rank: int) -> Path:
    """The file with a process's beat."""
    return folder / f"rank{rank}.beat"


def read_beats(folder: Path) -> dict[int, Beat]:
    """The beats of all processes by rank; what cannot be read is left out."""
    beats = {}
    for path in folder.glob("rank*.beat"):
        try:
            beat = Beat.from_json(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, KeyError, TypeError):
            continue
        beats[beat.identity.rank] = beat
    return beats


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


@dataclasses.dataclass(frozen=True)
class Standing:
    """What is known of a process: `kind` is gone, silent, busy or waiting, worst first; `line` says it to people."""

    rank: int
    kind: str
    line: str


KINDS = ("gone", "silent", "busy", "waiting")


def judge_processes(
    beats: Mapping[int, Beat],
    *,
    world_size: int,
    now: float,
    host: str,
    state: Callable[[int], str] = process_state,
    late_seconds: float = 5.0,
    have_lost: Collection[int] = (),
) -> list[Standing]:
    """What each process is doing, the suspicious first: gone, silent, busy outside a collective, waiting in one.

    Args:
        beats: what they last said, by rank.
        world_size: number of processes.
        now: seconds since 1970.
        host: of this process; the state of processes on it can be asked.
        state: from a process id to running, stopped, gone or unknown.
        late_seconds: a beat older than this is late.
        have_lost: ranks that have told of one that they lost: that explains their own end.
    """
    found = [
        _judge(rank, beats.get(rank), now, host, state, late_seconds, has_lost=rank in have_lost)
        for rank in range(world_size)
    ]
    return sorted(found, key=lambda standing: (KINDS.index(standing.kind), standing.rank))


def _judge(
    rank: int,
    beat: Beat | None,
    now: float,
    host: str,
    state: Callable[[int], str],
    late_seconds: float,
    *,
    has_lost: bool,
) -> Standing:
    if beat is None:
        kind = "waiting" if has_lost else "silent"
        return Standing(rank, kind, f"rank {rank} has no heartbeat: it never began to train, or has ended")
    process = f"process {beat.identity.pid} on {beat.identity.host}"
    known = state(beat.identity.pid) if beat.identity.host == host else "unknown"
    is_late = now - beat.time > late_seconds
    if has_lost and (known in ("gone", "stopped") or is_late or not beat.collective):
        where = f"waited in a collective ({beat.place})" if beat.collective else f"was in {beat.place}"
        return Standing(rank, "waiting", f"rank {rank} {where}, and has lost another as well")
    if known == "gone":
        return Standing(rank, "gone", f"rank {rank} is gone ({process}); last seen in {beat.place}")
    if known == "stopped" or is_late:
        why = "is stopped" if known == "stopped" else f"has not been heard of for {now - beat.time:.0f} s"
        return Standing(rank, "silent", f"rank {rank} does not answer: {process} {why}; last seen in {beat.place}")
    seconds = f"for {max(0.0, now - beat.progress_time):.0f} s"
    if beat.collective:
        return Standing(rank, "waiting", f"rank {rank} waits in a collective ({beat.place}) {seconds}")
    return Standing(rank, "busy", f"rank {rank} is in {beat.place} {seconds}, not in a collective")


def describe_standings(standings: Sequence[Standing], most: int = 8) -> list[str]:
    """A line for each of the first `most`, and one for the rest."""
    lines = [standing.line for standing in standings[:most]]
    rest = standings[most:]
    if rest:
        lines.append(
            f"and {len(rest)} more, of which {sum(one.kind == 'waiting' for one in rest)} wait in a collective"
        )
    return lines
