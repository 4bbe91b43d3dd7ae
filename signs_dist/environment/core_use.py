"""How busy other programs keep the cores that this process may use, and how its threads wait for each other."""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from collections.abc import Collection, Mapping, MutableMapping
from pathlib import Path

from signs_dist.environment.cores import count_sharing, count_threads, read_affinity, read_usable_cores
from signs_dist.environment.launchers import LaunchedProcess, find_launch
from signs_dist.errors import UserError

_SHORTEST_SECONDS = 0.05
"""The system counts time on cores in ticks of 0.01 s: a shorter time between two readings says nothing."""
_LOOK_SECONDS = 0.004
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Variables by which a person chooses how the threads of OpenMP wait."""


@dataclasses.dataclass(frozen=True)
class CoreUse:
    """Seconds on cores since the machine and this process were started.

    Attributes:
        time: of the reading, in seconds.
        all_seconds: of all programs, on the cores that this process may use.
        own_seconds: of this process and of its children that have ended.
    """

    time: float
    all_seconds: float
    own_seconds: float

    @classmethod
    def read(cls) -> CoreUse | None:
        """The use until now; None on a system without /proc."""
        try:
            text = Path("/proc/stat").read_text(encoding="ascii")
            all_seconds = parse_busy_ticks(text, os.sched_getaffinity(0)) / os.sysconf("SC_CLK_TCK")
        except (OSError, ValueError, AttributeError):
            return None
        return cls(time.monotonic(), all_seconds, sum(os.times()[:4]))

    def others_since(self, earlier: CoreUse) -> float | None:
        """Cores that other programs kept busy since `earlier`, on average; None after too short a time."""
        elapsed = self.time - earlier.time
        if elapsed < _SHORTEST_SECONDS:
            return None
        others = (self.all_seconds - earlier.all_seconds) - (self.own_seconds - earlier.own_seconds)
        return max(0.0, others / elapsed)


def parse_busy_ticks(stat: str, cores: Collection[int]) -> int:
    """Ticks that `cores` spent on programs, from the text of /proc/stat (see proc(5)): user, nice and system."""
    rows = [line.split() for line in stat.splitlines()]
    of_core = {row[0]: row[1:4] for row in rows if row and row[0].startswith("cpu")}
    return sum(int(ticks) for core in cores for ticks in of_core.get(f"cpu{core}", ()))


def describe_busy_cores(others: float | None, num_cores: int, num_threads: int) -> str:
    """What to tell about the cores that other programs keep busy; "" if enough are free for `num_threads` threads."""
    if others is None or num_cores - others > num_threads - 0.5:
        return ""
    return f"other programs keep {min(others, num_cores):.1f} of the {num_cores} cores busy: training is slower for it"


def told_busy_cores(earlier: CoreUse | None, num_threads: int) -> str:
    """`describe_busy_cores` for the time since `earlier`; "" where that is not known."""
    now = CoreUse.read()
    if earlier is None or now is None:
        return ""
    return describe_busy_cores(now.others_since(earlier), read_affinity(), num_threads)


def should_sleep(*, num_processes: int, num_threads: int, num_busy: int, usable_cores: int, machine_cores: int) -> bool:
    """Whether OpenMP's threads should sleep at once while they wait for each other.

    By default they keep their cores busy for a while. Where fewer cores are free than threads compute, they then wait
    most of that time for a thread that has no core: docs/performance.md has figures. With a core for each thread the
    default is faster, however many processes there are. A single thread waits for no other.

    Args:
        num_processes: of the run that share the usable cores, this process among them.
        num_threads: of one operation, in each of these processes.
        num_busy: programs outside of the run that have a core or wait for one.
        usable_cores: cores that these processes may use.
        machine_cores: cores of the machine.
    """
    return num_threads > 1 and num_processes * num_threads > min(usable_cores, machine_cores - num_busy)


def set_waiting(
    environment: MutableMapping[str, str],
    modules: Mapping[str, object] = sys.modules,
    *,
    num_started: int | None = None,
) -> None:
    """Let OpenMP's threads sleep while they wait, where too few cores are free. No bit of a result depends on it.

    Without effect where `environment` says how they wait, and once torch is imported, because OpenMP reads the variable
    when it is loaded.

    Args:
        environment: such as `os.environ`.
        modules: the modules that are imported.
        num_started: processes of a run that this one is about to start, and that compute in its place. None: this
            process computes, and the launcher's variables say how many others do on this machine.
    """
    if not _may_choose(environment, modules):
        return
    usable_cores, machine_cores = read_usable_cores(environment), os.cpu_count() or 1
    launch = _launch_of(environment) if num_started is None else LaunchedProcess(local_world_size=num_started)
    num_here = launch.local_world_size
    slurm_cpus = environment.get("SLURM_CPUS_PER_TASK")
    num_sharing = count_sharing(launch.launcher, num_here, read_affinity(), machine_cores, slurm_cpus)
    num_threads = count_threads(usable_cores, environment.get("OMP_NUM_THREADS"), launch.launcher, num_sharing)
    # The other processes of the run are at their start as this one is: they are busy now, and counted already.
    num_own = num_here if num_started is None else 1
    if num_threads > 1 and should_sleep(
        num_processes=num_sharing,
        num_threads=num_threads,
        num_busy=max(0, count_running() - num_own),
        usable_cores=usable_cores,
        machine_cores=machine_cores,
    ):
        environment["OMP_WAIT_POLICY"] = "PASSIVE"


def _launch_of(environment: Mapping[str, str]) -> LaunchedProcess:
    """Who launched this process; as if nobody where its variables contradict each other, which is told later."""
    try:
        return find_launch(environment)
    except UserError:
        return LaunchedProcess()


def let_threads_sleep(environment: MutableMapping[str, str], modules: Mapping[str, object] = sys.modules) -> None:
    """As `set_waiting`, for a command whose own threads want the cores at the same time, whatever else runs."""
    if _may_choose(environment, modules):
        environment["OMP_WAIT_POLICY"] = "PASSIVE"


def _may_choose(environment: Mapping[str, str], modules: Mapping[str, object]) -> bool:
    """Whether the variable has an effect, and nobody has set one."""
    return "torch" not in modules and not any(name in environment for name in WAITING)


def count_running() -> int:
    """Programs that have a core or wait for one, this process among them: the least of three looks; 1 if not known."""
    seen = []
    for _ in range(3):
        try:
            text = Path("/proc/stat").read_text(encoding="ascii")
        except OSError:
            return 1
        seen.append(parse_running(text))
        time.sleep(_LOOK_SECONDS)
    return max(1, min(seen))


def parse_running(stat: str) -> int:
    """`procs_running` in the text of /proc/stat (see proc(5)); 1 without it."""
    found = [line.split()[1] for line in stat.splitlines() if line.startswith("procs_running ")]
    return int(found[0]) if found else 1
