"""Where this process runs: the environment, read once into a frozen value."""

from __future__ import annotations

import dataclasses
import math
import os
import re
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from signs_dist.errors import UserError

_HINTS = {
    "LOCAL_RANK": "the number of this process on its machine, from 0",
    "LOCAL_WORLD_SIZE": "how many processes of the run this machine has",
    "MASTER_ADDR": "the machine of rank 0, such as 127.0.0.1",
    "MASTER_PORT": "a free port there, such as 29500",
}
"""What a person who sets torchrun's variables by hand is to set them to."""


@dataclasses.dataclass(frozen=True)
class Launch:
    """Who launched a process, and its place among those launched with it.

    Attributes:
        launcher: `python` (started by itself), `torchrun`, `environment` (torchrun's variables, set by hand or by
            another launcher), `srun` or `submitit`.
        rank: number of this process among all, from 0.
        world_size: number of processes.
        local_rank: number of this process among those of the run on this machine, from 0.
        local_world_size: number of processes of the run on this machine.
        restart_count: how often torchrun has started the processes anew.
        master_address: where rank 0 can be reached; None where the launcher does not say.
        master_port: the port there, or None.
        uses_agent_store: whether torchrun serves that port already.
        launch_note: one line on why this is no SLURM step though SLURM's variables are there, or "".
    """

    launcher: str = "python"
    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1
    restart_count: int = 0
    master_address: str | None = None
    master_port: int | None = None
    uses_agent_store: bool = False
    launch_note: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Context(Launch):
    """Who launched this process, which of how many it is, and what it may use.

    Attributes:
        error_file: where torchrun looks for this process's error, or None.
        visible_devices: CUDA_VISIBLE_DEVICES as it is, or None where it is not set.
        usable_cores: CPU cores this process may use (affinity and control group), at least 1.
        num_sharing_cores: processes of this run that may use the same cores, this one included.
        num_threads: threads of one operation on the CPU: this process's share of the usable cores, or
            OMP_NUM_THREADS where a person set it.
        host: name of the machine.
        process_id: of this process on its host.
        is_terminal: whether a person watches standard output.
    """

    error_file: Path | None
    visible_devices: str | None
    usable_cores: int
    num_sharing_cores: int
    num_threads: int
    host: str
    process_id: int
    is_terminal: bool

    @property
    def cores_per_process(self) -> int:
        """Cores for this process's own threads and loader workers, at least 1."""
        return share_of_cores(self.usable_cores, self.num_sharing_cores)


def read_context() -> Context:
    """Read the environment of this process.

    Raises:
        UserError: a launcher's variables are half set or contradict each other.
    """
    launch = find_launch(os.environ)
    machine_cores = os.cpu_count() or 1
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else machine_cores
    usable_cores = count_usable_cores(affinity, _read_cgroup_limit())
    num_sharing = count_sharing(
        launch.launcher, launch.local_world_size, affinity, machine_cores, os.environ.get("SLURM_CPUS_PER_TASK")
    )
    error_file = os.environ.get("TORCHELASTIC_ERROR_FILE")
    return Context(
        **vars(launch),
        error_file=Path(error_file) if error_file else None,
        visible_devices=os.environ.get("CUDA_VISIBLE_DEVICES"),
        usable_cores=usable_cores,
        num_sharing_cores=num_sharing,
        num_threads=count_threads(usable_cores, os.environ.get("OMP_NUM_THREADS"), launch.launcher, num_sharing),
        host=socket.gethostname(),
        process_id=os.getpid(),
        is_terminal=sys.stdout.isatty() and os.environ.get("TERM") != "dumb",
    )


def find_launch(environment: Mapping[str, str]) -> Launch:
    """Who launched a process with this environment. torchrun's variables outrank SLURM's.

    An interactive SLURM shell or a batch script holds an allocation but is no step of srun's: there a program is
    started by plain python. MASTER_ADDR and MASTER_PORT alone are no launch either: some sites set them for all.

    Raises:
        UserError: variables are missing, are not numbers, or contradict each other.
    """
    if "RANK" in environment or "WORLD_SIZE" in environment:
        return _launch_by_variables(environment)
    if "SLURM_STEP_ID" in environment and "SLURM_PROCID" in environment and not _is_shell_step(environment):
        return _launch_by_slurm(environment)
    return Launch(launch_note=_why_local(environment))


def count_usable_cores(affinity: int, cgroup_limit: float | None) -> int:
    """Cores that may be kept busy: the affinity mask, or fewer where a control group grants less time."""
    limit = math.inf if cgroup_limit is None else max(1, math.ceil(cgroup_limit))
    return int(max(1, min(affinity, limit)))


def count_sharing(
    launcher: str, local_world_size: int, affinity: int, machine_cores: int, slurm_cpus_per_task: str | None
) -> int:
    """Processes of a run that may use the same cores: all on the machine, or 1 where SLURM gave each its own.

    Args:
        launcher: as in `Launch`.
        local_world_size: processes of the run on this machine.
        affinity: cores in this process's mask.
        machine_cores: cores of the machine.
        slurm_cpus_per_task: SLURM_CPUS_PER_TASK, or None. A mask as large as all tasks' cores together is the whole
            job's: SLURM confined the job and did not bind its tasks.
    """
    cores_of_all = (_parse_number(slurm_cpus_per_task) or 0) * local_world_size
    is_bound = launcher in ("srun", "submitit") and affinity < min(machine_cores, cores_of_all)
    return 1 if is_bound else local_world_size


def share_of_cores(usable_cores: int, num_sharing: int) -> int:
    """Cores for one of `num_sharing` processes, at least 1."""
    return max(1, usable_cores // num_sharing)


def count_threads(usable_cores: int, omp_num_threads: str | None, launcher: str, num_sharing: int) -> int:
    """Threads of one operation: OMP_NUM_THREADS where a person set it, else one per core of this process's share.

    torchrun sets that variable to 1 when it starts several processes and finds it unset, which says nothing about
    what the user wants. Any other value is a person's, and so is 1 with one process.
    """
    wanted = _parse_number(omp_num_threads)
    is_by_torchrun = launcher == "torchrun" and num_sharing > 1 and wanted == 1
    return min(wanted, usable_cores) if wanted and not is_by_torchrun else share_of_cores(usable_cores, num_sharing)


def parse_cgroup_limit(text: str) -> float | None:
    """Cores granted by the text of a cgroup's `cpu.max` (`QUOTA PERIOD`, in µs); None where there is no limit."""
    words = text.split()
    if len(words) != 2 or not all(word.isdigit() for word in words) or int(words[1]) == 0:
        return None
    return int(words[0]) / int(words[1])


def parse_tasks_per_node(text: str, node: int) -> int | None:
    """Tasks on one node by SLURM's short form, such as `4`, `2(x3)` or `2(x2),1`; None where it does not say.

    Args:
        text: the counts of consecutive nodes; `(x3)` repeats one (srun's manual, SLURM_TASKS_PER_NODE).
        node: number of the node among the step's, from 0.
    """
    found, first = None, 0
    for part in text.split(","):
        match = re.fullmatch(r"([0-9]{1,9})(?:\(x([0-9]{1,9})\))?", part)
        if match is None:
            return None
        last = first + int(match[2] or 1)
        found = int(match[1]) if first <= node < last else found
        first = last
    return found


def _launch_by_variables(environment: Mapping[str, str]) -> Launch:
    rank, world_size = _rank_of(environment, "RANK", "WORLD_SIZE")
    if world_size > 1:
        _require_all(environment, world_size)
    local_rank, local_world_size = _number(environment, "LOCAL_RANK", 0), _number(environment, "LOCAL_WORLD_SIZE", 1)
    _check_local({"LOCAL_RANK": local_rank, "LOCAL_WORLD_SIZE": local_world_size, "WORLD_SIZE": world_size}, "torchrun")
    return Launch(
        launcher="torchrun" if "TORCHELASTIC_RUN_ID" in environment else "environment",
        rank=rank,
        world_size=world_size,
        local_rank=local_rank,
        local_world_size=local_world_size,
        restart_count=_number(environment, "TORCHELASTIC_RESTART_COUNT", 0),
        master_address=environment.get("MASTER_ADDR") or None,
        master_port=_port(environment),
        uses_agent_store=environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
    )


def _launch_by_slurm(environment: Mapping[str, str]) -> Launch:
    # An srun inside an allocation may use fewer tasks than it holds: the step's variables outrank the job's.
    size_name = "SLURM_STEP_NUM_TASKS" if "SLURM_STEP_NUM_TASKS" in environment else "SLURM_NTASKS"
    rank, world_size = _rank_of(environment, "SLURM_PROCID", size_name)
    local_rank, local_world_size = (0, 1) if world_size == 1 else _slurm_place(environment, size_name, world_size)
    return Launch(
        launcher="submitit" if "SUBMITIT_EXECUTOR" in environment else "srun",
        rank=rank,
        world_size=world_size,
        local_rank=local_rank,
        local_world_size=local_world_size,
        master_address=environment.get("MASTER_ADDR") or None,
        master_port=_port(environment),
    )


def _slurm_place(environment: Mapping[str, str], size_name: str, world_size: int) -> tuple[int, int]:
    """(local rank, local world size) of a SLURM task."""
    step_name, job_name = "SLURM_STEP_TASKS_PER_NODE", "SLURM_TASKS_PER_NODE"
    tasks_name = step_name if step_name in environment else job_name
    for name in ("SLURM_LOCALID", tasks_name):
        if name not in environment:
            raise UserError(
                f"the environment has {size_name}={world_size}, but {name} is missing. "
                f"Start with srun, which sets it, or with torchrun."
            )
    tasks, node = environment[tasks_name], _number(environment, "SLURM_NODEID", 0)
    local_world_size = parse_tasks_per_node(tasks, node)
    if local_world_size is None:
        raise UserError(
            f"the environment has {tasks_name}={tasks!r} and SLURM_NODEID={node}: it has to say how many tasks each "
            f"node has, such as 2(x3) or 4,2. Start with srun, which sets both."
        )
    local_rank = _number(environment, "SLURM_LOCALID")
    _check_local({"SLURM_LOCALID": local_rank, tasks_name: local_world_size, size_name: world_size}, "srun")
    return local_rank, local_world_size


def _why_local(environment: Mapping[str, str]) -> str:
    """Why SLURM's variables do not make this a step, in one line; "" without them."""
    if "SLURM_JOB_ID" not in environment:
        return ""
    if "SLURM_STEP_ID" not in environment:
        return "local: SLURM_JOB_ID is set but no SLURM_STEP_ID"
    if _is_shell_step(environment):
        return f"local: SLURM_STEP_ID={environment['SLURM_STEP_ID']} is a shell or a batch script, not a step of srun"
    return "local: SLURM_STEP_ID is set but no SLURM_PROCID"


def _is_shell_step(environment: Mapping[str, str]) -> bool:
    # SLURM's own numbers (slurm.h): the shell of salloc with LaunchParameters=use_interactive_step, a batch script.
    return environment.get("SLURM_STEP_ID") in ("4294967290", "interactive", "4294967291", "batch")


def _rank_of(environment: Mapping[str, str], rank_name: str, size_name: str) -> tuple[int, int]:
    for name, other in ((rank_name, size_name), (size_name, rank_name)):
        if name not in environment:
            raise UserError(
                f"the environment is half set: {other} is there, {name} is missing. "
                f"Start with torchrun or srun, or type `unset {other}` for one process."
            )
    rank, world_size = _number(environment, rank_name), _number(environment, size_name)
    if rank >= world_size:
        raise UserError(
            f"the environment has {rank_name}={rank} of {size_name}={world_size}: ranks count from 0 to "
            f"{size_name} - 1. Start with torchrun or srun, or unset both."
        )
    return rank, world_size


def _require_all(environment: Mapping[str, str], world_size: int) -> None:
    missing = [name for name in _HINTS if not environment.get(name)]
    if missing:
        explained = ", ".join(f"{name} ({_HINTS[name]})" for name in missing)
        raise UserError(
            f"the environment has WORLD_SIZE={world_size}, but these are missing: {explained}. Start with "
            f"torchrun --nproc_per_node={world_size}, which sets all of them, or export them."
        )


def _check_local(values: Mapping[str, int], launcher: str) -> None:
    """Raise unless the three named values are local rank < local world size <= world size."""
    (rank_name, local_rank), (local_name, local_size), (size_name, world_size) = values.items()
    if not local_rank < local_size <= world_size:
        given = ", ".join(f"{name}={value}" for name, value in values.items())
        raise UserError(
            f"the environment has {given}: {rank_name} counts from 0 to {local_name} - 1, and {local_name} is at most "
            f"{size_name}. Start with {launcher}, which sets all of them."
        )


def _port(environment: Mapping[str, str]) -> int | None:
    if not environment.get("MASTER_PORT"):
        return None
    port = _number(environment, "MASTER_PORT")
    if not 1 <= port <= 65535:
        raise UserError(f"the environment has MASTER_PORT={port}: ports go from 1 to 65535. Set it to a free one.")
    return port


def _number(environment: Mapping[str, str], name: str, default: int | None = None) -> int:
    if default is not None and name not in environment:
        return default
    text = environment[name]
    number = _parse_number(text)
    if number is None:
        raise UserError(f"the environment has {name}={text!r}, which is not a whole number. Unset it, or set it right.")
    return number


def _parse_number(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"[0-9]{1,9}", text) else None


def _read_cgroup_limit() -> float | None:
    try:
        return parse_cgroup_limit(Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii"))
    except OSError:
        return None  # another system, or version 1 of control groups: affinity decides
