"""This machine as a scheduler: jobs in the background, or the submitting process itself."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from signs_dist.environment.context import read_context
from signs_dist.environment.devices import parse_visible
from signs_dist.environment.launchers import LAUNCHER_VARIABLES
from signs_dist.environment.port_exchange import find_free_port
from signs_dist.environment.process_table import find_descendants, process_state
from signs_dist.errors import UserError

from ..request import Request
from .base import (
    DEFAULT_PARALLEL,
    Findings,
    JobState,
    Scheduler,
    Submission,
    refuse_characters,
    submission_folders,
)

if TYPE_CHECKING:
    from ..cluster import ClusterConfig

CONTROLLER = "submitit.local._local"
"""What submitit's local executor starts as `python -m`: it starts the tasks and ends them."""
CONTROLLER_LOG = "controller.log"
UNSAFE = frozenset("%" + os.pathsep)
"""Characters of a folder's name that submitit would expand in the name of a file, or Python split its path at."""
WAIT_FOR_LANE = "import fcntl; fcntl.flock(9, fcntl.LOCK_EX)"
"""Python that waits until no other process has the file that is open as 9: see `lane_lines`."""


class ThisMachine(Scheduler):
    """--cluster local: a job is a process of this machine, in a session of its own, which starts the tasks."""

    job_prefix: ClassVar[str] = "local"
    most_jobs: ClassVar[int] = 100  # each that waits is a small process
    look_command: ClassVar[str] = "ps aux | grep submitit"

    def check_settings(self, cluster: ClusterConfig) -> None:
        """Only one node is legal: this machine."""
        if cluster.nodes != "1":
            raise ValueError(f"nodes={cluster.nodes}: --cluster {cluster.kind} is this machine alone. Type --nodes 1")

    def choose_parallel(self, cluster: ClusterConfig, asked: int | None) -> int:
        """As many as this machine has cores and GPUs for."""
        num_gpus = 0
        if cluster.gpus_per_node:
            import torch

            num_gpus = torch.cuda.device_count()
            check_gpus_here(cluster, num_gpus)
        return choose_lanes(cluster, asked, read_context().usable_cores, num_gpus)

    def check(self, request: Request) -> Findings:
        """Count this machine's GPUs."""
        if not self.is_this_process:
            refuse_characters(str(request.run_path), request.run_path, UNSAFE, "submitit")
        if request.cluster.gpus_per_node:
            import torch

            check_gpus_here(request.cluster, torch.cuda.device_count())
        return Findings({"devices": [describe_devices_here(request.cluster)]})

    def find_port(self, cluster: ClusterConfig) -> int | None:
        """A free port of this machine, for more than one task."""
        return find_free_port() if cluster.num_local_processes > 1 else None

    def submit(self, submission: Submission) -> list[str]:
        """Start the jobs in the background; their ids are `local` and a process id. Those of an array take turns.

        Each has a session of its own: neither Ctrl-C in this terminal nor the end of the terminal reaches it.
        """
        import submitit

        cluster, visible = submission.cluster, read_context().visible_devices
        executor = submitit.LocalExecutor(folder=submission.files)
        ids = []
        for number, job in enumerate(submission.jobs):
            lane = number % submission.num_parallel if len(submission.jobs) > 1 else None
            lines = [*lane_lines(submission.files, lane), *setup_lines(submission, visible, lane or 0)]
            executor.update_parameters(
                tasks_per_node=cluster.num_local_processes,
                gpus_per_node=cluster.gpus_per_node,
                timeout_min=cluster.minutes,
                signal_delay_s=cluster.signal_seconds,
                stderr_to_stdout=True,
                setup=[in_own_session(lines, submission.files)],
            )
            ids.append(f"{self.job_prefix}{executor.submit(job).job_id}")
        return ids

    def state(self, job: str) -> JobState:
        """RUNNING while one of its processes lives, PENDING while another run of its array has its turn, else ENDED."""
        found = find_processes(self._number(job))
        if any(WAIT_FOR_LANE.encode() in read_command(pid) for pid in found[1:]):
            return JobState(job, "PENDING", "other runs of the array")
        return JobState(job, "RUNNING" if found else "ENDED")

    def cancel(self, jobs: Sequence[str]) -> None:
        """Send SIGTERM to all processes of the jobs. The last job is the first, so that none begins its turn."""
        for job in reversed(jobs):
            for pid in find_processes(self._number(job)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)

    def logs(self, run_path: Path, job: str) -> list[Path]:
        """The log of the controller, and the log of the first task."""
        folders = submission_folders(run_path)
        controllers = sorted(path for folder in folders for path in folder.glob(f"*/submitit/{CONTROLLER_LOG}"))
        name = f"*/submitit/{self._number(job)}_0_log.out"
        return [*controllers[-1:], *(path for folder in folders for path in folder.glob(name))]

    def _number(self, job: str) -> int:
        return int(job.removeprefix(self.job_prefix))


class ThisProcess(ThisMachine):
    """--cluster debug: the submitting process trains, so that a debugger sees it. There is no job to look after."""

    is_this_process: ClassVar[bool] = True
    most_jobs: ClassVar[int] = 1

    def check_settings(self, cluster: ClusterConfig) -> None:
        """Only one process is legal."""
        super().check_settings(cluster)
        if cluster.num_local_processes > 1:
            raise ValueError("--cluster debug is this process itself. Type --cluster local for several processes")

    def submit(self, submission: Submission) -> list[str]:
        """Never called: the submitting process trains."""
        raise NotImplementedError


def check_gpus_here(cluster: ClusterConfig, num_gpus: int) -> None:
    """Raise `UserError` if this machine has fewer GPUs than are asked for; it has `num_gpus`."""
    if cluster.gpus_per_node > num_gpus:
        way_out = f"Type --gpus-per-node {num_gpus}" if num_gpus else "Type --gpus-per-node 0 --tasks-per-node 2"
        raise UserError(
            f"--gpus-per-node {cluster.gpus_per_node}: this machine shows {num_gpus or 'no'} GPU"
            f"{'' if num_gpus == 1 else 's'}. {way_out}."
        )


def describe_devices_here(cluster: ClusterConfig) -> str:
    """How many processes will compute on which devices, for people."""
    count = cluster.num_local_processes
    on = f", each with one of {cluster.gpus_per_node} GPUs" if cluster.gpus_per_node else ", on the CPU"
    return f"this machine, {count} process{'es' if count > 1 else ''}{on}"


def choose_lanes(cluster: ClusterConfig, asked: int | None, usable_cores: int, num_gpus: int) -> int:
    """How many runs of an array there are at once on this machine.

    Args:
        cluster: what each run asks for.
        asked: --parallel, or None.
        usable_cores: of this machine.
        num_gpus: of this machine.

    Raises:
        UserError: there are not enough GPUs for so many.
    """
    fitting = num_gpus // cluster.gpus_per_node if cluster.gpus_per_node else None
    if asked is None:
        by_cores = usable_cores // (cluster.num_local_processes * (cluster.cpus_per_task or 1))
        return max(1, min(DEFAULT_PARALLEL, by_cores if fitting is None else fitting))
    if fitting is not None and asked > fitting:
        raise UserError(
            f"--parallel {asked} runs of {cluster.gpus_per_node} GPUs each: this machine shows {num_gpus}. Type "
            f"--parallel {fitting}."
        )
    return asked


def lane_lines(folder: Path, lane: int | None) -> list[str]:
    """Shell with which the runs of an array that share a lane take turns: each holds its file until it has ended.

    The file stays open as 9 in the shell and in submitit's controller, so a killed run ends its turn as well.
    """
    if lane is None:
        return []
    wait = shlex.join([sys.executable, "-I", "-S", "-c", WAIT_FOR_LANE])
    return [f"exec 9>> {shlex.quote(str(folder / f'lane{lane}'))}", wait]


def setup_lines(submission: Submission, visible: str | None, lane: int = 0) -> list[str]:
    """Shell before the tasks.

    Args:
        submission: that the job belongs to.
        visible: CUDA_VISIBLE_DEVICES here, which submitit overwrites.
        lane: of an array's lanes, each of which has GPUs of its own.
    """
    cluster, folders = submission.cluster, submission.jobs[0].import_folders
    count = cluster.gpus_per_node
    names = parse_visible(visible)
    if names is None and lane:
        names = tuple(str(number) for number in range((lane + 1) * count))
    own = names[lane * count : (lane + 1) * count] if names else ()
    gpus = [f"export CUDA_VISIBLE_DEVICES={','.join(own)}"] if names else []
    return [
        f"cd {shlex.quote(folders[0])}",
        f"export PYTHONPATH={shlex.quote(os.pathsep.join(folders))}",
        f"unset {' '.join(LAUNCHER_VARIABLES)}",
        *gpus,
        *cluster.setup,
    ]


def in_own_session(lines: Sequence[str], folder: Path) -> str:
    """One line of shell that runs `lines` and then submitit's controller, in a session of its own.

    submitit starts `SETUP && CONTROLLER` in a shell, and takes the shell's process id for the job's. No option of it
    makes a session, so this line, as SETUP, replaces the shell: the same process becomes the leader of a new session
    and starts the controller itself. The shell never reaches the part after `&&`, so this line repeats it.
    """
    controller = shlex.join([sys.executable, "-m", CONTROLLER, str(folder)])
    enter = "import os, sys; os.setsid(); os.execvp('/bin/sh', ['/bin/sh', '-c', sys.argv[1]])"
    said = shlex.quote(str(folder / CONTROLLER_LOG))
    start = shlex.join([sys.executable, "-c", enter, " && ".join([*lines, controller])])
    return f"exec {start} < /dev/null >> {said} 2>&1"


def find_processes(number: int) -> list[int]:
    """The process ids of a local job's tasks and of all below them; the controller may be gone.

    Tasks are found by a variable in their environment. Before the first task, the controller is found by its process
    id and its command: long after the job another process may have that id.
    """
    mark = f"SUBMITIT_LOCAL_JOB_ID={number}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and mark in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    if not found and b"submitit.local" in read_command(number):
        found = [number, *find_descendants(number)]
    return [pid for pid in found if process_state(pid) != "gone"]


def read_command(pid: int) -> bytes:
    """The command line of a process; empty where it is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""
