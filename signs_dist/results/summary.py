"""A run folder in short, as typed values: how far the run is, how good, and what became of it."""

from __future__ import annotations

import contextlib
import dataclasses
import platform
from pathlib import Path
from typing import Any, Literal

from signs_dist.config.reading import load_config
from signs_dist.config.section import flatten
from signs_dist.errors import UserError
from signs_dist.monitoring.failure_card import first_line, read_failures
from signs_dist.monitoring.root_cause import find_root_cause
from signs_dist.run_folder.folder import RunFolder
from signs_dist.run_folder.holder import Holder
from signs_dist.run_folder.lease import NAME as LEASE
from signs_dist.run_folder.records import AttemptLine, EndLine, EpochLine, SaveLine, StartLine, of_kind

State = Literal["running", "waiting", "stopped", "failed", "finished", "not begun"]
"""running: a process holds the folder. waiting: its SLURM job has not begun. stopped: it ended by a signal before the
run was finished. failed: it ended by an error, or was killed. not begun: nothing was trained."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunSummary:
    """One run.

    Attributes:
        path: the run folder.
        state: what the run does now.
        why: the reason of the last attempt's end, for a run that stopped or failed; else "".
        epoch: of the last line of metrics.jsonl, from 1; 0 before the first line.
        num_epochs: `train.epochs`; None if config.yaml cannot be read.
        step: number of steps since the start of the run.
        val_accuracy: the best so far, 0..1; None before the first validation.
        best_epoch: the epoch with `val_accuracy`, from 1.
        val_loss: at that epoch.
        test_accuracy: of the finished run; None without a test split.
        images_per_second: of the last line.
        num_attempts: how many attempts have started.
        where: the host of the last attempt; "" before the first.
        started: when the first attempt started, in UTC as ISO 8601; "" before.
        is_exact: whether the run is in exact mode.
        data: the name of the data set, from the manifest; "" without one.
        settings: every setting by its dotted key, as `train.epochs`; empty if it cannot be read.
        result: result.json of a finished run, else empty.
    """

    path: Path
    state: State
    why: str = ""
    epoch: int = 0
    num_epochs: int | None = None
    step: int = 0
    val_accuracy: float | None = None
    best_epoch: int | None = None
    val_loss: float | None = None
    test_accuracy: float | None = None
    images_per_second: float | None = None
    num_attempts: int = 0
    where: str = ""
    started: str = ""
    is_exact: bool = False
    data: str = ""
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    result: dict[str, Any] = dataclasses.field(default_factory=dict)


def summarise_run(path: Path, *, is_ended: bool = False) -> RunSummary:
    """The summary of a run folder; whatever is missing or torn leaves its field at the default.

    Args:
        path: the run folder.
        is_ended: whether the last attempt has ended although its process still holds the folder: that process asks.
    """
    folder = RunFolder(path)
    result, attempts = folder.read_result() or {}, folder.read_attempts()
    settings = _read_settings(folder)
    lines = [line for line in folder.read_metrics() if not isinstance(line, SaveLine)]
    last = lines[-1] if lines else None
    best = max(
        (line for line in of_kind(lines, EpochLine) if line.val_accuracy is not None),
        key=lambda line: (line.val_accuracy or 0.0, -line.epoch),
        default=None,
    )
    starts = of_kind(attempts, StartLine)
    state, why = _judge(folder, result, attempts, is_ended=is_ended)
    return RunSummary(
        path=path,
        state=state,
        why=why,
        epoch=last.epoch if last else 0,
        num_epochs=settings.get("train.epochs"),
        step=last.step if last else 0,
        val_accuracy=best.val_accuracy if best else None,
        best_epoch=best.epoch if best else None,
        val_loss=best.val_loss if best else None,
        test_accuracy=result.get("test_accuracy"),
        images_per_second=last.images_per_second if last else None,
        num_attempts=len(starts),
        where=starts[-1].host if starts else "",
        started=starts[0].time if starts else "",
        is_exact=settings.get("exact") is True,
        data=str(result.get("data", "")),
        settings=settings,
        result=result,
    )


def _judge(
    folder: RunFolder, result: dict[str, Any], attempts: list[AttemptLine], *, is_ended: bool
) -> tuple[State, str]:
    """The state of a run, and why it ended before it was finished."""
    if result:
        return "finished", ""
    if not is_ended and is_held(folder.path):
        return "running", ""
    starts, ends = of_kind(attempts, StartLine), of_kind(attempts, EndLine)
    if not starts:
        return "not begun", ""
    card = find_root_cause(read_failures(folder.logs))
    if card is not None:
        return "failed", first_line(card.error)
    if ends and ends[-1].attempt == starts[-1].attempt:
        is_stop = ends[-1].reason.startswith("SIG")
        return ("stopped" if is_stop else "failed"), ends[-1].reason
    return "failed", "killed"


def is_held(path: Path) -> bool:
    """Whether a process holds a run folder, as far as this machine can see: it runs here, or runs elsewhere."""
    host = platform.node()
    holder = Holder.read(path / LEASE)
    return holder is not None and not holder.is_gone(host)


def _read_settings(folder: RunFolder) -> dict[str, Any]:
    with contextlib.suppress(UserError):
        return dict(flatten(load_config(folder.config)))
    return {}
