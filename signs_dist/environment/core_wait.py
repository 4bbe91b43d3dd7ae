"""How long the threads of this process wait for a core while they could compute; told once in a run if it is long."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
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


def describe_wait(waited: float, elapsed: float, num_threads: int, num_processes: int) -> str:
    """What to tell about the wait for cores, with what helps; "" where it is short.

    Args:
        waited: seconds that a thread waited for a core.
        elapsed: seconds in which it did.
        num_threads: threads of one operation.
        num_processes: of the run.
    """
    if elapsed < LEAST_SECONDS or waited < LARGE_SHARE * elapsed:
        return ""
    share = min(waited / elapsed, 0.99)
    helps = [
        *(["fewer threads (OMP_NUM_THREADS=1)", "OMP_WAIT_POLICY=PASSIVE"] if num_threads > 1 else []),
        *(["fewer processes"] if num_processes > 1 else []),
        "a machine with free cores",
    ]
    way = helps[0] if len(helps) == 1 else f"{', '.join(helps[:-1])} or {helps[-1]}"
    return (
        f"too few cores are free: in the last {elapsed:.0f} s a thread of this process waited {100 * share:.0f} % of "
        f"the time for a core, so a step takes about {1 / (1 - share):.1f} times its processor time. What helps: {way}"
    )


class CoreWatch:
    """Looks now and then how long threads wait for cores, and tells a long wait once.

    Args:
        num_threads: threads of one operation.
        num_processes: of the run.
        read: reads the waits until now.
    """

    def __init__(
        self, num_threads: int, num_processes: int, read: Callable[[], CoreWait | None] = CoreWait.read
    ) -> None:
        self._num_threads, self._num_processes, self._read = num_threads, num_processes, read
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
        told = describe_wait(waited, elapsed, self._num_threads, self._num_processes)
        self._is_done = bool(told)
        return told
