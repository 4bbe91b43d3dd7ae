"""This machine as a scheduler: jobs in the background, or the submitting process itself."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from signs_dist.environment.context import read_context
from signs_dist.environment.devices import parse_visible
from signs_dist.environment.launchers import LAUNCHER_VARIABLES
from signs_dist.environment.port_exchange import find_free_port
from signs_dist.environment.process_table import find_descendants, process_state
from signs_dist.errors import UserError

from ..cluster import ClusterConfig
from ..jobs import SUBMIT
from ..request import Request
from .base import Findings, JobState, Scheduler, Submission, submission_folders

CONTROLLER = "submitit.local._local"
"""What submitit's local executor starts as `python -m`: it starts the tasks and ends them."""
CONTROLLER_LOG = "controller.log"


class ThisMachine(Scheduler):
    """--cluster local: a job is a process of this machine, in a session of its own, which starts the tasks."""

    job_prefix: ClassVar[str] = "local"
    look_command: ClassVar[str] = "ps aux | grep submitit"

    def check_settings(self, cluster: ClusterConfig) -> None:
        """Only one node is legal: this machine."""
        if cluster.nodes != "1":
            raise ValueError(f"nodes={cluster.nodes}: --cluster {cluster.kind} is this machine alone. Type --nodes 1")

    def check(self, request: Request) -> Findings:
        """Count this machine's GPUs."""
        if request.cluster.gpus_per_node:
            import torch

            check_gpus_here(request.cluster, torch.cuda.device_count())
        return Findings({"devices": [describe_devices_here(request.cluster)]})

    def find_port(self, cluster: ClusterConfig) -> int | None:
        """A free port of this machine, for more than one task."""
        return find_free_port() if cluster.num_local_processes > 1 else None

    def submit(self, submission: Submission) -> list[str]:
        """Start the job in the background; its id is `local` and a process id.

        It has a session of its own: neither Ctrl-C in this terminal nor the end of the terminal reaches it.
        """
        import submitit

        cluster = submission.cluster
        (job,) = submission.jobs
        executor = submitit.LocalExecutor(folder=submission.files)
        executor.update_parameters(
            tasks_per_node=cluster.num_local_processes,
            gpus_per_node=cluster.gpus_per_node,
            timeout_min=cluster.minutes,
            signal_delay_s=cluster.signal_seconds,
            stderr_to_stdout=True,
            setup=[in_own_session(setup_lines(submission, read_context().visible_devices), submission.files)],
        )
        return [f"{self.job_prefix}{executor.submit(job).job_id}"]

    def state(self, job: str) -> JobState:
        """RUNNING while one of its processes lives, else ENDED."""
        return JobState(job, "RUNNING" if find_processes(self._number(job)) else "ENDED")

    def cancel(self, jobs: Sequence[str]) -> None:
        """Send SIGTERM to all processes of the jobs."""
        for job in jobs:
            for pid in find_processes(self._number(job)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)

    def logs(self, run_path: Path, job: str) -> list[Path]:
        """The log of the controller, and the log of the first task."""
        controllers = sorted((run_path / SUBMIT).glob(f"*/submitit/{CONTROLLER_LOG}"))
        name = f"*/submitit/{self._number(job)}_0_log.out"
        return [*controllers[-1:], *(path for folder in submission_folders(run_path) for path in folder.glob(name))]

    def _number(self, job: str) -> int:
        return int(job.removeprefix(self.job_prefix))


class ThisProcess(ThisMachine):
    """--cluster debug: the submitting process trains, so that a debugger sees it. There is no job to look after."""

    is_this_process: ClassVar[bool] = True

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


def setup_lines(submission: Submission, visible: str | None) -> list[str]:
    """Shell before the tasks; `visible` is CUDA_VISIBLE_DEVICES here, which submitit overwrites."""
    cluster, folders = submission.cluster, submission.jobs[0].import_folders
    names = parse_visible(visible)
    gpus = [f"export CUDA_VISIBLE_DEVICES={','.join(names[: cluster.gpus_per_node])}"] if names else []
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
    with contextlib.suppress(OSError):
        if not found and b"submitit.local" in Path(f"/proc/{number}/cmdline").read_bytes():
            found = [number, *find_descendants(number)]
    return [pid for pid in found if process_state(pid) != "gone"]
