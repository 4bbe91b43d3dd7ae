"""The batch script of a job on SLURM: parameters of sbatch, shell before the tasks, srun, and shell after them."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING

from signs_dist.environment.launchers import LAUNCHER_VARIABLES

from ..program import program
from .base import Submission, refuse_characters

if TYPE_CHECKING:
    from ..cluster import ClusterConfig

UNSAFE = frozenset("%\\\"'`$\n\r\t" + os.pathsep)
"""Characters of a folder's name that SLURM would expand in the name of a log file, or Python split its path at."""


def batch_script(submission: Submission) -> str:
    """The whole script, as it is printed by --dry-run and submitted.

    Raises:
        UserError: the run folder's name holds a character that SLURM or Python would not take as it is.
    """
    refuse_characters(submission.jobs[0].run_folder, submission.files, UNSAFE, "SLURM")
    parts = {
        "Parameters": [sbatch_line(name, value) for name, value in sorted(sbatch_parameters(submission).items())],
        "setup": setup_lines(submission),
        "command": ["export SUBMITIT_EXECUTOR=slurm", srun_line(submission)],
        "teardown": teardown_lines(submission),
    }
    return "\n\n".join(["#!/bin/bash", *("\n".join([f"# {name}", *lines]) for name, lines in parts.items())])


def sbatch_line(name: str, value: str | int) -> str:
    """One parameter of sbatch; True is a flag without a value."""
    return f"#SBATCH --{name}" if value is True else f"#SBATCH --{name}={shlex.quote(str(value))}"


def sbatch_parameters(submission: Submission) -> dict[str, str | int]:
    """The parameters of sbatch by their long names; True is a flag without a value (sbatch(1), OPTIONS)."""
    given: dict[str, str | int] = {
        "job-name": submission.name,
        "output": str(submission.files / f"{_job_pattern(submission)}_0_log.out"),
        "wckey": "submitit",  # as in the scripts that submitit writes: accounting finds them by it
    }
    if (count := len(submission.jobs)) > 1:
        given["array"] = f"0-{count - 1}%{min(count, submission.num_parallel)}"
    return {**given, **cluster_parameters(submission.cluster)}


def cluster_parameters(cluster: ClusterConfig) -> dict[str, str | int]:
    """The parameters of sbatch that do not depend on the run."""
    least, most = cluster.num_nodes
    given: Mapping[str, str | int | None] = {
        "partition": cluster.partition,
        "account": cluster.account,
        "qos": cluster.qos,
        "constraint": cluster.constraint,
        "time": cluster.minutes,
        "nodes": f"{least}" if most == least else f"{least}-{most}",
        "mem": cluster.memory,
        "signal": f"USR2@{cluster.signal_seconds}",
        "requeue": True,
        "open-mode": "append",  # a requeued job appends to the file of its first attempt
    }
    set_here = {name: value for name, value in given.items() if value is not None}
    extra = {name.lstrip("-").replace("_", "-"): value for name, value in cluster.extra.items()}
    return {**set_here, **_task_parameters(cluster), **_gpu_parameters(cluster), **extra}


def sbatch_options(script: str) -> set[str]:
    """The options that a batch script has lines for, and that no variable of a person's shall outrank.

    The wckey is omitted: nothing depends on it, and a site may ask for one.
    """
    return set(re.findall(r"^#SBATCH --([\w-]+)", script, re.MULTILINE)) - {"wckey"}


def _gpu_parameters(cluster: ClusterConfig) -> dict[str, str | int]:
    kind = f"{cluster.gpu_type}:" if cluster.gpu_type else ""
    if cluster.binds_gpus:
        return {"gpus-per-task": f"{kind}1"}
    return {"gpus-per-node": f"{kind}{cluster.gpus_per_node}"} if cluster.gpus_per_node else {}


def _task_parameters(cluster: ClusterConfig) -> dict[str, str | int]:
    """Tasks and their cores."""
    tasks, cores = task_shape(cluster)
    least, most = cluster.num_nodes
    if most == least:
        return {"ntasks-per-node": tasks, **({"cpus-per-task": cores} if cores else {})}
    # SLURM takes --ntasks-per-node times the least number of nodes for the number of tasks, and gives no more nodes
    # than tasks. With --overcommit the number of tasks does not limit the nodes, and --cpus-per-task is a node's.
    return {"ntasks": most * tasks, "overcommit": True, "cpus-per-task": (cores or 1) * tasks}


def task_shape(cluster: ClusterConfig) -> tuple[int, int | None]:
    """(tasks on each node, cores of each or None): with torchrun one task that has the cores of all its processes."""
    if cluster.agent == "torchrun":
        return 1, cluster.cpus_per_task and cluster.cpus_per_task * cluster.num_local_processes
    return cluster.num_local_processes, cluster.cpus_per_task


def _job_pattern(submission: Submission) -> str:
    """What SLURM replaces by the job's id in the name of a log file (sbatch(1), FILENAME PATTERN)."""
    return "%A_%a" if len(submission.jobs) > 1 else "%j"


def srun_line(submission: Submission) -> str:
    """The command that starts the tasks; each loads its pickled job (`launch.task`)."""
    cluster = submission.cluster
    _, cores = task_shape(cluster)
    least, most = cluster.num_nodes
    output = submission.files / f"{_job_pattern(submission)}_%t_log.out"
    srun = [
        # Also where the job itself was submitted with --export=NONE, as by hand: the tasks need what is set above.
        *("srun", "--export=ALL", "--unbuffered", "--output", str(output)),
        "--kill-on-bad-exit=1",  # a task that fails ends the others
        # srun does not inherit --cpus-per-task from sbatch.
        *([f"--cpus-per-task={cores or 1}"] if cores or most > least else []),
        *cluster.srun_args,
    ]
    task = shlex.join(["-u", *program("task"), str(submission.files)])
    return f"{shlex.join(srun)} {submission.python} {task}"


def setup_lines(submission: Submission) -> list[str]:
    """Shell before the tasks: the folder that they start in and import from, and variables that SLURM does not set."""
    folders = submission.jobs[0].import_folders
    least, most = submission.cluster.num_nodes
    tasks, _ = task_shape(submission.cluster)
    counted = f"export SLURM_NTASKS=$((SLURM_JOB_NUM_NODES * {tasks})) SLURM_NTASKS_PER_NODE={tasks}"
    run = shlex.quote(submission.jobs[0].run_folder)
    if submission.run_list is not None:
        run = f'$(sed -n "$((${{SLURM_ARRAY_TASK_ID:-0}} + 1))p" {shlex.quote(str(submission.run_list))})'
    return [
        "# SLURM may signal this script too: it must live to see how its tasks end.",
        "trap : TERM USR2",
        f"cd {shlex.quote(folders[0])} || exit 2",
        f"export PYTHONPATH={shlex.quote(os.pathsep.join(folders))}",
        f"unset {' '.join(LAUNCHER_VARIABLES)}",
        "export SIGNS_DIST_KILL_SECONDS=$(scontrol show config 2>/dev/null | awk '$1 == \"KillWait\" { print $3 }')",
        f"run={run}",
        'echo "$(date +%FT%T) attempt ${SLURM_RESTART_COUNT:-0} of job $SLURM_JOB_ID on $SLURM_JOB_NODELIST: $run"',
        *([counted] if most > least else []),
        *submission.cluster.setup,
    ]


def teardown_lines(submission: Submission) -> list[str]:
    """Shell after the tasks: when all of them have ended, `launch.requeue` decides on a requeue."""
    cluster = submission.cluster
    limits = [
        *("--signal-seconds", str(cluster.signal_seconds)),
        *("--max-requeues", str(cluster.max_requeues), "--max-timeouts", str(cluster.max_timeouts)),
    ]
    return [
        "code=$?",
        "# SLURM_JOB_ID of the last element of an array to start is the array's own id, which names all elements.",
        "job_id=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}",
        "job_id=${job_id:-$SLURM_JOB_ID}",
        'job=$(scontrol --oneliner show job "$job_id" 2>/dev/null)',
        f'decision=$({submission.python} {shlex.join(program("requeue"))} "$run" {shlex.join(limits)} \\',
        '  --exit-code "$code" --job "$job")',
        "own=$?",
        '[ -n "$decision" ] && code=$own',
        'echo "$(date +%FT%T) exit code $code: $decision"',
        "# The nodes of `requeue-without NODES …`. Found before the requeue: SLURM then ends this script's children.",
        "excluded=${decision#requeue-without }",
        '[ "$excluded" = "$decision" ] && excluded=',
        "excluded=${excluded%% *}",
        'case "$decision" in',
        "  requeue*) for pause in 5 15 45 0; do",
        "      # Incomplete: a job that was cancelled meanwhile stays cancelled.",
        '      scontrol requeue Incomplete "$job_id" && break',
        '      echo "not requeued: SLURM has requeued it already, or does not answer"; sleep $pause',
        "    done",
        "    # SLURM takes this from a job that it has requeued, and starts the job when this script has ended.",
        '    [ -n "$excluded" ] && for pause in 1 1 1 1 1; do',
        '      scontrol update JobId="$job_id" ExcNodeList="$excluded" && break; sleep $pause',
        "    done ;;",
        "esac",
        'exit "$code"',
    ]
