"""The logs of a job, and why it has ended."""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from signs_dist.environment.installation import spell
from signs_dist.errors import UserError
from signs_dist.monitoring.failure_card import FailureCard, read_failures, render
from signs_dist.monitoring.root_cause import find_root_cause

from .jobs import SUBMIT, jobs_of, submission_time
from .notices import last_attempt, own_failures, read_notices
from .program import typed
from .rank_logs import find_rank_logs, known_ranks
from .schedulers import ask_state, scheduler_of
from .trials import Trial

CLOCK_SECONDS = 60.0
"""How much the clocks of machines may differ."""
TAIL_LINES = 40
END_LINES = 8
MOST_TRIALS_SHOWN = 10
"""Runs of an array whose logs are shown together."""


def job_logs(run_path: Path, job: str, rank: int = 0) -> list[Path]:
    """The files of a job: the scheduler's, and a rank's, one for each attempt, the newest last."""
    return [*scheduler_of(job).logs(run_path, job), *find_rank_logs(run_path, job, rank)]


def print_logs(run_path: Path, job: str, *, rank: int, is_all: bool, is_brief: bool = False) -> None:
    """Print the last lines of a rank's log of the last attempt; with `is_all` all lines of all attempts.

    With `is_brief` fewer lines, and without the scheduler's log if the rank has one.

    Raises:
        UserError: the job has no such rank, or no log yet.
    """
    ranks = known_ranks(run_path, job)
    if ranks and rank not in ranks:
        raise UserError(f"--rank {rank}: job {job} has the ranks {', '.join(map(str, ranks))}.")
    paths = job_logs(run_path, job, rank)
    if not paths:
        raise UserError(f"job {job} has written no log yet: it is {ask_state(job).describe()}.")
    newest = paths[-1:] if is_brief else [*paths[:1], *paths[1:][-1:]]
    num_lines = sys.maxsize if is_all else END_LINES if is_brief else TAIL_LINES
    for path in paths if is_all else newest:
        print(f"──── {path}")
        print("\n".join(_last_lines(path, num_lines)))


def print_array_logs(trials: Sequence[Trial], shown_path: str, *, rank: int, is_all: bool) -> None:
    """Print the last lines of each run of an array: of those that are not finished first, and of a few of many.

    Args:
        trials: of the array.
        shown_path: the array's folder, for people.
        rank: which process.
        is_all: every line of every attempt of every run.
    """
    shown, others = choose_trials(trials, is_all=is_all)
    has_log = []
    for trial in shown:
        print(f"════ {' '.join(trial.settings)}: {trial.path}")
        jobs = jobs_of(trial.path)
        if not jobs:
            print("not submitted")
            continue
        try:
            print_logs(trial.path, jobs[-1], rank=rank, is_all=is_all, is_brief=True)
            has_log.append(trial)
        except UserError as error:  # it waits, or has no such rank: the other runs have
            print(error)
    more = f"{len(others)} runs more. " if others else ""
    one = Path(shown_path) / (has_log or shown)[0].path.name
    print(f"\n{more}The log of one run: {spell('submit')} logs {typed(one)}")


def choose_trials(trials: Sequence[Trial], *, is_all: bool) -> tuple[list[Trial], list[Trial]]:
    """(the trials whose logs are shown, the others): all, or a few, those that are not finished before the others."""
    if is_all:
        return list(trials), []
    ordered = sorted(trials, key=lambda trial: trial.is_finished)
    return ordered[:MOST_TRIALS_SHOWN], ordered[MOST_TRIALS_SHOWN:]


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
    """The newest line of a job's logs that begins with `error`, without that word; "" where there is none.

    A failure card breaks a long error: its further lines begin with spaces.
    """
    for path in reversed(job_logs(run_path, job)):
        lines = _last_lines(path, TAIL_LINES)
        for number, line in reversed(list(enumerate(lines))):
            if found := re.match(r" ?error(?::|  ) ?(.*)", line):
                more = itertools.takewhile(lambda each: each.startswith(" " * 8), lines[number + 1 :])
                return " ".join([found[1], *(each.strip() for each in more)])
    return ""


def _last_lines(path: Path, most: int) -> list[str]:
    return path.read_text(errors="replace").rstrip("\n").split("\n")[-most:]
