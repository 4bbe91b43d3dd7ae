"""The batch script of a job, and handing it over. With job.py the only file that imports submitit."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from launch.cluster import ClusterConfig
from launch.job import Job
from signs_dist.environment.context import read_context
from signs_dist.environment.devices import parse_visible
from signs_dist.environment.launchers import LAUNCHER_VARIABLES
from signs_dist.environment.slurm_job import job_variables
from signs_dist.errors import UserError

UNSAFE = frozenset("%\\\"'`$\n\r\t" + os.pathsep)
"""What SLURM would read something into, in the name of a log file, or Python in its path."""


@dataclasses.dataclass(frozen=True)
class Submission:
    """What is submitted.

    Attributes:
        cluster: what it asks for.
        job: what each task does.
        folder: of this submission, in the run folder, absolute.
        name: of the job, for people.
        run_list: for an array: a file with the run folder of each element on a line.
    """

    cluster: ClusterConfig
    job: Job
    folder: Path
    name: str
    run_list: Path | None = None

    @property
    def python(self) -> str:
        """The shell command that starts Python on a compute node."""
        python = shlex.quote(self.cluster.python or sys.executable)
        return f"{self.cluster.container} {python}" if self.cluster.container else python


def setup_lines(submission: Submission) -> list[str]:
    """Shell before the tasks: where they start and import from, and what SLURM's variables do not tell."""
    folders = submission.job.import_folders
    least, most = submission.cluster.num_nodes
    tasks, _ = task_shape(submission.cluster)
    counted = f"export SLURM_NTASKS=$((SLURM_JOB_NUM_NODES * {tasks})) SLURM_NTASKS_PER_NODE={tasks}"
    run = shlex.quote(submission.job.run_folder)
    if submission.run_list is not None:
        run = f'$(sed -n "$((${{SLURM_ARRAY_TASK_ID:-0}} + 1))p" {shlex.quote(str(submission.run_list))})'
    return [
        "# SLURM may signal this script too; it stays, to see how its tasks end.",
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
    """Shell after the tasks: one place decides on a requeue, when all of them are gone."""
    cluster = submission.cluster
    limits = [
        *("--signal-seconds", str(cluster.signal_seconds)),
        *("--max-requeues", str(cluster.max_requeues), "--max-timeouts", str(cluster.max_timeouts)),
    ]
    return [
        "code=$?",
        "# The last element of an array to start has the array's own number, which stands for all of them.",
        "job_id=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}",
        "job_id=${job_id:-$SLURM_JOB_ID}",
        'job=$(scontrol --oneliner show job "$job_id" 2>/dev/null)',
        f'decision=$({submission.python} -m launch.requeue "$run" {shlex.join(limits)} \\',
        '  --exit-code "$code" --job "$job")',
        "own=$?",
        '[ -n "$decision" ] && code=$own',
        'echo "$(date +%FT%T) exit code $code: $decision"',
        'case "$decision" in',
        "  requeue*) for pause in 5 15 45 0; do",
        "      # Incomplete: a job that was cancelled in this very moment stays cancelled.",
        '      scontrol requeue Incomplete "$job_id" && break',
        '      echo "not requeued: SLURM may have done so itself, or does not answer"; sleep $pause',
        "    done ;;",
        "esac",
        'exit "$code"',
    ]


def sbatch_parameters(submission: Submission) -> dict[str, Any]:
    """What submitit is told, by its own names (submitit.SlurmExecutor)."""
    cluster = submission.cluster
    tasks, cpus = task_shape(cluster)
    kind = f"{cluster.gpu_type}:" if cluster.gpu_type else ""
    gpus: dict[str, Any] = {}
    if cluster.binds_gpus:
        gpus = {"gpus_per_task": f"{kind}1"}
    elif cluster.gpus_per_node:
        gpus = {"gpus_per_node": f"{kind}{cluster.gpus_per_node}"}
    least, most = cluster.num_nodes
    extra: dict[str, Any] = {"requeue": True}
    if most > least:
        # SLURM takes --ntasks-per-node times the least for the number of tasks, and gives no more nodes than tasks. As
        # overcommitted, tasks do not count, and --cpus-per-task is a node's.
        extra |= {"nodes": f"{least}-{most}", "ntasks": most * tasks, "overcommit": True}
    return {
        "job_name": submission.name,
        "partition": cluster.partition,
        "account": cluster.account,
        "qos": cluster.qos,
        "constraint": cluster.constraint,
        "time": cluster.minutes,
        "nodes": least,
        "ntasks_per_node": tasks if most == least else None,
        "cpus_per_task": cpus if most == least else (cpus or 1) * tasks,
        "mem": cluster.memory,
        **gpus,
        "signal_delay_s": cluster.signal_seconds,
        "stderr_to_stdout": True,
        "setup": setup_lines(submission),
        "teardown": teardown_lines(submission),
        # A task that dies takes the others with it. srun does not take --cpus-per-task over from sbatch.
        "srun_args": [
            "--kill-on-bad-exit=1",
            *([f"--cpus-per-task={cpus or 1}"] if cpus or most > least else []),
            *cluster.srun_args,
        ],
        "additional_parameters": {**extra, **{name.lstrip("-"): value for name, value in cluster.extra.items()}},
    }


def task_shape(cluster: ClusterConfig) -> tuple[int, int | None]:
    """(tasks on each node, cores of each or None): with torchrun one task that has the cores of all its processes."""
    if cluster.agent == "torchrun":
        return 1, cluster.cpus_per_task and cluster.cpus_per_task * cluster.num_local_processes
    return cluster.num_local_processes, cluster.cpus_per_task


def make_executor(submission: Submission) -> Any:
    """submitit's executor for a submission. Raises `UserError` where SLURM is not there, or a name would mislead it."""
    import submitit

    folder = submission.folder / "submitit"
    if wrong := sorted(UNSAFE & set(str(folder))):
        raise UserError(
            f"--run-dir {submission.job.run_folder!r}: SLURM or Python would read something into "
            f"{' '.join(map(repr, wrong))}. Take letters, digits, spaces, and . _ - + , ; = ( )"
        )
    if shutil.which("srun") is None or shutil.which("sbatch") is None:
        raise UserError(
            "there is no SLURM on this machine (no sbatch). Submit from a login node; or type --cluster local, which "
            "starts the same job on this machine."
        )
    executor = submitit.SlurmExecutor(folder=folder, python=submission.python)
    given = {name: value for name, value in sbatch_parameters(submission).items() if value is not None}
    executor.update_parameters(**given)
    return executor


def batch_script(submission: Submission) -> str:
    """The whole script that sbatch gets."""
    executor = make_executor(submission)
    text: str = executor._make_submission_file_text(executor._submitit_command_str, "")
    return text


@contextlib.contextmanager
def outside_of_any_job() -> Iterator[None]:
    """Within the block the environment does not tell of a SLURM job that this process runs in.

    sbatch hands its environment on: what it does not set anew, such as SLURM_CPUS_PER_TASK, would reach the new job's
    tasks. Where the cluster is, and a person's defaults for sbatch (SBATCH_…), stay.
    """
    hidden = {name: os.environ.pop(name) for name in job_variables(os.environ)}
    try:
        yield
    finally:
        os.environ.update(hidden)


def test_only(script: str) -> str:
    """Ask SLURM whether it would take the script: its estimate of when it would start. Raises `UserError` if not."""
    try:
        with outside_of_any_job():
            ended = subprocess.run(
                ["sbatch", "--test-only"], input=script, capture_output=True, text=True, timeout=60, check=False
            )
    except subprocess.TimeoutExpired:
        raise UserError("SLURM does not answer (sbatch --test-only, within 60 s). Try again when it does.") from None
    told = " ".join(ended.stderr.replace("sbatch:", "").split())
    if ended.returncode:
        raise UserError(f"SLURM does not take this job: {told}")
    return told


@contextlib.contextmanager
def _refusals_told() -> Iterator[None]:
    """Around the call of sbatch: what SLURM refuses becomes a line for the user."""
    import submitit

    try:
        with outside_of_any_job():
            yield
    except (submitit.core.utils.FailedJobError, submitit.core.utils.FailedSubmissionError) as error:
        raise UserError(f"SLURM does not take this job: {' '.join(str(error).split())}") from error


def submit(submission: Submission) -> str:
    """Hand the job over to SLURM and return its id. Raises `UserError` if it is refused."""
    executor = make_executor(submission)
    with _refusals_told():
        return str(executor.submit(submission.job).job_id)


def submit_here(submission: Submission) -> str:
    """Start the job on this machine by submitit's local executor, in the background; its id, a process id.

    It has a session of its own: neither Ctrl-C in this terminal nor its end reaches the job.
    """
    import submitit

    cluster, folder = submission.cluster, submission.folder / "submitit"
    executor = submitit.LocalExecutor(folder=folder)
    executor.update_parameters(
        tasks_per_node=cluster.num_local_processes,
        gpus_per_node=cluster.gpus_per_node,
        timeout_min=cluster.minutes,
        signal_delay_s=cluster.signal_seconds,
        stderr_to_stdout=True,
        setup=[_in_own_session(local_lines(submission, read_context().visible_devices), folder)],
    )
    return str(executor.submit(submission.job).job_id)


def local_lines(submission: Submission, visible: str | None) -> list[str]:
    """Shell before the tasks on this machine; `visible` is CUDA_VISIBLE_DEVICES here, which submitit overlooks."""
    cluster, folders = submission.cluster, submission.job.import_folders
    names = parse_visible(visible)
    gpus = [f"export CUDA_VISIBLE_DEVICES={','.join(names[: cluster.gpus_per_node])}"] if names else []
    return [
        f"cd {shlex.quote(folders[0])}",
        f"export PYTHONPATH={shlex.quote(os.pathsep.join(folders))}",
        f"unset {' '.join(LAUNCHER_VARIABLES)}",
        *gpus,
        *cluster.setup,
    ]


def _in_own_session(lines: Sequence[str], folder: Path) -> str:
    """One line of shell that does `lines` and then what submitit's local executor does, in a session of its own.

    submitit starts its controller as `LINES && CONTROLLER` in a shell, and takes the shell's process id for the job's:
    the shell becomes the leader of a new session, and keeps its id. What submitit puts behind is not reached.
    """
    controller = shlex.join([sys.executable, "-m", "submitit.local._local", str(folder)])
    enter = "import os, sys; os.setsid(); os.execvp('/bin/sh', ['/bin/sh', '-c', sys.argv[1]])"
    said = shlex.quote(str(folder / "controller.log"))
    start = shlex.join([sys.executable, "-c", enter, " && ".join([*lines, controller])])
    return f"exec {start} < /dev/null >> {said} 2>&1"


def submit_array(submission: Submission, jobs: Sequence[Job], parallel: int) -> list[str]:
    """Hand over an array, a job each, of which so many run at once; their ids. Raises `UserError` if it is refused."""
    executor = make_executor(submission)
    executor.update_parameters(array_parallelism=parallel)
    with _refusals_told(), executor.batch():
        handles = [executor.submit(job) for job in jobs]
    return [str(handle.job_id) for handle in handles]
