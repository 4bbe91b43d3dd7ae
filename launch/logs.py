"""The logs of a job, and why it has ended."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from signs_dist.errors import UserError
from signs_dist.monitoring.failure_card import FailureCard, read_failures, render
from signs_dist.monitoring.root_cause import find_root_cause

from .jobs import CLOCK_SECONDS, SUBMIT, submission_time
from .notices import last_attempt, own_failures, read_notices
from .rank_logs import find_rank_logs, known_ranks
from .schedulers import ask_state, scheduler_of

TAIL_LINES = 40
END_LINES = 8


def job_logs(run_path: Path, job: str, rank: int = 0) -> list[Path]:
    """The files of a job: the scheduler's, and a rank's, one for each attempt, the newest last."""
    return [*scheduler_of(job).logs(run_path, job), *find_rank_logs(run_path, job, rank)]


def print_logs(run_path: Path, job: str, *, rank: int, is_all: bool) -> None:
    """Print the last lines of a rank's log of the last attempt; with `is_all` all lines of all attempts.

    Raises:
        UserError: the job has no such rank, or no log yet.
    """
    ranks = known_ranks(run_path, job)
    if ranks and rank not in ranks:
        raise UserError(f"--rank {rank}: job {job} has the ranks {', '.join(map(str, ranks))}.")
    paths = job_logs(run_path, job, rank)
    if not paths:
        raise UserError(f"job {job} has written no log yet: it is {ask_state(job).describe()}.")
    for path in paths if is_all else [*paths[:1], *paths[1:][-1:]]:
        print(f"──── {path}")
        print("\n".join(_last_lines(path, sys.maxsize if is_all else TAIL_LINES)))


def explain_end(run_path: Path, job: str) -> str:
    """Why a job has ended: its failure card, or without one, the last lines of its logs."""
    root = find_root_cause(cards_of(run_path, job))
    if root is not None:
        return render(root)
    # A task that failed before training has left no card: its own log tells why.
    ranks = [rank for rank, _ in own_failures(read_notices(run_path, last_attempt(run_path, job)))] or [0]
    said = [line for path in job_logs(run_path, job, ranks[0]) for line in _last_lines(path, END_LINES)]
    return "\n".join(said) or f"it has written nothing; its logs are in {run_path}/logs and {run_path}/{SUBMIT}"


def cards_of(run_path: Path, job: str) -> Sequence[FailureCard]:
    """The failure cards of a job's processes. Cards of an earlier job stay in the folder until the next one trains."""
    submitted = submission_time(run_path, job)
    cards = read_failures(run_path / "logs")
    return [card for card in cards if submitted is None or card.time > submitted - CLOCK_SECONDS]


def last_error(run_path: Path, job: str) -> str:
    """The newest line of a job's logs that begins with `error`, without that word; "" where there is none."""
    for path in reversed(job_logs(run_path, job)):
        for line in reversed(_last_lines(path, TAIL_LINES)):
            if found := re.match(r" ?error(?::|  ) ?(.*)", line):
                return found[1]
    return ""


def _last_lines(path: Path, most: int) -> list[str]:
    return path.read_text(errors="replace").rstrip("\n").split("\n")[-most:]
