"""Limits of a process: shared memory, open files, locked memory, processes, and free memory, each against the need."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from signs_dist.data.loader_room import FILES_PER_BATCH, FILES_PER_WORKER, OTHER_FILES
from signs_dist.environment.limit_errors import UNLIMITED, session_limits
from signs_dist.environment.worker_limits import SHARED_MEMORY, read_limits
from signs_dist.health.finding import Finding, Place, merge

INFINIBAND = Path("/sys/class/infiniband")
MEMINFO = Path("/proc/meminfo")
MEMORY_LIMIT = Path("/sys/fs/cgroup/memory.max")
"""What the control group of a container grants (cgroup v2): a number of bytes, or max."""
LOCKED_BYTES = 64 * 2**20
"""What NCCL and the drivers of a fast network lock at least (NCCL, "Troubleshooting", memory lock limit)."""
PROCESS_BYTES = 2**30
"""Memory that a rank needs for torch, its libraries and a small network, about."""
THREADS_PER_RANK = 64
"""Processes and threads of a rank beside its loader workers: of OpenMP, gloo, and the toolkit."""
_MIB = 2**20


@dataclasses.dataclass(frozen=True)
class Need:
    """What a run takes from the limits.

    Attributes:
        num_workers: loader workers of a rank.
        prefetch: batches that each has ready.
        batch_bytes: images of a step on one rank.
        num_ranks: on this machine.
        world_size: of the run.
    """

    num_workers: int
    prefetch: int
    batch_bytes: int
    num_ranks: int
    world_size: int

    @property
    def shared_bytes(self) -> int:
        """Shared memory of all ranks of the machine."""
        return self.num_ranks * self.num_workers * self.prefetch * self.batch_bytes

    @property
    def open_files(self) -> int:
        """Open files of a rank: two for each connection to another rank, and what the loader needs."""
        loader = FILES_PER_WORKER * self.num_workers + FILES_PER_BATCH * (self.prefetch + 1)
        return loader + OTHER_FILES + 4 * self.world_size + 64


@dataclasses.dataclass(frozen=True)
class Amounts:
    """What a process has.

    Attributes:
        shared_bytes: free shared memory; None where the system does not say.
        is_shared_writable: whether this process may make shared memory.
        open_files, open_files_ceiling: `ulimit -n` and `ulimit -Hn`; None: no limit.
        num_open_files: open now.
        locked_bytes: `ulimit -l`, in bytes; None: no limit.
        locked_ceiling: up to what the user may raise it; None: no limit.
        has_infiniband: whether the machine has a network card that needs locked memory.
        processes: `ulimit -u`; None: no limit.
        memory_limit: `ulimit -v`, in bytes; None: no limit.
        free_bytes: memory that programs can still have; None where the system does not say.
    """

    shared_bytes: int | None
    is_shared_writable: bool
    open_files: int | None
    open_files_ceiling: int | None
    num_open_files: int
    locked_bytes: int | None
    locked_ceiling: int | None
    has_infiniband: bool
    processes: int | None
    memory_limit: int | None
    free_bytes: int | None


def read_amounts() -> dict[str, Any]:
    """`Amounts` as plain values."""
    import resource

    limits, session = read_limits(), session_limits()

    def soft(name: str) -> int | None:
        value = session.get(name, (UNLIMITED, UNLIMITED))[0]
        return None if value == UNLIMITED else value

    locked = [None if value == UNLIMITED else value for value in resource.getrlimit(resource.RLIMIT_MEMLOCK)]
    amounts = Amounts(
        limits.shared_bytes,
        limits.is_shared_writable,
        limits.open_files,
        limits.open_files_ceiling,
        limits.num_open_files,
        locked[0],
        locked[1],
        INFINIBAND.is_dir() and any(INFINIBAND.iterdir()),
        soft("processes"),
        soft("memory"),
        read_free_memory(MEMINFO, MEMORY_LIMIT),
    )
    return dataclasses.asdict(amounts)


def read_free_memory(meminfo: Path, limit: Path) -> int | None:
    """MemAvailable (proc_meminfo(5)), in bytes, or the control group's limit if it is less; None if neither is told.

    Args:
        meminfo: /proc/meminfo.
        limit: memory.max of the control group.
    """
    found = [int(line.split()[1]) * 1024 for line in _lines(meminfo) if line.startswith("MemAvailable:")]
    return min(found + [int(line) for line in _lines(limit) if line.isdigit()], default=None)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").splitlines()
    except OSError:
        return []


def judge(
    readings: Mapping[int, Mapping[str, Any]], places: Mapping[int, Place], leaders: Sequence[int], need: Need
) -> list[Finding]:
    """A finding for each limit, of each machine where they differ.

    Args:
        readings: of each rank, from `read_amounts`.
        places: of each rank.
        leaders: the ranks that speak for their machines.
        need: of the run, on the machine with the most ranks.
    """
    judges: Sequence[Callable[[Amounts, Need], Finding]] = (
        judge_shared_memory,
        judge_open_files,
        judge_locked_memory,
        judge_processes,
        judge_memory,
    )
    found = []
    for judge_limit in judges:
        found += merge(
            {places[rank].node: judge_limit(Amounts(**readings[rank]), need) for rank in leaders if rank in readings}
        )
    return found


def judge_shared_memory(amounts: Amounts, need: Need) -> Finding:
    """/dev/shm, through which loader workers send images, and NCCL its data within a machine."""
    name, mend = (
        "/dev/shm",
        "docker run --shm-size=8g, or as root: mount -o remount,size=8G /dev/shm; or free it: ls -l /dev/shm",
    )
    if not amounts.is_shared_writable:
        return Finding(
            name, "fail", f"this process may not write to {SHARED_MEMORY}", "a folder that all may write to",
            "as root: chmod 1777 /dev/shm"
        )  # fmt: skip
    if amounts.shared_bytes is None:
        return Finding(name, "skip", "this system does not say how much shared memory is free")
    expected = f"{_mib(max(need.shared_bytes, 64 * _MIB))} for {_workers(need)}, more for NCCL"
    measured = f"{_mib(amounts.shared_bytes)} free"
    if amounts.shared_bytes < max(need.shared_bytes, _MIB):
        return Finding(name, "fail", measured, expected, f"{mend}; or data.num_workers=0")
    if amounts.shared_bytes < max(2 * need.shared_bytes, 64 * _MIB):
        return Finding(name, "warn", measured, expected, mend)
    return Finding(name, "ok", measured, expected)


def judge_open_files(amounts: Amounts, need: Need) -> Finding:
    """`ulimit -n`."""
    wanted = amounts.num_open_files + need.open_files
    expected = f"about {wanted} for {_workers(need)} and {_ranks(need.world_size)}"
    if amounts.open_files is None:
        return Finding("open files", "ok", "no limit", expected)
    measured = f"at most {amounts.open_files:,} (ulimit -n), {amounts.num_open_files} open now"
    ceiling = amounts.open_files_ceiling
    if ceiling is None or ceiling >= wanted:
        mend = f"ulimit -n {max(wanted, 4096) if ceiling is None else min(ceiling, max(wanted, 4096))}"
    else:
        mend = "root raises nofile in /etc/security/limits.conf (on SLURM LimitNOFILE of slurmd); or data.num_workers=0"
    if amounts.open_files < wanted:
        return Finding("open files", "fail", measured, expected, mend)
    return Finding("open files", "ok", measured, expected)


def judge_locked_memory(amounts: Amounts, need: Need) -> Finding:
    """`ulimit -l`, which InfiniBand and RoCE need."""
    name = "locked memory"
    shown = "no limit" if amounts.locked_bytes is None else f"at most {_mib(amounts.locked_bytes)} (ulimit -l)"
    if not amounts.has_infiniband:
        return Finding(name, "ok", f"{shown}; this machine has no InfiniBand, which would need more")
    expected = "no limit, for InfiniBand"
    if amounts.locked_bytes is None:
        return Finding(name, "ok", shown, expected)
    if amounts.locked_ceiling is None:
        mend = "ulimit -l unlimited"
    else:
        mend = "root sets memlock to unlimited in /etc/security/limits.conf (on SLURM LimitMEMLOCK=infinity of slurmd)"
    is_little = amounts.locked_bytes < LOCKED_BYTES and need.world_size > need.num_ranks
    return Finding(name, "fail" if is_little else "warn", shown, expected, mend)


def judge_processes(amounts: Amounts, need: Need) -> Finding:
    """`ulimit -u`."""
    wanted = need.num_ranks * (THREADS_PER_RANK + 4 * need.num_workers)
    expected = f"about {wanted} processes and threads for {_ranks(need.num_ranks)} of this machine"
    if amounts.processes is None:
        return Finding("processes", "ok", "no limit", expected)
    measured = f"at most {amounts.processes:,} of this user (ulimit -u)"
    if amounts.processes < wanted:
        mend = "ulimit -u unlimited, or root raises nproc in /etc/security/limits.conf"
        return Finding("processes", "warn", measured, expected, mend)
    return Finding("processes", "ok", measured, expected)


def judge_memory(amounts: Amounts, need: Need) -> Finding:
    """Free memory of the machine, and `ulimit -v`."""
    wanted = need.num_ranks * PROCESS_BYTES
    expected = f"about {_mib(wanted)} for {_ranks(need.num_ranks)} of a small network, and the images"
    if amounts.memory_limit is not None and amounts.memory_limit < 16 * PROCESS_BYTES:
        measured = (
            f"a process may have {_mib(amounts.memory_limit)} of addresses (ulimit -v), which torch needs many of"
        )
        return Finding("memory", "warn", measured, "no limit on addresses", "ulimit -v unlimited")
    if amounts.free_bytes is None:
        return Finding("memory", "skip", "this system does not say how much memory is free")
    measured = f"{_mib(amounts.free_bytes)} free"
    if amounts.free_bytes < wanted:
        mend = "fewer processes on this machine, or more memory (on SLURM --memory 64G)"
        return Finding("memory", "warn", measured, expected, mend)
    return Finding("memory", "ok", measured, expected)


def _workers(need: Need) -> str:
    each = "1 loader worker" if need.num_workers == 1 else f"{need.num_workers} loader workers"
    return each if need.num_ranks == 1 else f"{each} of each of {need.num_ranks} ranks"


def _ranks(count: int) -> str:
    return "1 rank" if count == 1 else f"{count} ranks"


def _mib(num_bytes: int) -> str:
    return f"{num_bytes / _MIB:,.0f} MiB"
