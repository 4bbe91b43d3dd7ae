"""Which runs are removed, and which must not be: decisions, without touching a file."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from signs_dist.environment.installation import spell
from signs_dist.results.queued import QueueAnswer
from signs_dist.results.summary import RunSummary

CRITERIA = ("val_accuracy", "test_accuracy", "val_loss")
"""What `prune --by` takes: attributes of `RunSummary`."""
_SMALLER_IS_BETTER = ("val_loss",)


def is_alive(summary: RunSummary, answer: QueueAnswer) -> bool:
    """Whether a run runs or waits, or may: then nobody may remove it."""
    return summary.state in ("running", "waiting", "unreadable") or summary.path in answer.unknown


def choose_removed(summaries: Sequence[RunSummary], keep: int, by: str) -> list[RunSummary]:
    """All but the best runs.

    Args:
        summaries: runs that are not alive.
        keep: how many are kept. Of equal ones the one that started first is kept. A run without the number is worse
            than all that have it.
        by: one of `CRITERIA`.
    """

    def rank(summary: RunSummary) -> tuple[bool, float, str, str]:
        value: float | None = getattr(summary, by)
        signed = 0.0 if value is None else value if by in _SMALLER_IS_BETTER else -value
        return value is None, signed, summary.started, str(summary.path)

    return sorted(summaries, key=rank)[keep:]


def find_obstacle(summary: RunSummary, answer: QueueAnswer, nested: Sequence[Path]) -> str:
    """Why a run may not be removed, and what to type; "" if it may.

    Args:
        summary: the run, its state joined with what the scheduler said.
        answer: what the scheduler said.
        nested: run folders within its folder.
    """
    path = summary.path
    cancel = f"{spell('submit')} cancel {shlex.quote(str(path))}"
    if summary.state == "running":
        where = f" on {summary.where}" if summary.where else ""
        how = "Ctrl-C where it runs"
        if summary.job:
            how = cancel
        return f"{path} is running{where}. To stop it first: {how}"
    if summary.state == "waiting":
        return f"{path} waits as job {summary.job}. To cancel it first: {cancel}"
    if summary.state == "unreadable":
        return f"{path} cannot be read: {summary.why}"
    if path in answer.unknown:
        return (
            f"{path}: it is not known whether its job waits: {answer.unknown[path]} Type the command where SLURM "
            f"answers; or delete {path / 'submit' / 'jobs.jsonl'} if you know that the job is gone."
        )
    if nested:
        return f"{path} holds another run folder: {nested[0]}. Remove {nested[0].name} first, or move it."
    return ""
