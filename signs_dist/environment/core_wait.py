"""How long the threads of this process wait for a core while they could compute; told once in a run if it is long."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

LEAST_SECONDS = 10.0
"""A shorter time between two looks says nothing: another program may have been busy for a moment."""
LARGE_SHARE = 0.5
"""From this share of the time on it is told: a step then takes at least twice its processor time."""
_TASKS = Path("/proc/self/task")


@dataclasses.dataclass(frozen=True)
class CoreWait:
    """Seconds that threads of this process have waited for a core while they were ready to run.

    It holds no wait for anything else, such as images, a GPU, the disk or other processes.

    Attributes:
        time: of the reading, in seconds.
        waited_seconds: thread id → seconds since the thread began.
    """

    time: float
    waited_seconds: Mapping[int, float]

    @classmethod
    def read(cls) -> CoreWait | None:
        """The waits until now; None where the system does not count them: it is no Linux, or has no schedstats."""
        waited = {}
        try:
            for task in _TASKS.iterdir():
                try:
                    waited[int(task.name)] = parse_waited((task / "schedstat").read_text(encoding="ascii"))
                except (FileNotFoundError, ProcessLookupError):
                    continue  # the thread has ended meanwhile
        except (OSError, ValueError):
            return None
        return cls(time.monotonic(), waited) if waited else None

    def longest_since(self, earlier: CoreWait) -> float:
        """The longest wait of one thread since `earlier`, in seconds: threads that compute together wait for it."""
        before = earlier.waited_seconds
        return max((seconds - before.get(thread, 0.0) for thread, seconds in self.waited_seconds.items()), default=0.0)


def parse_waited(schedstat: str) -> float:
    """Seconds of waiting in a thread's schedstat: nanoseconds on a core, nanoseconds of waiting for one, turns.

    Source: Documentation/scheduler/sched-stats.rst of Linux.

    Raises:
        ValueError: the text is of another form.
    """
    words = schedstat.split()
    if len(words) != 3:
        raise ValueError(f"schedstat holds {schedstat!r}")
    return int(words[1]) / 1e9


def list_remedies(
    num_threads: int, num_processes: int, *, threads_setting: int | str, is_exact: bool, policy: str | None
) -> list[str]:
    """What helps a process whose threads wait for cores, the cheapest first.

    Args:
        num_threads: of one operation.
        num_processes: of the run.
        threads_setting: train.num_threads, which outranks OMP_NUM_THREADS unless it is `auto`.
        is_exact: another number of threads would then give another result.
        policy: OMP_WAIT_POLICY; None if it is not set.
    """
    remedies = []
    if num_threads > 1 and not is_exact:
        fewer = "OMP_NUM_THREADS=1" if threads_setting == "auto" else "train.num_threads=1"
        remedies.append(f"fewer threads ({fewer})")
    if num_threads > 1 and (policy or "").upper() != "PASSIVE":
        remedies.append("OMP_WAIT_POLICY=PASSIVE")
    if num_processes > 1:
        remedies.append("fewer processes")
    return [*remedies, "a machine with free cores"]


def describe_wait(waited: float, elapsed: float, remedies: Sequence[str]) -> str:
    """What to tell about the wait for cores, with what helps; "" where it is short.

    Args:
        waited: seconds that a thread waited for a core.
        elapsed: seconds in which it did.
        remedies: from `list_remedies`.
    """
    if elapsed < LEAST_SECONDS or waited < LARGE_SHARE * elapsed:
        return ""
    share = min(waited / elapsed, 0.99)
    *others, last = remedies
    way = f"{', '.join(others)} or {last}" if others else last
    return (
        f"too few cores are free: in the last {elapsed:.0f} s a thread of this process waited {100 * share:.0f} % of "
        f"the time for a core, so a step takes about {1 / (1 - share):.1f} times its processor time. What helps: {way}"
    )


class CoreWatch:
    """Looks now and then how long threads wait for cores, and tells a long wait once.

    Args:
        remedies: from `list_remedies`.
        read: reads the waits until now.
    """

    def __init__(self, remedies: Sequence[str], read: Callable[[], CoreWait | None] = CoreWait.read) -> None:
        self._remedies, self._read = remedies, read
        self._earlier = read()
        self._is_done = self._earlier is None

    def look(self) -> str:
        """What to tell now; "" for nothing: the wait is short, was told before, or the last look was a moment ago."""
        if self._is_done:
            return ""
        assert self._earlier is not None
        if time.monotonic() - self._earlier.time < LEAST_SECONDS:
            return ""
        now = self._read()
        if now is None:
            return ""
        elapsed, waited = now.time - self._earlier.time, now.longest_since(self._earlier)
        self._earlier = now
        told = describe_wait(waited, elapsed, self._remedies)
        self._is_done = bool(told)
        return told
