"""How many cores this process may use: affinity, control groups, SLURM, and the processes that share them."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path

from signs_dist.environment.slurm_job import read_granted_cores
from signs_dist.environment.variables import parse_number


def read_usable_cores(environment: Mapping[str, str]) -> int:
    """Cores that this process may keep busy, at least 1. All code that starts threads or workers uses this number.

    Args:
        environment: holds SLURM's variables if this process is in a job's step, such as `os.environ`.
    """
    return count_usable_cores(read_affinity(), read_cgroup_limit(), read_granted_cores(environment))


def count_usable_cores(affinity: int, cgroup_limit: float | None, slurm_cpus: int | None) -> int:
    """The smallest of the three, at least 1.

    Args:
        affinity: cores in this process's affinity mask.
        cgroup_limit: cores that the control group grants, or None.
        slurm_cpus: cores of the job on this node (SLURM_CPUS_ON_NODE), or None outside of a job's step. A site may
            grant cores without confining the job to them; then only this variable has their number.
    """
    limit = math.inf if cgroup_limit is None else max(1, math.ceil(cgroup_limit))
    return int(max(1, min(affinity, limit, slurm_cpus or math.inf)))


def count_sharing(
    launcher: str, local_world_size: int, affinity: int, machine_cores: int, slurm_cpus_per_task: str | None
) -> int:
    """Processes of a run that share the same cores: all on the machine, or 1 if SLURM bound each to its own cores.

    Args:
        launcher: as in `LaunchedProcess`.
        local_world_size: processes of the run on this machine.
        affinity: cores in this process's mask.
        machine_cores: cores of the machine.
        slurm_cpus_per_task: SLURM_CPUS_PER_TASK, or None. If the mask holds the cores of all tasks together, SLURM
            confined the job and did not bind its tasks.
    """
    cores_of_all = (parse_number(slurm_cpus_per_task) or 0) * local_world_size
    is_bound = launcher in ("srun", "submitit") and affinity < min(machine_cores, cores_of_all)
    return 1 if is_bound else local_world_size


def share_of_cores(usable_cores: int, num_sharing: int) -> int:
    """Cores for one of `num_sharing` processes, at least 1."""
    return max(1, usable_cores // num_sharing)


def count_threads(usable_cores: int, omp_num_threads: str | None, launcher: str, num_sharing: int) -> int:
    """Threads of one operation: OMP_NUM_THREADS if a person set it, or else one per core of this process's share.

    torchrun sets OMP_NUM_THREADS to 1 if it is not set and torchrun starts several processes. So under torchrun with
    several processes, 1 counts as not set.
    """
    wanted = parse_number(omp_num_threads)
    is_by_torchrun = launcher == "torchrun" and num_sharing > 1 and wanted == 1
    return min(wanted, usable_cores) if wanted and not is_by_torchrun else share_of_cores(usable_cores, num_sharing)


def read_affinity() -> int:
    """Cores in this process's affinity mask; all cores of the machine where the system has no such mask."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parse_cgroup_limit(text: str) -> float | None:
    """Cores granted by the text of a control group's `cpu.max` (`QUOTA PERIOD`, in µs); None without a limit."""
    words = text.split()
    if len(words) != 2 or not all(word.isdigit() for word in words) or int(words[1]) == 0:
        return None
    return int(words[0]) / int(words[1])


def read_cgroup_limit() -> float | None:
    """Cores that this process's control group grants; None if it sets no limit or cannot be read."""
    try:
        return parse_cgroup_limit(Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii"))
    except OSError:
        return None  # another system, or version 1 of control groups
