"""Where this process runs: the environment, read once into a frozen value."""

from __future__ import annotations

import dataclasses
import math
import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from signs_dist.errors import UserError


@dataclasses.dataclass(frozen=True)
class Context:
    """Who launched this process, which of how many it is, and what it may use.

    Attributes:
        launcher: `python`, for a process started by itself.
        rank: number of this process among all, from 0.
        world_size: number of processes.
        usable_cores: CPU cores this process may use (affinity and control group), at least 1.
        num_threads: threads of one operation on the CPU: the usable cores, or OMP_NUM_THREADS where a person set it.
        host: name of the machine.
        is_terminal: whether a person watches standard output.
    """

    launcher: str
    rank: int
    world_size: int
    usable_cores: int
    num_threads: int
    host: str
    is_terminal: bool


def read_context() -> Context:
    """Read the environment of this process.

    Raises:
        UserError: a launcher started several processes, which this version cannot join into one run.
    """
    rank, world_size, launcher = find_launcher(os.environ)
    if world_size > 1:
        raise UserError(
            f"{launcher} started {world_size} processes. This version trains with one: "
            f"start `python -m signs_dist.train` by itself (under srun, with --ntasks=1)."
        )
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    usable_cores = count_usable_cores(affinity, _read_cgroup_limit())
    return Context(
        launcher=launcher,
        rank=rank,
        world_size=world_size,
        usable_cores=usable_cores,
        num_threads=count_threads(usable_cores, os.environ.get("OMP_NUM_THREADS"), launcher),
        host=socket.gethostname(),
        is_terminal=sys.stdout.isatty() and os.environ.get("TERM") != "dumb",
    )


def find_launcher(environment: Mapping[str, str]) -> tuple[int, int, str]:
    """(rank, world size, launcher) from a process's environment. torchrun's variables outrank SLURM's.

    An interactive SLURM shell or a batch script holds an allocation but is no step of srun's: there a program is
    started by plain python.
    """
    if "RANK" in environment or "WORLD_SIZE" in environment:
        return *_rank_of(environment, "RANK", "WORLD_SIZE"), "torchrun"
    if "SLURM_STEP_ID" in environment and "SLURM_PROCID" in environment and not _is_shell_step(environment):
        return *_rank_of(environment, "SLURM_PROCID", "SLURM_NTASKS"), "srun"
    return 0, 1, "python"


def count_usable_cores(affinity: int, cgroup_limit: float | None) -> int:
    """Cores that may be kept busy: the affinity mask, or fewer where a control group grants less time."""
    limit = math.inf if cgroup_limit is None else max(1, math.ceil(cgroup_limit))
    return int(max(1, min(affinity, limit)))


def count_threads(usable_cores: int, omp_num_threads: str | None, launcher: str) -> int:
    """Threads of one operation: OMP_NUM_THREADS where a person set it, else one per usable core.

    torchrun sets that variable to 1 for everybody, which says nothing about what the user wants.
    """
    if launcher != "torchrun" and omp_num_threads is not None and omp_num_threads.isdigit() and int(omp_num_threads):
        return min(int(omp_num_threads), usable_cores)
    return usable_cores


def parse_cgroup_limit(text: str) -> float | None:
    """Cores granted by the text of a cgroup's `cpu.max` (`QUOTA PERIOD`, in µs); None where there is no limit."""
    words = text.split()
    if len(words) != 2 or not all(word.isdigit() for word in words) or int(words[1]) == 0:
        return None
    return int(words[0]) / int(words[1])


def _read_cgroup_limit() -> float | None:
    try:
        return parse_cgroup_limit(Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii"))
    except OSError:
        return None  # another system, or version 1 of control groups: affinity decides


def _is_shell_step(environment: Mapping[str, str]) -> bool:
    # SLURM's own numbers (slurm.h): the shell of salloc with LaunchParameters=use_interactive_step, a batch script.
    return environment.get("SLURM_STEP_ID") in ("4294967290", "interactive", "4294967291", "batch")


def _rank_of(environment: Mapping[str, str], rank_name: str, size_name: str) -> tuple[int, int]:
    for name, other in ((rank_name, size_name), (size_name, rank_name)):
        if name not in environment:
            raise UserError(
                f"the environment is half set: {other} is there, {name} is missing. "
                f"Start with torchrun or srun, or unset {other}."
            )
    rank, world_size = _number(environment, rank_name), _number(environment, size_name)
    if rank >= world_size:
        raise UserError(
            f"the environment has {rank_name}={rank} of {size_name}={world_size}: ranks count from 0 to "
            f"{size_name} - 1. Start with torchrun or srun, or unset both."
        )
    return rank, world_size


def _number(environment: Mapping[str, str], name: str) -> int:
    text = environment[name]
    if not (text.isascii() and text.isdigit()):
        raise UserError(f"the environment has {name}={text!r}, which is not a whole number. Unset it, or set it right.")
    return int(text)
