"""Which runs are removed, and which must not be: decisions, without changing a file."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.filesize import decimal

from signs_dist.console.screen import percent
from signs_dist.environment.installation import spell
from signs_dist.monitoring.plain_text import one_line
from signs_dist.results.queued import QueueAnswer
from signs_dist.results.summary import RunSummary
from signs_dist.run_folder.removal import find_runs_within

CRITERIA = ("val_accuracy", "test_accuracy", "val_loss")
"""What `prune --by` takes: attributes of `RunSummary`."""
_SMALLER_IS_BETTER = ("val_loss",)


def is_alive(summary: RunSummary, answer: QueueAnswer) -> bool:
    """Whether a run runs or waits, or may: then nobody may remove it."""
    return summary.state in ("running", "waiting", "unreadable") or summary.path in answer.unknown


def sort_out(
    summaries: Sequence[RunSummary], answer: QueueAnswer
) -> tuple[list[RunSummary], list[RunSummary], list[RunSummary]]:
    """(runs that may not be removed, what removals have left, runs that have ended). Links are omitted."""
    own = [each for each in summaries if not each.path.is_symlink()]
    alive = [each for each in own if is_alive(each, answer) or find_runs_within(each.path)]
    ended = [each for each in own if each not in alive]
    left_over = [each for each in ended if each.state == "partly removed"]
    return alive, left_over, [each for each in ended if each not in left_over]


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


def removed_rows(summaries: Sequence[RunSummary], sizes: Sequence[int]) -> list[tuple[str, ...]]:
    """A table of the runs that are to be removed, its titles first; `tried` only with a run of a sweep.

    Args:
        summaries: of the runs.
        sizes: how many bytes the removal of each frees.
    """
    has_tried = any(summary.tried for summary in summaries)
    rows: list[tuple[str, ...]] = [("run", *(["tried"] if has_tried else []), "state", "val", "frees")]
    for summary, size in zip(summaries, sizes, strict=True):
        tried = [one_line(summary.tried)] if has_tried else []
        state = "link: its run stays" if summary.path.is_symlink() else summary.state
        val = percent(summary.val_accuracy) if summary.val_accuracy is not None else ""
        rows.append((one_line(str(summary.path)), *tried, state, val, decimal(size)))
    return rows
