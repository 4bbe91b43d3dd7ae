"""Notices: small files in which each task of a job records its signals and its exit code.

`launch.requeue` reads them when the job has ended, to decide whether to requeue it. This module imports little, because
a signal may come at any moment, even while Python still imports other modules.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Collection, Mapping
from pathlib import Path

from signs_dist.environment.slurm_job import read_job_attempt
from signs_dist.errors import EXIT_OK, EXIT_PEER_LOST, EXIT_STOPPED, UserError

NOTICES = Path("submit") / "notices"
"""In the run folder. Before training there is no other record of a signal, and srun reports only the highest exit code
of its tasks."""
CODE = "code"
"""In the name of a notice, the word before an exit code."""
EXIT_TERMINATED = 128 + signal.SIGTERM
"""Exit code of a task that srun has ended because another task had ended."""
NOT_ITS_OWN = frozenset({EXIT_OK, EXIT_PEER_LOST, EXIT_STOPPED, EXIT_TERMINATED})
"""Exit codes of a task that did not fail by itself: it is finished, lost another process, or was stopped."""


def leave_notice(run_path: Path, environment: Mapping[str, str], rank: int, what: str) -> None:
    """Write a notice: `what` is a signal's name, or an exit code such as `code2`."""
    folder = run_path / NOTICES
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{read_job_attempt(environment).mark}.{rank}.{what}").touch()


def note_signal(run_path: Path, rank: int, number: int) -> None:
    """Record that a task got a signal; without effect where the folder cannot be written to."""
    with contextlib.suppress(OSError, UserError):
        leave_notice(run_path, os.environ, rank, signal.Signals(number).name)


def note_code(run_path: Path, rank: int, code: int) -> None:
    """Record the exit code of a task; without effect where the folder cannot be written to."""
    with contextlib.suppress(OSError, UserError):
        leave_notice(run_path, os.environ, rank, f"{CODE}{code}")


def read_notices(run_path: Path, mark: str) -> list[tuple[int, str]]:
    """(rank, what) of each notice of an attempt; `mark` is `JobAttempt.mark`."""
    found = []
    for path in (run_path / NOTICES).glob(f"{mark}.*"):
        rank, _, what = path.name.removeprefix(f"{mark}.").partition(".")
        if rank.isdigit() and what:
            found.append((int(rank), what))
    return sorted(found)


def own_failures(notices: Collection[tuple[int, str]]) -> list[tuple[int, int]]:
    """(rank, exit code) of each task that failed by itself."""
    codes = [(rank, int(what.removeprefix(CODE))) for rank, what in notices if what.startswith(CODE)]
    return [(rank, code) for rank, code in codes if code not in NOT_ITS_OWN]


def last_attempt(run_path: Path, job: str) -> str:
    """The mark of the last attempt of a job that has a notice; of its first attempt if none has."""
    names = [path.name.removeprefix(f"{job}.") for path in (run_path / NOTICES).glob(f"{job}.*")]
    counts = [int(name.partition(".")[0]) for name in names if name.partition(".")[0].isdigit()]
    return f"{job}.{max(counts, default=0)}"
