"""How long the threads of this process wait for a core while they could compute, and how many threads fit then."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from signs_dist.environment.core_use import CoreUse
from signs_dist.environment.cores import read_affinity

LEAST_SECONDS = 10.0
"""A shorter time between two looks says nothing: another program may have been busy for a moment."""
LARGE_SHARE = 0.5
"""From this share of the time on it is told: a step then takes at least twice its processor time."""
SMALL_SHARE = 0.1
"""Below this share threads hardly wait: more of them may fit."""
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


def is_passive(policy: str | None) -> bool:
    """Whether OpenMP's threads sleep while they wait, from the value of OMP_WAIT_POLICY; None if it is not set."""
    return (policy or "").upper() == "PASSIVE"


def list_remedies(
    num_threads: int, num_processes: int, *, threads_setting: int | str, is_exact: bool, policy: str | None
) -> list[str]:
    """What helps a process whose threads wait for cores, what helps most first.

    Args:
        num_threads: of one operation.
        num_processes: of the run.
        threads_setting: train.num_threads, which outranks OMP_NUM_THREADS unless it is `auto`.
        is_exact: another number of threads would then give another result.
        policy: OMP_WAIT_POLICY; None if it is not set.
    """
    remedies = []
    if num_threads > 1 and not is_passive(policy):
        # Threads that sleep while they wait lose little, and get a larger share of the cores than one.
        fewer = "OMP_NUM_THREADS=1" if threads_setting == "auto" else "train.num_threads=1"
        remedies += ["OMP_WAIT_POLICY=PASSIVE", *([] if is_exact else [f"fewer threads ({fewer})"])]
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


def fitting_threads(
    num_threads: int, most: int, *, wait_share: float, others: float, num_cores: int, num_sharing: int
) -> int:
    """How many threads to continue with, so that each has a core: fewer after long waits, and more when cores are free.

    Args:
        num_threads: of one operation now.
        most: as many as there were at the start.
        wait_share: which share of the time a thread has waited for a core.
        others: cores that other processes kept busy meanwhile, those of the run among them.
        num_cores: cores that this process may use.
        num_sharing: processes of the run that share these cores, this process among them. They look at the same time:
            each takes its share of what is free, not all of it.
    """
    outside = max(0.0, others - (num_sharing - 1) * num_threads)
    num_free = max(1, int((num_cores - outside + 0.5) / num_sharing))
    if wait_share >= LARGE_SHARE:
        return min(num_threads, num_free)
    if wait_share < SMALL_SHARE:
        return max(num_threads, min(most, num_free))
    return num_threads


class CoreWatch:
    """Looks now and then how long threads wait for cores, tells a long wait once, and says how many threads fit.

    Args:
        num_threads: of one operation.
        list_remedies: from a number of threads to what helps then.
        may_change: whether the number of threads may change.
        read: reads the waits until now.
        read_use: reads how busy the cores were until now.
        num_cores: cores that this process may use.
        num_sharing: processes of the run that share these cores, this process among them.

    Attributes:
        num_threads: how many fit, as the last look found.
    """

    def __init__(
        self,
        num_threads: int,
        list_remedies: Callable[[int], Sequence[str]],
        *,
        may_change: bool,
        read: Callable[[], CoreWait | None] = CoreWait.read,
        read_use: Callable[[], CoreUse | None] = CoreUse.read,
        num_cores: int | None = None,
        num_sharing: int = 1,
    ) -> None:
        self.num_threads = self._most = num_threads
        self._list_remedies, self._may_change = list_remedies, may_change and num_threads > 1
        self._read, self._read_use = read, read_use
        self._num_cores = read_affinity() if num_cores is None else num_cores
        self._num_sharing = num_sharing
        self._earlier, self._earlier_use = read(), read_use()
        self._has_told_wait = self._has_told_end = False

    def look(self) -> str:
        """What to tell now; "" for nothing: the wait is short, was told before, or the last look was a moment ago."""
        if self._earlier is None or (self._has_told_wait and not self._may_change):
            return ""
        if time.monotonic() - self._earlier.time < LEAST_SECONDS:
            return ""
        now, use = self._read(), self._read_use()
        if now is None:
            return ""
        elapsed, waited = now.time - self._earlier.time, now.longest_since(self._earlier)
        others = None if use is None or self._earlier_use is None else use.others_since(self._earlier_use)
        self._earlier, self._earlier_use = now, use
        before = self.num_threads
        if self._may_change and others is not None:
            self.num_threads = fitting_threads(
                before,
                self._most,
                wait_share=waited / elapsed,
                others=others,
                num_cores=self._num_cores,
                num_sharing=self._num_sharing,
            )
        return self._tell(waited, elapsed, before)

    def _tell(self, waited: float, elapsed: float, before: int) -> str:
        count = "1 thread" if self.num_threads == 1 else f"{self.num_threads} threads"
        if self.num_threads > before and not self._has_told_end:
            self._has_told_end = True
            return f"cores are free again: training continues with {count}"
        told = describe_wait(waited, elapsed, self._list_remedies(self.num_threads))
        if not told or self._has_told_wait:
            return ""
        self._has_told_wait = True
        return (
            f"{told}. Training continues with {count} until more cores are free" if self.num_threads < before else told
        )
