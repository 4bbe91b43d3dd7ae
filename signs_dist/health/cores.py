"""Cores: how many the system, the control group and SLURM grant, whether they are enough, and who else uses them."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Mapping
from typing import Any

from signs_dist.environment.context import Context
from signs_dist.environment.core_use import CoreUse
from signs_dist.environment.cores import read_affinity, read_cgroup_limit
from signs_dist.environment.slurm_job import read_granted_cores
from signs_dist.health.finding import Finding, Place, leaders_of, merge

CHECK = "cores"
LOOK_SECONDS = 1.0
BUSY_CORES = 0.5
"""From so many cores on, what other programs keep busy is told."""


@dataclasses.dataclass(frozen=True)
class Cores:
    """The cores of a machine, as one of its ranks sees them.

    Attributes:
        machine: how many the machine has.
        affinity: how many this process may run on.
        cgroup: how many its control group grants, on average; None without a limit.
        slurm: how many SLURM granted the job on this machine; None outside of a job.
        usable: the least of them.
        num_sharing: ranks that share them.
        num_threads: of one operation in each rank.
    """

    machine: int
    affinity: int
    cgroup: float | None
    slurm: int | None
    usable: int
    num_sharing: int
    num_threads: int


def read_cores(context: Context) -> dict[str, Any]:
    """`Cores` as plain values."""
    return dataclasses.asdict(
        Cores(
            os.cpu_count() or 1,
            read_affinity(),
            read_cgroup_limit(),
            read_granted_cores(os.environ),
            context.usable_cores,
            context.num_sharing_cores,
            context.num_threads,
        )
    )


def read_busy(seconds: float = LOOK_SECONDS) -> float | None:
    """Cores that other programs kept busy in so many seconds, while this process slept; None if that is not known."""
    before = CoreUse.read()
    time.sleep(seconds)
    now = CoreUse.read()
    return None if before is None or now is None else now.others_since(before)


def judge(
    readings: Mapping[int, Mapping[str, Any]], busy: Mapping[int, float | None], places: Mapping[int, Place]
) -> list[Finding]:
    """The finding of each machine.

    Args:
        readings: of each rank, from `read_cores`.
        busy: of the leader of each machine, from `read_busy`.
        places: of each rank.
    """
    leaders = [rank for rank in leaders_of(places) if rank in readings]
    return merge({places[rank].node: judge_machine(Cores(**readings[rank]), busy.get(rank)) for rank in leaders})


def judge_machine(cores: Cores, busy: float | None) -> Finding:
    """What is found about the cores of one machine, the worst first."""
    told = _describe(cores, busy)
    expected = "a core for each rank, and no other programs on them"
    if cores.num_sharing > cores.usable:
        return Finding(
            CHECK,
            "warn",
            f"{cores.num_sharing} ranks share {_count(cores.usable)}: they take turns. {told}",
            expected,
            f"start at most {cores.usable} processes on this machine, or ask for more cores (on SLURM --cpus-per-task)",
        )
    if busy is not None and busy >= BUSY_CORES:
        return Finding(
            CHECK,
            "warn",
            f"other programs keep {min(busy, cores.usable):.1f} of {_count(cores.usable)} busy: all that computes is "
            f"slower for it. {told}",
            expected,
            "top -o %CPU shows them: end them, or ask for a machine of your own (on SLURM --extra exclusive)",
        )
    if cores.slurm is not None and cores.slurm < cores.affinity:
        return Finding(
            CHECK,
            "warn",
            f"SLURM granted {_count(cores.slurm)}, and this process may run on {cores.affinity}: jobs beside it may "
            f"take its cores, and it theirs. {told}",
            "a job that is confined to its cores",
            "an administrator sets TaskPlugin=task/affinity,task/cgroup in slurm.conf",
        )
    if cores.cgroup is not None and cores.cgroup < min(cores.affinity, cores.num_sharing * cores.num_threads):
        return Finding(
            CHECK,
            "warn",
            f"the control group grants {cores.cgroup:g} cores, and {cores.num_sharing * cores.num_threads} threads "
            f"compute: the system stops them again and again. {told}",
            "as many threads as granted cores",
            f"OMP_NUM_THREADS={max(1, int(cores.cgroup / cores.num_sharing))}, or a container with more cores "
            "(docker run --cpus)",
        )
    return Finding(CHECK, "ok", told, expected)


def _describe(cores: Cores, busy: float | None) -> str:
    granted = "no limit" if cores.cgroup is None else f"{cores.cgroup:g} cores"
    parts = [f"{cores.machine} on this machine", f"affinity {cores.affinity}", f"control group {granted}"]
    if cores.slurm is not None:
        parts.append(f"SLURM {cores.slurm}")
    if busy is not None:
        parts.append(f"others keep {busy:.1f} busy")
    threads = "1 thread" if cores.num_threads == 1 else f"{cores.num_threads} threads"
    return f"{', '.join(parts)}; {threads} in each rank"


def _count(number: int) -> str:
    return "1 core" if number == 1 else f"{number} cores"
