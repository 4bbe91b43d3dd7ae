"""The run folder: writing, renaming, locking and flushing, its speed and space, and what other machines see of it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from signs_dist.health.finding import Finding, Place, merge

CHECK = "run folder"
FILE_BYTES = 32 * 2**20
LEAST_FREE_BYTES = 2**30
SLOW_FLUSH_SECONDS = 0.5
SLOW_BYTES_PER_SECOND = 20 * 2**20
LATE_SECONDS = 2.0
"""A file that other machines see later than this is told."""
LOOK_SECONDS = 12.0
"""How long other machines look for a file: NFS keeps names and attributes for 3 to 60 s (nfs(5), acregmin)."""
CLOCK_SECONDS = 2.0
_POLL_SECONDS = 0.02
PREFIX = ".doctor-"


@dataclasses.dataclass(frozen=True)
class FolderReading:
    """What one machine found in the folder.

    Attributes:
        folder: that was tried: the run folder, or the nearest folder above it that exists.
        problem: what could not be done, and why; "" if all could.
        write_bytes_per_second: of a file that is flushed to the disk.
        flush_seconds: of a flush of a few bytes.
        free_bytes: for this user.
        kind: of the file system, such as ext4 or nfs4; "" where the system does not tell.
        clock_seconds: how far the file server's clock is ahead of this machine's.
    """

    folder: str
    problem: str = ""
    write_bytes_per_second: float = 0.0
    flush_seconds: float = 0.0
    free_bytes: int = 0
    kind: str = ""
    clock_seconds: float = 0.0


def existing(folder: Path) -> Path:
    """The folder itself, or the nearest one above it that exists."""
    path = folder.absolute()
    while not path.is_dir() and path != path.parent:
        path = path.parent
    return path


def measure(folder: Path, num_bytes: int = FILE_BYTES) -> dict[str, Any]:
    """Write, rename, lock and flush in a folder; nothing stays. `FolderReading` as plain values."""
    place = existing(folder)
    reading = FolderReading(str(place), kind=file_system_of(place, _mounts()))
    doing = "make a folder"
    try:
        free = shutil.disk_usage(place).free
        with _own_folder(place) as own:
            doing = "write a file"
            one, other = own / "one", own / "other"
            started = time.perf_counter()
            with one.open("wb") as stream:
                block = os.urandom(2**20)  # a file system that packs would write zeros at once
                for _ in range(max(1, num_bytes // 2**20)):
                    stream.write(block)
                stream.flush()
                doing = "flush a file to the disk (fsync)"
                os.fsync(stream.fileno())
            took = time.perf_counter() - started
            clock = one.stat().st_mtime - time.time()
            doing = "rename a file over another"
            other.write_bytes(b"old")
            one.replace(other)
            if other.stat().st_size < num_bytes // 2**20 * 2**20:
                raise OSError("the renamed file is not whole")
            doing = "lock a file"
            _lock(own / "lock")
            doing = "flush a file to the disk (fsync)"
            flushed = _flush_seconds(own / "small")
    except (OSError, ValueError) as error:
        problem = f"cannot {doing}: {getattr(error, 'strerror', None) or error}"
        return dataclasses.asdict(dataclasses.replace(reading, problem=problem))
    return dataclasses.asdict(
        dataclasses.replace(
            reading,
            write_bytes_per_second=num_bytes / max(took, 1e-6),
            flush_seconds=flushed,
            free_bytes=free,
            clock_seconds=clock,
        )
    )


@contextlib.contextmanager
def _own_folder(place: Path) -> Iterator[Path]:
    own = place / f"{PREFIX}{uuid.uuid4().hex[:12]}"
    own.mkdir()
    try:
        yield own
    finally:
        shutil.rmtree(own, ignore_errors=True)


def _lock(path: Path) -> None:
    """Take a lock as a run does, and see that another open file does not get it. Raises OSError."""
    import fcntl

    with path.open("wb") as first, path.open("wb") as second:
        fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
    raise OSError("two programs got the same lock")


def _flush_seconds(path: Path) -> float:
    started = time.perf_counter()
    with path.open("wb") as stream:
        stream.write(b"a few bytes")
        stream.flush()
        os.fsync(stream.fileno())
    return time.perf_counter() - started


def _mounts() -> str:
    try:
        return Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def file_system_of(folder: Path, mounts: str) -> str:
    """The kind of the file system of a folder, from the text of /proc/self/mounts (proc_pid_mounts(5))."""
    best, kind = -1, ""
    for line in mounts.splitlines():
        words = line.split()
        if len(words) < 3:
            continue
        point = Path(words[1].encode().decode("unicode_escape"))
        if (folder == point or point in folder.parents) and len(point.parts) >= best:
            best, kind = len(point.parts), words[2]
    return kind


def judge(readings: Mapping[int, Mapping[str, Any]], places: Mapping[int, Place]) -> list[Finding]:
    """The finding of each machine; `readings` are those of the ranks that speak for their machines."""
    return merge({places[rank].node: judge_machine(FolderReading(**reading)) for rank, reading in readings.items()})


def judge_machine(reading: FolderReading) -> Finding:
    """What is found about the folder on one machine, the worst first."""
    where = f"{reading.folder}{f' ({reading.kind})' if reading.kind else ''}"
    expected = "a folder to write to, whose files can be renamed, locked and flushed"
    if reading.problem:
        return Finding(CHECK, "fail", f"{where}: {reading.problem}", expected, _mend_problem(reading))
    speed = f"{reading.write_bytes_per_second / 2**20:,.0f} MiB/s"
    told = (
        f"{where}: written and flushed at {speed}, a flush in {1000 * reading.flush_seconds:.0f} ms, "
        f"{reading.free_bytes / 2**30:,.1f} GiB free"
    )
    if reading.free_bytes < LEAST_FREE_BYTES:
        mend = f"free some space (du -sh {reading.folder}/*), or another --run-dir"
        return Finding(CHECK, "warn", told, "1 GiB free, for checkpoints", mend)
    if reading.write_bytes_per_second < SLOW_BYTES_PER_SECOND or reading.flush_seconds > SLOW_FLUSH_SECONDS:
        mend = "save less often (checkpoint.every_seconds), or a faster file system for --run-dir"
        return Finding(CHECK, "warn", f"slow: {told}", "20 MiB/s, and a flush in 500 ms", mend)
    if abs(reading.clock_seconds) > CLOCK_SECONDS:
        return Finding(
            CHECK,
            "warn",
            f"{where}: the clock of its file server is {abs(reading.clock_seconds):.1f} s "
            f"{'ahead of' if reading.clock_seconds > 0 else 'behind'} this machine's",
            f"at most {CLOCK_SECONDS:g} s, since the age of a file tells whether a run is alive",
            "sudo chronyc makestep, or sudo timedatectl set-ntp true, on both machines",
        )
    return Finding(CHECK, "ok", told, expected)


def _mend_problem(reading: FolderReading) -> str:
    if "lock" in reading.problem:
        return "mount it with locks (nfs: without nolock; lustre: with flock), or another --run-dir"
    if "Read-only" in reading.problem:
        return f"mount -o remount,rw {reading.folder} as root, or another --run-dir"
    if "space" in reading.problem or "quota" in reading.problem:
        return f"free some space (df -h {reading.folder}; quota -s), or another --run-dir"
    return f"chmod u+rwx {reading.folder}, or another --run-dir"


class SharedView:
    """One rank writes, and the others look: whether all machines see the same folder, and how late.

    Args:
        folder: that all ranks share.
        name: of the file, which all ranks know.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._path = existing(folder) / f"{PREFIX}{name}"

    def write(self, text: str) -> None:
        """Put the file in place, whole. Raises OSError."""
        aside = self._path.with_name(f"{self._path.name}-aside")
        with aside.open("w", encoding="ascii") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        aside.replace(self._path)

    def look(self, text: str, seconds: float = LOOK_SECONDS) -> float | None:
        """Seconds until this machine sees the file with this text; None if it does not within `seconds`."""
        started = time.monotonic()
        while (waited := time.monotonic() - started) < seconds:
            with contextlib.suppress(OSError, ValueError):
                if self._path.read_text(encoding="ascii") == text:
                    return waited
            time.sleep(_POLL_SECONDS)
        return None

    def remove(self) -> None:
        """Remove the file."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)


def judge_view(
    seen: Mapping[int, tuple[float | None, float | None]], places: Mapping[int, Place], folder: str
) -> list[Finding]:
    """Whether all machines see what rank 0 writes.

    Args:
        seen: by the ranks that speak for other machines than rank 0's: seconds until they saw a new file, and until
            they saw what replaced it; None: they did not.
        places: of each rank.
        folder: for people.
    """
    name, found = "same view", []
    for rank, times in seen.items():
        node = places[rank].node
        new, changed = times
        if new is None:
            found.append(
                Finding(
                    name,
                    "fail",
                    f"{node} does not see in {folder} what {places[0].node} writes there ({LOOK_SECONDS:g} s)",
                    "one folder for all machines",
                    "--run-dir on a file system that all nodes share; df DIR on both tells which it is",
                )
            )
        elif changed is None or max(new, changed) > LATE_SECONDS:
            late = f"more than {LOOK_SECONDS:g} s" if changed is None else f"{max(new, changed):.1f} s"
            found.append(
                Finding(
                    name,
                    "warn",
                    f"{node} sees {late} late what {places[0].node} writes to {folder}",
                    f"at most {LATE_SECONDS:g} s, since a resume on another node reads what this one wrote",
                    "mount it with actimeo=1 (nfs(5)); checkpoint.takeover_seconds is to be longer than the delay",
                )
            )
    if found:
        return found
    if not seen:
        return [Finding(name, "skip", "all ranks are on one machine: no other machine looks into the run folder")]
    slowest = max(max(new or 0.0, changed or 0.0) for new, changed in seen.values())
    told = f"{len(seen) + 1} machines see the same files in {folder}, the last one after {slowest:.2f} s"
    return [Finding(name, "ok", told, f"at most {LATE_SECONDS:g} s late")]
