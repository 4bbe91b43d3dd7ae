"""Asking SLURM's commands, and reading their answers: scontrol, squeue, sacct, scancel."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from signs_dist.environment.slurm_variables import question_environment
from signs_dist.errors import UserError

from .base import ENDED, JobState

ANSWER_SECONDS = 30.0
"""How long the controller may take to answer; without one, SLURM's commands try for minutes."""
LIST_SECONDS = 5.0
"""The same for a list of runs, which is of use without the answer too."""
MOST_NAMED = 1000
"""Of more jobs than this the numbers are not given to squeue: a command line is not that long."""


def ask_state(job: str) -> JobState:
    """The state of a job: from the controller, or for a job that it has forgotten, from the accounting if there is one.

    Raises:
        UserError: SLURM does not answer, so that the state is not known.
    """
    ended, problem = _ask("scontrol", "--oneliner", "show", "job", job)
    if ended is not None:
        return parse_job(job, ended)
    if not _is_unknown(problem):
        raise UserError(f"SLURM does not answer about job {job}: {problem}. Type the command again when it does.")
    ended = _run("sacct", "--noheader", "--parsable2", "--allocations", "--jobs", job, "--format", "State")
    state = ended.split("\n")[0].split(" ")[0] if ended else ""
    # A job that the controller has forgotten has ended, even if the accounting was never told so.
    return JobState(job, state if state in ENDED else "")


def find_alive(jobs: Sequence[str]) -> set[str] | None:
    """Which jobs and elements of arrays, such as 7 and 8_3, wait or run, by one question; None if squeue fails."""
    arrays = ",".join(sorted({job.partition("_")[0] for job in jobs}))
    told = _run("squeue", "--noheader", "--array", "--states=all", "--jobs", arrays, "--format=%F_%K %T")
    if told is None:
        return None
    lines = [line.split() for line in told.split("\n")]
    states = {name.removesuffix("_N/A"): state for name, state in (line for line in lines if len(line) == 2)}
    return {job for job in jobs if JobState(job, states.get(job, "")).is_alive}


def ask_states(jobs: Sequence[str]) -> dict[str, JobState]:
    """The state of each of these jobs and elements of arrays, by one question, within LIST_SECONDS.

    Raises:
        UserError: SLURM does not answer.
    """
    arrays = sorted({job.partition("_")[0] for job in jobs})
    named = ["--jobs", ",".join(arrays)] if len(arrays) <= MOST_NAMED else []
    told, problem = _ask(
        *("squeue", "--noheader", "--array", "--states=all", *named, "--format=%F_%K|%T|%R"), seconds=LIST_SECONDS
    )
    if told is None and not _is_unknown(problem):  # unknown: the controller has forgotten all of them
        raise UserError(f"SLURM does not answer: {problem}. Type the command again when it does.")
    return parse_queue(jobs, told or "")


def parse_queue(jobs: Sequence[str], text: str) -> dict[str, JobState]:
    """The state of each job by lines such as `7_N/A|PENDING|(Resources)` and `8_3|RUNNING|node1`."""
    states = {}
    for fields in (line.split("|", 2) for line in text.split("\n") if line.count("|") >= 2):
        job, why = fields[0].removesuffix("_N/A"), fields[2]
        is_reason = why.startswith("(")
        states[job] = JobState(job, fields[1], why.strip("()") if is_reason else "", "" if is_reason else why)
    return {job: states.get(job, JobState(job, "")) for job in jobs}


def parse_job(job: str, text: str) -> JobState:
    """From one line of `scontrol --oneliner show job`."""
    fields = dict(re.findall(r"(?:^| )(JobState|Reason|NodeList|Restarts|ExitCode)=([^ ]*)", text.split("\n")[0]))
    nodes = fields.get("NodeList", "")
    return JobState(
        job,
        fields.get("JobState", ""),
        fields.get("Reason", ""),
        "" if nodes == "(null)" else nodes,
        int(fields.get("Restarts") or 0),
        int(fields.get("ExitCode", "0:0").split(":")[0] or 0),
    )


def show_job(job: str) -> str:
    """What `scontrol show job` says, a line for a job or an array's element; "" where SLURM does not tell."""
    return _run("scontrol", "--oneliner", "show", "job", job) or ""


def is_of_script(shown: str, script: Path) -> bool:
    """Whether a line of `scontrol --oneliner show job` is about the job of a batch script, or of a copy of it.

    A site's own sbatch may submit a copy. The job's output still goes to the folder of the script.
    """
    return f" Command={script} " in shown or f" StdOut={script.parent}/" in shown


def find_number(script: Path, printed: Sequence[str]) -> tuple[str | None, bool]:
    """The number of the job of a batch script that was submitted just now.

    Args:
        script: its file; its job writes to the same folder.
        printed: what sbatch printed and may be the number, the likeliest first.

    Returns:
        The number, or None without such a job; and whether SLURM has answered. Where it has not, the number is the
        likeliest.
    """
    for number in printed:
        told, problem = _ask("scontrol", "--oneliner", "show", "job", number)
        if told is None and not _is_unknown(problem):
            return number, False
        if any(is_of_script(line, script) for line in (told or "").split("\n")):
            return number, True
    told = _run("scontrol", "--oneliner", "show", "job")
    own = [line for line in (told or "").split("\n") if is_of_script(line, script)]
    # An element of an array has a number of its own, beside the array's.
    found = [re.search(r"ArrayJobId=(\d+)", line) or re.search(r"JobId=(\d+)", line) for line in own]
    if found and found[0] is not None:
        return found[0][1], True
    return None, told is not None


def _is_unknown(problem: str) -> bool:
    """Whether SLURM answers that there is no such job. "not found": an array's element, while it still knows others."""
    return "Invalid job id" in problem or "not found" in problem


def parse_config(text: str) -> dict[str, str]:
    """The settings of `scontrol show config`."""
    return {
        name.strip(): value.strip()
        for name, found, value in (line.partition("=") for line in text.split("\n"))
        if found
    }


def read_slurm_config() -> dict[str, str]:
    """The cluster's settings; empty where SLURM does not tell."""
    return parse_config(_run("scontrol", "show", "config") or "")


def read_partitions() -> list[dict[str, str]]:
    """The settings of each partition; empty where SLURM does not tell."""
    return parse_lines(_run("scontrol", "--all", "--oneliner", "show", "partition") or "")


def read_nodes() -> list[dict[str, str]]:
    """What is known of each node; empty where SLURM does not tell."""
    return parse_lines(_run("scontrol", "--oneliner", "show", "nodes") or "")


def parse_lines(text: str) -> list[dict[str, str]]:
    """The fields of each line of `scontrol --oneliner`: words with a = in them."""
    lines = [re.findall(r"(?:^| )(\w+)=(\S*)", line) for line in text.split("\n")]
    return [dict(fields) for fields in lines if fields]


def cancel(jobs: Sequence[str]) -> None:
    """Take jobs out of the queue, or end them. Raises `UserError` if SLURM refuses."""
    if not jobs:
        return
    told, problem = _ask("scancel", *jobs)
    if told is None:
        raise UserError(f"scancel {' '.join(jobs)} failed: {problem}")


def _run(*command: str) -> str | None:
    """What a command of SLURM's says; None where it fails, is not there, or finds no controller in time."""
    return _ask(*command)[0]


def _ask(*command: str, seconds: float = ANSWER_SECONDS) -> tuple[str | None, str]:
    """(what a command of SLURM's says within some seconds, or None; what is wrong)."""
    try:
        ended = subprocess.run(
            command,
            env=question_environment(os.environ),
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None, f"{command[0]} found no controller within {seconds:g} s"
    except OSError as error:
        return None, f"{command[0]}: {error.strerror}"
    problem = " ".join((ended.stderr or ended.stdout).split())  # "Job 7_0 not found" comes on standard output
    return (ended.stdout.strip(), "") if ended.returncode == 0 else (None, problem or f"exit code {ended.returncode}")
