"""Schedulers, which run jobs: one file for each, all with the methods that `base.py` describes.

A file here imports from signs_dist, and of launch what a job asks for and does (cluster, request, check, job, jobs). To
add a scheduler: write its file, and add its row to `SCHEDULERS`.
"""

from __future__ import annotations

from collections.abc import Sequence

from .base import JobState, Scheduler
from .local import ThisMachine, ThisProcess
from .slurm import Slurm

SCHEDULERS: dict[str, Scheduler] = {
    "slurm": Slurm(),
    "local": ThisMachine(),
    "debug": ThisProcess(),
}
"""By `ClusterConfig.kind`, which --cluster takes as well."""


def scheduler_of(job: str) -> Scheduler:
    """The scheduler that a job's id belongs to: the one with the longest prefix that the id begins with."""
    fitting = [scheduler for scheduler in SCHEDULERS.values() if job.startswith(scheduler.job_prefix)]
    return max(fitting, key=lambda scheduler: len(scheduler.job_prefix))


def ask_state(job: str) -> JobState:
    """The state of a job. Raises `UserError` where its scheduler does not answer: whether it is alive is not known."""
    return scheduler_of(job).state(job)


def find_alive(jobs: Sequence[str]) -> set[str]:
    """Which of these jobs wait or run. Raises `UserError` where a scheduler does not answer."""
    return {job for scheduler, own in _by_scheduler(jobs) for job in scheduler.find_alive(own)}


def cancel(jobs: Sequence[str]) -> None:
    """Take jobs out of the queue, or end them. Raises `UserError` if a scheduler refuses."""
    for scheduler, own in _by_scheduler(jobs):
        scheduler.cancel(own)


def _by_scheduler(jobs: Sequence[str]) -> list[tuple[Scheduler, list[str]]]:
    """Each scheduler with its own of these jobs."""
    groups: dict[str, list[str]] = {}
    for job in jobs:
        groups.setdefault(scheduler_of(job).job_prefix, []).append(job)
    return [(scheduler_of(own[0]), own) for own in groups.values()]
