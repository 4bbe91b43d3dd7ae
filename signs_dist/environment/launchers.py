"""Who launched a process, and its place among the processes of its run, from the launchers' variables."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path

from signs_dist.environment.slurm_job import first_node, parse_tasks_per_node
from signs_dist.environment.variables import parse_number, read_number
from signs_dist.errors import UserError

_HINTS = {
    "LOCAL_RANK": "the number of this process on its machine, from 0",
    "LOCAL_WORLD_SIZE": "how many processes of the run this machine has",
    "MASTER_ADDR": "the machine of rank 0, such as 127.0.0.1",
    "MASTER_PORT": "a free port there, such as 29500",
}
"""What to set torchrun's variables to by hand."""


_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""The form of the name that `torchrun --standalone` makes. Several launches may share a name given by --rdzv-id."""


LAUNCHER_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""torchrun's variables. A process counts as launched by torchrun even if they are set by accident."""


KILL_SECONDS = "SIGNS_DIST_KILL_SECONDS"
"""SLURM's KillWait in seconds. `launch/submit.py` sets it for the job, since SLURM has no variable for it."""


TORCHRUN_KILL_SECONDS = 30.0
"""torchrun kills processes this long after a stop signal (torch.distributed.run, --shutdown-timeout)."""


# Many members: one for each fact that a launcher's variables give.
@dataclasses.dataclass(frozen=True)
class LaunchedProcess:
    """Who launched a process, and its place among the processes of its run.

    Attributes:
        launcher: `python` (no launcher), `torchrun`, `environment` (torchrun's variables, set by hand or by another
            launcher), `srun` or `submitit`.
        rank: number of this process among all, from 0.
        world_size: number of processes.
        local_rank: number of this process among the run's processes on this machine, from 0.
        local_world_size: number of processes of the run on this machine.
        restart_count: how many times torchrun restarted the processes, or SLURM requeued the job.
        max_restarts: how many times torchrun may restart them.
        kill_seconds: from SIGTERM until the launcher kills this process; None if it never does, or if it is unknown.
        launch_id: the launcher's name for this launch: the same after a restart, different for every other launch; ""
            without one.
        meeting_name: a name that only the processes of this attempt know; "" without one. They use it to find rank 0's
            port if `master_port` is None.
        master_address: the address of rank 0, or None if the launcher does not set it.
        master_port: the port of rank 0, or None.
        uses_agent_store: whether torchrun itself already runs the run's TCPStore on `master_port`.
        launch_note: one line that says why SLURM's variables do not make this a step of srun, or "".
    """

    launcher: str = "python"
    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1
    restart_count: int = 0
    max_restarts: int = 0
    kill_seconds: float | None = None
    launch_id: str = ""
    meeting_name: str = ""
    master_address: str | None = None
    master_port: int | None = None
    uses_agent_store: bool = False
    launch_note: str = ""

    @property
    def is_by_slurm(self) -> bool:
        """Whether SLURM's srun started this process."""
        return self.launcher in ("srun", "submitit")

    @property
    def may_restart(self) -> bool:
        """Whether the launcher may start the same launch again."""
        return self.max_restarts > 0 or (self.is_by_slurm and bool(self.launch_id))


def find_launch(environment: Mapping[str, str]) -> LaunchedProcess:
    """Who launched a process with this environment. torchrun's variables outrank SLURM's.

    An interactive SLURM shell or a batch script has an allocation but is not a step of srun: its programs count as
    started by plain python. MASTER_ADDR and MASTER_PORT alone are no launch: some sites set them for all processes.

    Raises:
        UserError: variables are missing, are not numbers, or contradict each other.
    """
    if "RANK" in environment or "WORLD_SIZE" in environment:
        return _launch_by_variables(environment)
    if "SLURM_STEP_ID" in environment and "SLURM_PROCID" in environment and not _is_shell_step(environment):
        return _launch_by_slurm(environment)
    return LaunchedProcess(launch_note=_why_local(environment))


def find_error_file(environment: Mapping[str, str]) -> Path | None:
    """The file from which torchrun reads this process's error (torch.distributed.elastic), or None."""
    text = environment.get("TORCHELASTIC_ERROR_FILE")
    return Path(text) if text else None


def _launch_by_variables(environment: Mapping[str, str]) -> LaunchedProcess:
    rank, world_size = _rank_of(environment, "RANK", "WORLD_SIZE")
    run_id = environment.get("TORCHELASTIC_RUN_ID", "")
    if world_size > 1:
        _require_all(environment, world_size)
    local_rank, local_world_size = (
        read_number(environment, "LOCAL_RANK", 0),
        read_number(environment, "LOCAL_WORLD_SIZE", 1),
    )
    _check_local({"LOCAL_RANK": local_rank, "LOCAL_WORLD_SIZE": local_world_size, "WORLD_SIZE": world_size}, "torchrun")
    return LaunchedProcess(
        launcher="torchrun" if "TORCHELASTIC_RUN_ID" in environment else "environment",
        rank=rank,
        world_size=world_size,
        local_rank=local_rank,
        local_world_size=local_world_size,
        restart_count=read_number(environment, "TORCHELASTIC_RESTART_COUNT", 0),
        max_restarts=read_number(environment, "TORCHELASTIC_MAX_RESTARTS", 0),
        kill_seconds=_find_kill_seconds(environment) if run_id else None,
        launch_id=run_id if _UUID.fullmatch(run_id) else "",
        master_address=environment.get("MASTER_ADDR") or None,
        master_port=_port(environment),
        uses_agent_store=environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
    )


def _find_kill_seconds(environment: Mapping[str, str]) -> float:
    """Seconds from torchrun's SIGTERM to its SIGKILL. A worker sees its variable, not its flag --shutdown-timeout."""
    try:
        seconds = float(environment["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"])
    except (KeyError, ValueError):
        seconds = TORCHRUN_KILL_SECONDS
    return min(seconds, _seconds(environment, KILL_SECONDS) or seconds)


def _launch_by_slurm(environment: Mapping[str, str]) -> LaunchedProcess:
    # srun may start fewer tasks than its allocation holds: the step's variables outrank the job's.
    size_name = "SLURM_STEP_NUM_TASKS" if "SLURM_STEP_NUM_TASKS" in environment else "SLURM_NTASKS"
    rank, world_size = _rank_of(environment, "SLURM_PROCID", size_name)
    local_rank, local_world_size = (0, 1) if world_size == 1 else _slurm_place(environment, size_name, world_size)
    nodes = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_JOB_NODELIST", "")
    job, step = environment.get("SLURM_JOB_ID", ""), environment["SLURM_STEP_ID"]
    restart_count = read_number(environment, "SLURM_RESTART_COUNT", 0)
    return LaunchedProcess(
        launcher="submitit" if "SUBMITIT_EXECUTOR" in environment else "srun",
        rank=rank,
        world_size=world_size,
        local_rank=local_rank,
        local_world_size=local_world_size,
        restart_count=restart_count,
        kill_seconds=_seconds(environment, KILL_SECONDS),
        # In a shell of srun --pty, one step starts any number of programs.
        launch_id=f"job{job}.{step}" if job and "SLURM_PTY_PORT" not in environment else "",
        meeting_name=f"{environment.get('SLURM_CLUSTER_NAME', '')}/{job}.{step}/{restart_count}" if job else "",
        master_address=environment.get("MASTER_ADDR") or first_node(nodes) or None,
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
    tasks, node = environment[tasks_name], read_number(environment, "SLURM_NODEID", 0)
    local_world_size = parse_tasks_per_node(tasks, node)
    if local_world_size is None:
        raise UserError(
            f"the environment has {tasks_name}={tasks!r} and SLURM_NODEID={node}: the first must give the tasks of "
            f"each node, such as 2(x3) or 4,2. Start with srun, which sets both."
        )
    local_rank = read_number(environment, "SLURM_LOCALID")
    _check_local({"SLURM_LOCALID": local_rank, tasks_name: local_world_size, size_name: world_size}, "srun")
    return local_rank, local_world_size


def _why_local(environment: Mapping[str, str]) -> str:
    """One line that says why SLURM's variables do not make this a step of srun; "" without them."""
    if "SLURM_JOB_ID" not in environment:
        return ""
    if "SLURM_STEP_ID" not in environment:
        return "local: SLURM_JOB_ID is set but no SLURM_STEP_ID"
    if _is_shell_step(environment):
        return f"local: SLURM_STEP_ID={environment['SLURM_STEP_ID']} is a shell or a batch script, not a step of srun"
    return "local: SLURM_STEP_ID is set but no SLURM_PROCID"


def _is_shell_step(environment: Mapping[str, str]) -> bool:
    # From slurm.h: the shell of salloc with LaunchParameters=use_interactive_step, and a batch script.
    return environment.get("SLURM_STEP_ID") in ("4294967290", "interactive", "4294967291", "batch")


def _rank_of(environment: Mapping[str, str], rank_name: str, size_name: str) -> tuple[int, int]:
    for name, other in ((rank_name, size_name), (size_name, rank_name)):
        if name not in environment:
            raise UserError(
                f"the environment sets {other} but not {name}. "
                f"Start with torchrun or srun, or for one process type: unset {other}"
            )
    rank, world_size = read_number(environment, rank_name), read_number(environment, size_name)
    if rank >= world_size:
        raise UserError(
            f"the environment has {rank_name}={rank} of {size_name}={world_size}: ranks count from 0 to "
            f"{size_name} - 1. Start with torchrun or srun, or type: unset {rank_name} {size_name}"
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
    port = read_number(environment, "MASTER_PORT")
    if not 1 <= port <= 65535:
        raise UserError(f"the environment has MASTER_PORT={port}: ports go from 1 to 65535. Set it to a free one.")
    return port


def _seconds(environment: Mapping[str, str], name: str) -> float | None:
    number = parse_number(environment.get(name))
    return None if number is None else float(number)
