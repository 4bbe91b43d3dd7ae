"""Which runs have a job that waits or runs, for `python -m signs_dist.runs`."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from signs_dist.errors import UserError
from signs_dist.results.queued import QueueAnswer, QueuedJob

from .jobs import is_finished, jobs_of
from .schedulers import scheduler_of
from .schedulers.base import JobState


def ask_queue(paths: Sequence[Path]) -> QueueAnswer:
    """Ask each scheduler once about the newest job of each run.

    Args:
        paths: run folders. Those without a job, or whose newest job has finished the run, have no part in the answer.
    """
    newest = {path: jobs[-1] for path in paths if (jobs := jobs_of(path)) and not is_finished(path, jobs[-1])}
    by_scheduler: dict[str, dict[Path, str]] = {}
    for path, job in newest.items():
        by_scheduler.setdefault(scheduler_of(job).job_prefix, {})[path] = job
    found: dict[Path, QueuedJob] = {}
    unknown: dict[Path, str] = {}
    problem = ""
    for own in by_scheduler.values():
        scheduler = scheduler_of(next(iter(own.values())))
        if not scheduler.job_prefix and shutil.which("squeue") is None:
            unknown |= {path: f"there is no SLURM on this machine to ask about job {job}." for path, job in own.items()}
            continue
        try:
            states = scheduler.states(list(own.values()))
        except UserError as error:
            problem = str(error)
            unknown |= dict.fromkeys(own, problem)
            continue
        found |= {path: describe(states[job]) for path, job in own.items() if states[job].is_alive}
    return QueueAnswer(found, unknown, problem)


def describe(state: JobState) -> QueuedJob:
    """A job that waits or runs."""
    reason = "" if state.reason in ("", "None") or not state.is_waiting else state.reason
    return QueuedJob(state.job, state.is_waiting, reason, "" if state.is_waiting else state.nodes)
