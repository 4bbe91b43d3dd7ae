"""The log files of a job's ranks, one for each attempt and rank: their names, and finding them.

Imports little: each task writes such a file in its first moments.
"""

from __future__ import annotations

import re
from pathlib import Path

LOGS = "logs"
"""Folder in a run folder."""


def log_stem(mark: str) -> str:
    """How the name of a log begins: `job7.0` for the mark `7.0`, since a number alone tells nothing; else the mark.

    Args:
        mark: a job's id, or `JobAttempt.mark`.
    """
    return f"job{mark}" if mark[:1].isdigit() else mark


def rank_log(run_path: Path, mark: str, rank: int) -> Path:
    """The log of a rank in an attempt; `mark` is `JobAttempt.mark`."""
    return run_path / LOGS / f"{log_stem(mark)}.rank{rank}.txt"


def find_rank_logs(run_path: Path, job: str, rank: int) -> list[Path]:
    """The logs of a rank in every attempt of a job, the newest last."""
    found = (run_path / LOGS).glob(f"{log_stem(job)}.*.rank{rank}.txt")
    return sorted(found, key=lambda path: path.stat().st_mtime)


def known_ranks(run_path: Path, job: str) -> list[int]:
    """The ranks of a job that have a log."""
    names = (path.name for path in (run_path / LOGS).glob(f"{log_stem(job)}.*.rank*.txt"))
    found = (re.search(r"\.rank(\d+)\.txt$", name) for name in names)
    return sorted({int(each[1]) for each in found if each is not None})
