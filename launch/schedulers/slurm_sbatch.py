"""Handing a job over to SLURM: sbatch, and the pickles that the tasks load."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from signs_dist.environment.slurm_job import job_variables
from signs_dist.errors import UserError
from signs_dist.monitoring.waiting import telling

from ..job import Job
from .base import Submission
from .slurm_script import batch_script

SUBMIT_SECONDS = 300.0
"""How long sbatch may take to submit: it asks a busy controller again and again by itself."""
TEST_SECONDS = 60.0
"""How long sbatch --test-only may take."""
MAX_SUBMITIT_TIMEOUTS = 3
"""submitit's own default. It has no effect: `Job` ends its task at a signal, and the batch script requeues."""


@contextlib.contextmanager
def outside_of_any_job() -> Iterator[None]:
    """Within the block the environment has no variables of a SLURM job that this process runs in.

    sbatch passes its environment on to the job: a variable that it does not set again, such as SLURM_CPUS_PER_TASK,
    would reach the new job's tasks. The variables that tell where the cluster is, and a person's defaults for sbatch
    (SBATCH_…), stay.
    """
    hidden = {name: os.environ.pop(name) for name in job_variables(os.environ)}
    try:
        yield
    finally:
        os.environ.update(hidden)


def call_sbatch(*arguments: str, script: str | None = None, timeout: float = SUBMIT_SECONDS) -> tuple[str, str]:
    """(standard output, standard error) of sbatch; `script` is its standard input. Raises `UserError` if it refuses."""
    try:
        with outside_of_any_job(), telling(lambda: "sbatch has not answered yet"):
            ended = subprocess.run(
                ["sbatch", *arguments], input=script, capture_output=True, text=True, timeout=timeout, check=False
            )
    except FileNotFoundError:
        raise UserError(
            "there is no SLURM on this machine (no sbatch). Submit from a login node; or type --cluster local, which "
            "starts the same job on this machine."
        ) from None
    except subprocess.TimeoutExpired:
        raise UserError(
            f"SLURM does not answer (sbatch {' '.join(arguments)}, within {timeout} s). Type the command again when it "
            f"does; if squeue --me shows the job then, it was taken after all."
        ) from None
    told = " ".join(ended.stderr.replace("sbatch:", "").split())
    if ended.returncode:
        raise UserError(f"SLURM does not take this job: {told}")
    return ended.stdout, told


def estimate_start(script: str) -> str:
    """When and where SLURM would start the script, in its words. Raises `UserError` if it would not take it."""
    return call_sbatch("--test-only", script=script, timeout=TEST_SECONDS)[1]


def hand_over(submission: Submission) -> list[str]:
    """Submit the script, and put the pickle of each job where its tasks look for it. Returns the ids of the jobs.

    The pickles are written before the call of sbatch, and get their names, which hold the id, after it; a task that
    starts meanwhile waits for its pickle (submitit.core.submission.process_job).

    Raises:
        UserError: SLURM refuses the job.
    """
    import submitit.core.utils

    folder = submission.files
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / "submission.sh"
    script.write_text(batch_script(submission), encoding="utf-8")
    pickles = write_pickles(submission.jobs, folder, submission.cluster.minutes)
    number = call_sbatch("--parsable", str(script))[0].strip().partition(";")[0]
    many = len(submission.jobs) > 1
    ids = [f"{number}_{element}" if many else number for element in range(len(submission.jobs))]
    for job, path in zip(ids, pickles, strict=True):
        path.rename(submitit.core.utils.JobPaths(folder, job).submitted_pickle)
    script.rename(submitit.core.utils.JobPaths(folder, ids[0]).submission_file)
    return ids


def write_pickles(jobs: Sequence[Job], folder: Path, minutes: int) -> list[Path]:
    """A file for each job, as `submitit.core.submission.process_job` loads it; `minutes` is the time limit."""
    import submitit.helpers

    paths = []
    for number, job in enumerate(jobs):
        delayed = submitit.helpers.DelayedSubmission(job)
        delayed.set_timeout(minutes, MAX_SUBMITIT_TIMEOUTS)
        path = folder / f"{number}.pkl"
        delayed.dump(path)
        paths.append(path)
    return paths
