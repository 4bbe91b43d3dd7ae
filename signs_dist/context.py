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
        host: name of the machine.
        is_terminal: whether a person watches standard output.
    """

    launcher: str
    rank: int
    world_size: int
    usable_cores: int
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
    return Context(
        launcher=launcher,
        rank=rank,
        world_size=world_size,
        usable_cores=count_usable_cores(affinity, _read_cgroup_limit()),
        host=socket.gethostname(),
        is_terminal=sys.stdout.isatty() and os.environ.get("TERM") != "dumb",
    )


def find_launcher(environment: Mapping[str, str]) -> tuple[int, int, str]:
    """(rank, world size, launcher) from a process's environment. torchrun's variables outrank SLURM's.

    An interactive SLURM shell holds an allocation but runs no step: there a program is started by plain python.
    """
    if "RANK" in environment or "WORLD_SIZE" in environment:
        rank, world_size = _number(environment, "RANK"), _number(environment, "WORLD_SIZE")
        return rank, world_size, "torchrun"
    if "SLURM_STEP_ID" in environment and "SLURM_PROCID" in environment and not _is_interactive_step(environment):
        return _number(environment, "SLURM_PROCID"), _number(environment, "SLURM_NTASKS"), "srun"
    return 0, 1, "python"


def count_usable_cores(affinity: int, cgroup_limit: float | None) -> int:
    """Cores that may be kept busy: the affinity mask, or fewer where a control group grants less time."""
    limit = math.inf if cgroup_limit is None else max(1, math.ceil(cgroup_limit))
    return int(max(1, min(affinity, limit)))


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


def _is_interactive_step(environment: Mapping[str, str]) -> bool:
    # salloc with LaunchParameters=use_interactive_step runs the user's shell in a step with this number.
    return environment.get("SLURM_STEP_ID") in ("4294967290", "interactive")


def _number(environment: Mapping[str, str], name: str) -> int:
    text = environment.get(name)
    if text is None:
        raise UserError(
            f"the environment is half set: {name} is missing. Start with torchrun, or unset RANK/WORLD_SIZE."
        )
    if not text.isdigit():
        raise UserError(f"the environment has {name}={text!r}, which is not a whole number.")
    return int(text)
