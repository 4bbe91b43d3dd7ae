"""What a process reads from its environment, once, into a frozen value: its launcher, cores, host and terminal."""

from __future__ import annotations

import dataclasses
import os
import socket
import sys
from pathlib import Path

from signs_dist.environment.cores import (
    count_sharing,
    count_threads,
    read_affinity,
    read_usable_cores,
    share_of_cores,
)
from signs_dist.environment.launchers import LaunchedProcess, find_error_file, find_launch
from signs_dist.environment.slurm_job import JobAttempt, read_job_attempt


@dataclasses.dataclass(frozen=True, kw_only=True)
class Context(LaunchedProcess):
    """Who launched this process, its place in the run, and what it may use.

    Attributes:
        error_file: the file from which torchrun reads this process's error, or None.
        visible_devices: the text of CUDA_VISIBLE_DEVICES, or None if it is not set.
        usable_cores: CPU cores this process may use (affinity, control group and SLURM), at least 1.
        num_sharing_cores: processes of this run that may use the same cores, this process included.
        num_threads: threads of one operation on the CPU: OMP_NUM_THREADS if a person set it, or else this process's
            share of the usable cores.
        host: name of the machine.
        process_id: of this process on its host.
        launcher_pid: process id of the torchrun that started this process; None under other launchers.
        job: `JobAttempt.mark` of the SLURM job's attempt that this process belongs to; "" outside of SLURM.
        is_terminal: whether standard output is a terminal.
    """

    error_file: Path | None
    visible_devices: str | None
    usable_cores: int
    num_sharing_cores: int
    num_threads: int
    host: str
    process_id: int
    launcher_pid: int | None
    job: str
    is_terminal: bool

    @property
    def is_requeued(self) -> bool:
        """Whether this process belongs to a requeued SLURM job, under any launcher."""
        job_attempt = JobAttempt.from_mark(self.job)
        return job_attempt is not None and job_attempt.restart_count > 0

    @property
    def cores_per_process(self) -> int:
        """Cores for this process's own threads and loader workers, at least 1."""
        return share_of_cores(self.usable_cores, self.num_sharing_cores)


def read_context() -> Context:
    """Read the environment of this process.

    Raises:
        UserError: a launcher's variables are incomplete or contradict each other.
    """
    launch = find_launch(os.environ)
    usable_cores = read_usable_cores(os.environ)
    num_sharing = count_sharing(
        launch.launcher,
        launch.local_world_size,
        read_affinity(),
        os.cpu_count() or 1,
        os.environ.get("SLURM_CPUS_PER_TASK"),
    )
    return Context(
        **vars(launch),
        error_file=find_error_file(os.environ),
        visible_devices=os.environ.get("CUDA_VISIBLE_DEVICES"),
        usable_cores=usable_cores,
        num_sharing_cores=num_sharing,
        num_threads=count_threads(usable_cores, os.environ.get("OMP_NUM_THREADS"), launch.launcher, num_sharing),
        host=socket.gethostname(),
        process_id=os.getpid(),
        launcher_pid=os.getppid() if launch.launcher == "torchrun" else None,
        job=read_job_attempt(os.environ).mark if "SLURM_JOB_ID" in os.environ else "",
        is_terminal=is_watched(),
    )


def is_watched() -> bool:
    """Whether standard output is a terminal that can move its cursor."""
    # A program without a standard output, or one that has closed it, may use the library.
    is_open = sys.stdout is not None and not sys.stdout.closed
    return is_open and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
