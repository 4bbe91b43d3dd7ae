"""Handing a job over to SLURM: sbatch, and the pickles that the tasks load."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from signs_dist.environment.slurm_variables import sbatch_environment
from signs_dist.errors import UserError
from signs_dist.monitoring.waiting import telling

from ..job import Job
from .base import Submission, UncertainError
from .slurm_questions import find_number
from .slurm_refusals import refusal
from .slurm_script import batch_script, sbatch_options

if TYPE_CHECKING:
    from ..cluster import ClusterConfig

SUBMIT_SECONDS = 300.0
"""How long sbatch may take to submit: it asks a busy controller again and again by itself."""
TEST_SECONDS = 60.0
"""How long sbatch --test-only may take."""
MOST_CHARACTERS = 400
"""Of what a program printed, in a message."""
MAX_SUBMITIT_TIMEOUTS = 3
"""submitit's own default. It has no effect: `Job` ends its task at a signal, and the batch script requeues."""


def call_sbatch(
    *arguments: str, options: Collection[str], script: str | None = None, timeout: float = SUBMIT_SECONDS
) -> tuple[int, str, str]:
    """(exit code, standard output, standard error) of sbatch.

    Args:
        arguments: of sbatch.
        options: what no variable of the environment shall outrank.
        script: its standard input.
        timeout: in seconds.

    Raises:
        UserError: there is no sbatch, or a test does not end in time.
        UncertainError: a submission does not end in time.
    """
    try:
        with telling(lambda: "sbatch has not answered yet"):
            ended = subprocess.run(
                ["sbatch", *arguments],
                input=script,
                env=sbatch_environment(os.environ, options),
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )
    except OSError:
        raise UserError(
            "there is no SLURM on this machine (no sbatch in PATH; an alias of the shell is none). Submit from a login "
            "node; or type --cluster local, which starts the same job on this machine."
        ) from None
    except subprocess.TimeoutExpired:
        late = f"SLURM does not answer (sbatch {' '.join(arguments)}, within {timeout} s)."
        if "--test-only" in arguments:
            raise UserError(f"{late} Type the command again when it does.") from None
        raise UncertainError(
            f"{late} Type squeue --me when it does: if the job is there, cancel it, and submit again."
        ) from None
    return ended.returncode, ended.stdout, ended.stderr.replace("sbatch:", "")


def estimate_start(script: str, cluster: ClusterConfig) -> str:
    """When and where SLURM would start the script, in its words. Raises `UserError` if it would not take it."""
    options = sbatch_options(script)
    code, printed, told = call_sbatch("--test-only", options=options, script=script, timeout=TEST_SECONDS)
    if code:
        raise refusal(_in_one_line(told) or _in_one_line(printed), cluster)
    found = re.search(r"Job \d+ to start .*", told)
    return found[0].strip() if found else _in_one_line(told)


def hand_over(submission: Submission) -> list[str]:
    """Submit the script, and put the pickle of each job where its tasks look for it. Returns the ids of the jobs.

    The pickles are written before the call of sbatch, and get their names, which hold the id, after it; a task that
    starts meanwhile waits for its pickle (submitit.core.submission.process_job).

    Raises:
        UserError: SLURM refuses the job, or has none after all.
        UncertainError: it is not known whether SLURM has the job.
    """
    import submitit.core.utils

    folder = submission.files
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / "submission.sh"
    script.write_text(batch_script(submission), encoding="utf-8")
    pickles = write_pickles(submission.jobs, folder, submission.cluster.minutes)
    number = _submit(script, submission.cluster)
    many = len(submission.jobs) > 1
    ids = [f"{number}_{element}" if many else number for element in range(len(submission.jobs))]
    for job, path in zip(ids, pickles, strict=True):
        path.rename(submitit.core.utils.JobPaths(folder, job).submitted_pickle)
    script.rename(submitit.core.utils.JobPaths(folder, ids[0]).submission_file)
    return ids


def _submit(script: Path, cluster: ClusterConfig) -> str:
    """Submit a file, and return the number of its job: one that SLURM knows for the job of this file.

    sbatch may be a site's own program, which prints more than a number, ends with 0 without a submission, or with
    another code after one.
    """
    options = sbatch_options(script.read_text(encoding="utf-8"))
    code, printed, told = call_sbatch("--parsable", str(script), options=options)
    numbers = parse_numbers(printed)
    if code and not numbers:
        raise refusal(_in_one_line(told) or _in_one_line(printed), cluster)
    number, is_answered = find_number(script, numbers)
    if number is not None and (is_answered or not code):
        return number
    said = _in_one_line(f"{printed} {told}") or "nothing"
    if code:
        raise refusal(said, cluster)
    if is_answered:
        raise UserError(
            f"sbatch ended with 0, and SLURM knows no job of {script}. It printed: {said}\n"
            f"sbatch is {shutil.which('sbatch')}. If it submits later, its job ends at once: the files are removed."
        )
    raise UncertainError(
        f"sbatch printed no job's number, and SLURM does not answer: the job may wait. It printed: {said}\n"
        f"Type squeue --me to see. The job of {script} cannot start its tasks: cancel it, and submit again."
    )


def _in_one_line(text: str) -> str:
    return " ".join(text.split())[:MOST_CHARACTERS]


def parse_numbers(text: str) -> list[str]:
    """What may be the job's number in the output of `sbatch --parsable`: a line `7` or `7;cluster`, the last one first.

    Without such a line, the last `Submitted batch job 7`, which a site's sbatch may print instead.
    """
    lines = [line.strip() for line in text.split("\n")]
    numbers = [found[1] for line in lines if (found := re.fullmatch(r"(\d+)(;\S+)?", line, re.ASCII))]
    return list(reversed(numbers or re.findall(r"Submitted batch job (\d+)", text, re.ASCII)))


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
