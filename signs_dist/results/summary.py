"""A run folder in short, as typed values: how far the run is, how good, and what became of it."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from signs_dist.environment.slurm_job import JobAttempt
from signs_dist.monitoring.beats import Beat, read_beats
from signs_dist.monitoring.failure_card import first_line, read_failures, summarise
from signs_dist.monitoring.root_cause import find_root_cause
from signs_dist.results.liveness import FileClock, is_held
from signs_dist.results.result_values import is_number, usable_values
from signs_dist.results.run_settings import read_raw_settings, read_settings
from signs_dist.run_folder.folder import RunFolder
from signs_dist.run_folder.lines import parse, read_raw_lines
from signs_dist.run_folder.records import AttemptLine, EndLine, EpochLine, StartLine, StepLine, of_kind, parse_line

State = Literal[
    "running",
    "waiting",
    "stopped",
    "pruned",
    "failed",
    "finished",
    "not begun",
    "partly removed",
    "unreadable",
]
"""running: a process holds the folder, or its SLURM job runs. waiting: its SLURM job has not begun. stopped: it ended
by a signal before the run was finished. failed: it ended by an error, or was killed. not begun: nothing was trained.
partly removed: an interrupted `runs rm` left it. unreadable: the folder, or one of its files, cannot be read.
pruned: its sweep stopped its trial early, because it was hopeless; `results.sweep_runs` tells that, no run does."""
TAKEOVER_SECONDS = 30.0
"""`checkpoint.takeover_seconds` of a run whose config cannot be read: the setting's default."""
FRESH_SECONDS = 30.0
"""An older heartbeat says nothing about the time that is left."""
BEST_BY = {"accuracy": ("val_accuracy", 1), "loss": ("val_loss", -1), "macro_f1": ("val_macro_f1", 1)}
"""`evaluate.best_by` → (the number of an epoch's line that it compares, 1 where a larger number is better, else -1)."""
_STOPPED = ("stopped by ", "interrupted", "StoppedError:", "StoppedBySignal:", "KeyboardInterrupt:")


# Many members: one for each fact that tables, reports and searches show of a run.
@dataclasses.dataclass(frozen=True, kw_only=True)
class RunSummary:
    """One run.

    Attributes:
        path: the run folder.
        state: what the run does now.
        why: the reason of the last attempt's end, for a run that stopped or failed; for a run that waits, why it waits;
            for a finished run that `train.patience` ended, that it ended early; else "".
        epoch: of the last line of metrics.jsonl, from 1; 0 before the first line.
        num_epochs: `train.epochs`; None if config.yaml cannot be read.
        step: number of steps since the start of the run.
        best_epoch: the best epoch so far by `evaluate.best_by`, from 1; None before the first validation.
        val_accuracy: of that epoch, 0..1.
        val_loss: of that epoch.
        test_accuracy: of the finished run; None without a test split.
        images_per_second: of the last line.
        seconds_left: of a running run, at the speed of the last line; None where it is not known.
        num_attempts: how many attempts have started.
        where: the host of the last attempt; "" before the first.
        job: id of the SLURM job of the last attempt; "" without one.
        started: when the first attempt started, in UTC as ISO 8601; "" before.
        is_exact: whether the run is in exact mode.
        tried: of a run of a sweep, what its trial has chosen, and the seed; "" outside of a sweep, and until
            `results.sweep_runs` has asked the sweep.
        data: the name of the data set, from the result; "" without one.
        settings: every setting by its dotted key, as `train.epochs`; empty if it cannot be read.
        result: result.json of a finished run, without values of a wrong type; else empty.
    """

    path: Path
    state: State
    why: str = ""
    epoch: int = 0
    num_epochs: int | None = None
    step: int = 0
    best_epoch: int | None = None
    val_accuracy: float | None = None
    val_loss: float | None = None
    test_accuracy: float | None = None
    images_per_second: float | None = None
    seconds_left: float | None = None
    num_attempts: int = 0
    where: str = ""
    job: str = ""
    started: str = ""
    is_exact: bool = False
    tried: str = ""
    data: str = ""
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    result: dict[str, Any] = dataclasses.field(default_factory=dict)


def summarise_run(
    path: Path, *, quick: bool = False, clock: FileClock | None = None, is_ended: bool = False
) -> RunSummary:
    """The summary of a run folder; whatever is missing or torn leaves its field at the default.

    Args:
        path: the run folder.
        quick: leave `settings` empty, which takes most of the time, for a list of hundreds of runs.
        clock: of the file system, for runs on other machines; None: it is read if it is needed.
        is_ended: whether the last attempt has ended although its process still holds the folder: that process asks.

    Raises:
        UserError: metrics.jsonl or attempts.jsonl is a folder, a pipe or a device, or cannot be read.
    """
    folder = RunFolder(path)
    raw = read_raw_settings(folder.config)
    result, attempts = usable_values(folder.read_result() or {}), folder.read_attempts()
    last, last_epoch, best = _read_progress(folder.metrics, _best_by(raw))
    starts = of_kind(attempts, StartLine)
    job = JobAttempt.from_mark(starts[-1].job or "") if starts else None
    may_run = not is_ended and not result
    is_running = may_run and is_held(path, _number(raw, "checkpoint", "takeover_seconds"), clock)
    state, why = _judge(folder, result, attempts, is_running=is_running)
    num_epochs = _whole(raw.get("train"), "epochs")
    return RunSummary(
        path=path,
        state=state,
        why=why,
        epoch=last.epoch if last else 0,
        num_epochs=num_epochs,
        step=last.step if last else 0,
        best_epoch=best.epoch if best else None,
        val_accuracy=best.val_accuracy if best else None,
        val_loss=best.val_loss if best else None,
        test_accuracy=_finite(result.get("test_accuracy")),
        images_per_second=last.images_per_second if last else None,
        seconds_left=_find_seconds_left(folder, last, last_epoch, num_epochs) if state == "running" else None,
        num_attempts=len(starts),
        where=starts[-1].host if starts else "",
        job=job.job if job else "",
        started=starts[0].time if starts else "",
        is_exact=raw.get("exact") is True,
        data=str(result.get("data", "")),
        settings={} if quick else read_settings(raw),
        result=result,
    )


def takeover_seconds(path: Path) -> float:
    """`checkpoint.takeover_seconds` of a run folder."""
    return _number(read_raw_settings(RunFolder(path).config), "checkpoint", "takeover_seconds")


def _judge(
    folder: RunFolder, result: Mapping[str, Any], attempts: list[AttemptLine], *, is_running: bool
) -> tuple[State, str]:
    """The state of a run, and why it ended before it was finished."""
    if result:
        return "finished", "ended early" if result.get("stopped_early") is True else ""
    if is_running:
        return "running", ""
    starts, ends = of_kind(attempts, StartLine), of_kind(attempts, EndLine)
    if not starts:
        return "not begun", ""
    if ends and ends[-1].attempt == starts[-1].attempt:
        reason = first_line(ends[-1].reason)
        if reason.startswith(("SIG", *_STOPPED)):
            return "stopped", re.sub(r"^\w+Error: ", "", reason)
        card = find_root_cause(read_failures(folder.logs))
        return "failed", summarise(card) if card is not None else reason
    card = find_root_cause(read_failures(folder.logs))
    return "failed", summarise(card) if card is not None else "killed"


def _read_progress(metrics: Path, best_by: str) -> tuple[StepLine | None, EpochLine | None, EpochLine | None]:
    """The last line on a step, the last line on an epoch, and the line on the best epoch, of equal ones the first.

    Only these lines are parsed as JSON: a long run has tens of thousands.
    """
    lines = [line for _, line in read_raw_lines(metrics)]
    last: StepLine | None = None
    last_epoch: EpochLine | None = None
    for line in reversed(lines):
        record = parse_line(parse(line) or {}, (StepLine, EpochLine))
        last = last or record
        if isinstance(record, EpochLine):
            last_epoch = record
            break
    name, sign = BEST_BY[best_by]
    pattern = re.compile(rb'"%s": ?([-+.0-9eE]+)' % name.encode())
    scored = [(value, number) for number, line in enumerate(lines) if (value := _find(pattern, line)) is not None]
    for _, number in sorted(scored, key=lambda each: (-sign * each[0], each[1])):
        if (best := parse_line(parse(lines[number]) or {}, (EpochLine,))) is not None:
            return last, last_epoch, best
    return last, last_epoch, None


def _find(pattern: re.Pattern[bytes], line: bytes) -> float | None:
    found = pattern.search(line)
    with contextlib.suppress(ValueError):
        return float(found[1]) if found else None
    return None


def _best_by(raw: Mapping[str, Any]) -> str:
    section = raw.get("evaluate")
    value = section.get("best_by") if isinstance(section, Mapping) else None
    return value if isinstance(value, str) and value in BEST_BY else "accuracy"


def _find_seconds_left(
    folder: RunFolder, last: StepLine | None, last_epoch: EpochLine | None, num_epochs: int | None
) -> float | None:
    """Seconds until the last step, at the speed of the last line; None where speed or length are not known yet."""
    if last is None or not last.images_per_second or not last.step:
        return None
    done, total = last.step, 0.0
    if last_epoch is not None and num_epochs is not None and last_epoch.epoch:
        total = last_epoch.step / last_epoch.epoch * num_epochs
    work = _training_work(read_beats(folder.logs).get(0))
    if work is not None:
        done, total = max(done, work[0]), work[1]
    seconds_per_step = last.images / last.step / last.images_per_second
    return max(0.0, total - done) * seconds_per_step if total else None


def _training_work(beat: Beat | None) -> tuple[int, int] | None:
    """(steps done, all steps) by the heartbeat of rank 0."""
    if beat is None or beat.work is None or beat.work.what != "training" or beat.work.total <= 0:
        return None
    return beat.work.done, beat.work.total


def _whole(section: Any, name: str) -> int | None:
    value = section.get(name) if isinstance(section, Mapping) else None
    return value if type(value) is int else None


def _number(raw: Mapping[str, Any], section: str, name: str) -> float:
    values = raw.get(section)
    value = _finite(values.get(name)) if isinstance(values, Mapping) else None
    return TAKEOVER_SECONDS if value is None else value


def _finite(value: Any) -> float | None:
    """A number as a float; None for anything else, and for NaN and infinity."""
    return float(value) if is_number(value) else None
