"""What a scheduler says about the jobs of runs, joined with what their folders say."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from signs_dist.results.summary import RunSummary
from signs_dist.run_folder.folder import RunFolder

JOBS = Path("submit", "jobs.jsonl")
"""The file in a run folder that names its jobs; `launch/jobs.py` writes it."""
QUEUE = "launch.queue"
"""The module that asks the schedulers. It is imported by name: its room comes after this one."""


@dataclasses.dataclass(frozen=True)
class QueuedJob:
    """The newest job of a run, if it waits or runs.

    Attributes:
        job: its id.
        is_waiting: whether it is in the queue; else it runs, or ends just now.
        reason: why it waits, in the scheduler's words; "" if it runs.
        where: its nodes; "" if it waits.
    """

    job: str
    is_waiting: bool
    reason: str = ""
    where: str = ""


@dataclasses.dataclass(frozen=True)
class QueueAnswer:
    """What is known about the jobs of several runs.

    Attributes:
        jobs: run folder → its job, for each run with a job that waits or runs.
        unknown: run folder → why it is not known whether a job of it waits or runs, for people.
        problem: why a scheduler that this machine has did not answer; else "".
    """

    jobs: Mapping[Path, QueuedJob] = dataclasses.field(default_factory=dict)
    unknown: Mapping[Path, str] = dataclasses.field(default_factory=dict)
    problem: str = ""


def may_have_job(summary: RunSummary) -> bool:
    """Whether a job that was submitted for a run may still wait or run."""
    jobs = summary.path / JOBS
    try:
        # A finished run may have a newer job that is to train it further.
        return summary.state != "finished" or jobs.stat().st_mtime > RunFolder(summary.path).result.stat().st_mtime
    except OSError:
        return False


def ask_queue(summaries: Sequence[RunSummary]) -> QueueAnswer:
    """Ask the schedulers once about all runs for which a job was submitted; nothing is asked without such a run."""
    paths = [each.path for each in summaries if (each.path / JOBS).is_file() and may_have_job(each)]
    if not paths:
        return QueueAnswer()
    from signs_dist.environment.installation import add_checkout_to_path, full_name

    add_checkout_to_path()
    ask: Callable[[Sequence[Path]], QueueAnswer] = importlib.import_module(full_name(QUEUE)).ask_queue
    return ask(paths)


def with_queue(summary: RunSummary, answer: QueueAnswer) -> RunSummary:
    """The summary of a run whose job waits or runs, in the state that follows; any other summary as it is."""
    queued = answer.jobs.get(summary.path)
    if queued is None or summary.state == "running":
        return summary
    if queued.is_waiting:
        return dataclasses.replace(summary, state="waiting", why=queued.reason, where="", job=queued.job)
    return dataclasses.replace(summary, state="running", why="", where=queued.where or summary.where, job=queued.job)
