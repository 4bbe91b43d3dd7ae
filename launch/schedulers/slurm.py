"""SLURM as a scheduler."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from signs_dist.environment.slurm_job import find_default_partition, job_variables
from signs_dist.environment.slurm_variables import (
    acting_variables,
    foreign_cluster,
    ignored_variables,
    read_job_defaults,
)
from signs_dist.errors import UserError

from ..check import check_signal
from ..durations import describe_minutes
from ..jobs import SUBMIT
from ..request import Request
from . import slurm_questions as questions
from .base import Difference, Findings, JobState, Scheduler, Submission, submission_folders
from .slurm_kinds import describe_kinds
from .slurm_nodes import choose_fitting, choose_partitions, describe_unavailable, find_too_many
from .slurm_promises import compare
from .slurm_sbatch import estimate_start, hand_over
from .slurm_script import batch_script, cluster_parameters

if TYPE_CHECKING:
    from ..cluster import ClusterConfig


# Many members: one for each method of `Scheduler`.
class Slurm(Scheduler):
    """--cluster slurm, and every site of configs/cluster/: sbatch, srun, scontrol, squeue, sacct, scancel."""

    job_prefix: ClassVar[str] = ""
    most_jobs: ClassVar[int] = 1000
    look_command: ClassVar[str] = "squeue --me"

    def check_settings(self, cluster: ClusterConfig) -> None:
        """Every setting is legal."""

    def check(self, request: Request) -> Findings:
        """Look for a partition that the job fits on, and for time to save before the time limit."""
        cluster = request.cluster
        config = questions.read_slurm_config()
        if not config:
            raise UserError(
                "no SLURM answers on this machine (scontrol show config). Submit from a login node; or type "
                "--cluster local, which starts the same job on this machine."
            )
        if elsewhere := foreign_cluster(os.environ):
            raise UserError(
                f"SBATCH_CLUSTERS={elsewhere}: sbatch would submit there, and SLURM's other commands ask another "
                f"cluster. Type SLURM_CLUSTERS={elsewhere} before this command, which they all read, and unset "
                f"SBATCH_CLUSTERS."
            )
        nodes = questions.read_nodes()
        partition, doubt = _find_partition(cluster, nodes)
        kill = config.get("KillWait", "").split(" ")[0]
        lines = {"devices": [describe_nodes(cluster)], "time": [describe_minutes(cluster.time)]}
        if cluster.memory is not None:
            from ..cluster import describe_memory  # pydantic: not for --help

            lines["memory"] = [describe_memory(cluster.memory)]
        lines["waits"] = describe_unavailable(cluster, partition, nodes)
        if request.config.exact:
            names = (cluster.partition or partition.get("PartitionName", "")).split(",")
            lines["exact"] = describe_kinds(cluster, names, nodes)
        lines["env"] = describe_variables(cluster, os.environ)
        lines["signal"] = check_signal(request, float(kill) if kill.isdigit() else None)
        lines["requeue"] = describe_requeue(config, partition, cluster)
        too_many = find_too_many(cluster, partition, nodes)
        return Findings(lines, doubt, too_many, lacks_nodes=bool(lines["waits"]))

    def script(self, submission: Submission) -> str:
        """The whole script that sbatch gets."""
        return batch_script(submission)

    def read_defaults(self, environment: Mapping[str, str]) -> dict[str, tuple[str, str]]:
        """SBATCH_PARTITION and the like."""
        return read_job_defaults(environment)

    def test_only(self, script: str, cluster: ClusterConfig) -> str:
        """sbatch's estimate of when the job would start."""
        return estimate_start(script, cluster)

    def submit(self, submission: Submission) -> list[str]:
        """Call sbatch once: for one job, or for an array of them."""
        return hand_over(submission)

    def find_differences(self, submission: Submission, job: str) -> list[Difference]:
        """From `scontrol show job`."""
        return compare(submission, questions.show_job(job.partition("_")[0]))

    def state(self, job: str) -> JobState:
        """From the controller; for a job that the controller has forgotten, from the accounting if there is one."""
        return questions.ask_state(job)

    def states(self, jobs: Sequence[str]) -> dict[str, JobState]:
        """With one call of squeue for all of them. A job that the controller has forgotten has no state."""
        return questions.ask_states(jobs)

    def find_alive(self, jobs: Sequence[str]) -> set[str]:
        """With one call of squeue for all of them."""
        alive = questions.find_alive(jobs)
        # squeue fails if the controller has forgotten every job of an array: then each job is asked for by itself.
        return super().find_alive(jobs) if alive is None else alive

    def cancel(self, jobs: Sequence[str]) -> None:
        """scancel."""
        questions.cancel(jobs)

    def logs(self, run_path: Path, job: str) -> list[Path]:
        """The output of the batch script and of its first task."""
        name = f"*/submitit/{job}_0_log.out"
        return [path for folder in submission_folders(run_path) for path in sorted(folder.glob(name))]

    def find_run(self, job: str) -> Path | None:
        """By the file that the job's batch script writes to."""
        if not re.fullmatch(r"[1-9][0-9]*(_[0-9]+)?", job):
            return None
        # SLURM shows all jobs for the number 0, and reads a number beyond its range as another.
        shown = questions.show_job(job).split("\n")[0]
        if not re.search(rf"\b(Array)?JobId={job.partition('_')[0]} ", shown):
            return None
        found = re.search(rf" StdOut=(.+?)/{SUBMIT}/[0-9]+/submitit/", shown)
        return Path(found[1]) if found else None


def _find_partition(
    cluster: ClusterConfig, nodes: Sequence[Mapping[str, str]]
) -> tuple[Mapping[str, str], UserError | None]:
    """(the settings of the partition that the job fits on, why SLURM may still refuse it). Raises `UserError`."""
    wanted = cluster.partition or find_default_partition(os.environ)
    partitions = choose_partitions(wanted, questions.read_partitions())
    try:
        return choose_fitting(cluster, partitions, nodes), None
    except UserError as error:
        if wanted:
            raise
        # A site may route jobs to other partitions than the default one: SLURM decides.
        return partitions[0], error


def describe_variables(cluster: ClusterConfig, environment: Mapping[str, str]) -> list[str]:
    """Which variables of a person's environment act on the job, and which would and are ignored; for people.

    Args:
        cluster: what the job asks for.
        environment: of this process.
    """
    options = set(cluster_parameters(cluster))
    defaults = read_job_defaults(environment)
    taken = [name for setting, (value, name) in defaults.items() if getattr(cluster, setting) == value]
    own = {*taken, *job_variables(environment)}
    acting = [*taken, *acting_variables(environment, options)]
    ignored = [name for name in ignored_variables(environment, options) if name not in own]
    lines = [f"acts on the job: {name}={environment[name]}" for name in acting]
    if ignored:
        shown = ", ".join(f"{name}={environment[name]}" for name in ignored)
        lines.append(f"ignored, since the job's settings say otherwise: {shown}")
    return lines


def describe_nodes(cluster: ClusterConfig) -> str:
    """How many processes will compute on which devices, for people."""
    least, most = cluster.num_nodes
    nodes = f"{least}" if least == most else f"{least} to {most}"
    count = cluster.num_local_processes
    start = (
        f"{nodes} node{'' if most == 1 else 's'}, {count} process{'es' if count > 1 else ''} on each, "
        f"started by {cluster.agent}"
    )
    if not cluster.gpus_per_node:
        return f"{start}, on the CPU"
    if cluster.binds_gpus:
        return f"{start}; each sees its own GPU only, as cuda:0"
    return f"{start}; each sees all of the job's GPUs on its node, and local rank N takes cuda:N"


def describe_requeue(config: Mapping[str, str], partition: Mapping[str, str], cluster: ClusterConfig) -> list[str]:
    """What will happen when the job has to stop: at its time limit, and when another job needs its nodes.

    Args:
        config: settings of `scontrol show config`.
        partition: settings of the job's partition.
        cluster: what the job asks for.
    """
    lines = [
        f"at the time limit: saved and requeued {cluster.signal_seconds} s before it, at most {cluster.max_timeouts} "
        f"times; {cluster.max_requeues} requeues in all"
    ]
    mode = partition.get("PreemptMode", config.get("PreemptMode", "OFF"))
    kill, grace = config.get("KillWait", "30 sec").split(" ")[0], partition.get("GraceTime", "0")
    if config.get("PreemptType", "preempt/none") == "preempt/none" or mode == "OFF":
        lines.append("preemption: never on this partition")
    elif mode.startswith(("SUSPEND", "GANG")):
        lines.append("preemption: SLURM suspends the job, and resumes it where it was")
    elif mode != "REQUEUE" and grace == "0":
        lines.append(f"preemption: {mode} on this partition, so the job is not requeued")
    elif mode != "REQUEUE":
        lines.append(
            f"preemption: signalled {grace} s before, saved, and requeued by the job's own script ({mode} on this "
            f"partition)"
        )
    elif "preempt_send_user_signal" in config.get("SlurmctldParameters", "") and grace != "0":
        lines.append(f"preemption: signalled {grace} s before, saved and requeued")
    else:
        lines.append(f"preemption: SIGTERM, saved if that takes less than {kill} s, and requeued by SLURM")
    return lines
