"""What tasks of a job leave in the run folder for who decides on a requeue: signals that they got, and how they ended.

Imports little: a signal may come at any moment, also while something else is being imported.
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
"""In the run folder. Before training, nothing else tells that a task was signalled, and srun only tells the highest of
all exit codes."""
CODE = "code"
"""Before the exit code in such a file's name."""
EXIT_TERMINATED = 128 + signal.SIGTERM
"""Of a task that srun has ended because another had ended: after a signal these are the last that were still at it."""
FOR_ANOTHERS_SAKE = frozenset({EXIT_OK, EXIT_PEER_LOST, EXIT_STOPPED, EXIT_TERMINATED})
"""Exit codes of tasks that lost another, or were stopped."""


def leave_notice(run_path: Path, environment: Mapping[str, str], rank: int, what: str) -> None:
    """Note down what has come to a task: a signal's name, or its exit code as `code2`."""
    folder = run_path / NOTICES
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{read_job_attempt(environment).mark}.{rank}.{what}").touch()


def note_signal(run_path: Path, rank: int, number: int) -> None:
    """Note down that a task got a signal, if that can be."""
    with contextlib.suppress(OSError, UserError):
        leave_notice(run_path, os.environ, rank, signal.Signals(number).name)


def note_code(run_path: Path, rank: int, code: int) -> None:
    """Note down how a task has ended, if that can be."""
    with contextlib.suppress(OSError, UserError):
        leave_notice(run_path, os.environ, rank, f"{CODE}{code}")


def read_notices(run_path: Path, mark: str) -> list[tuple[int, str]]:
    """(rank, what) of all that the tasks of an attempt have left; `mark` is `JobAttempt.mark`."""
    found = []
    for path in (run_path / NOTICES).glob(f"{mark}.*"):
        rank, _, what = path.name.removeprefix(f"{mark}.").partition(".")
        if rank.isdigit() and what:
            found.append((int(rank), what))
    return sorted(found)


def own_failures(notices: Collection[tuple[int, str]]) -> list[tuple[int, int]]:
    """(rank, exit code) of the tasks that failed by themselves."""
    codes = [(rank, int(what.removeprefix(CODE))) for rank, what in notices if what.startswith(CODE)]
    return [(rank, code) for rank, code in codes if code not in FOR_ANOTHERS_SAKE]


def last_attempt(run_path: Path, job: str) -> str:
    """The mark of the last attempt of a job of which a task has left anything; that of its first without any."""
    names = [path.name.removeprefix(f"{job}.") for path in (run_path / NOTICES).glob(f"{job}.*")]
    counts = [int(name.partition(".")[0]) for name in names if name.partition(".")[0].isdigit()]
    return f"{job}.{max(counts, default=0)}"
