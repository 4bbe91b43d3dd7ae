"""How far runs and arrays are, in words and tables."""

from __future__ import annotations

import itertools
import shutil
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from signs_dist.console.screen import columns, percent
from signs_dist.errors import UserError
from signs_dist.monitoring.failure_card import read_failures
from signs_dist.monitoring.root_cause import find_root_cause
from signs_dist.run_folder.folder import RunFolder
from signs_dist.run_folder.records import AttemptLine, EndLine, EpochLine, StartLine, StepLine, of_kind

from .jobs import is_finished, jobs_of
from .logs import explain_end, last_error
from .schedulers import ask_state
from .trials import Trial, read_trials

WIDTH = 80
"""Of a table where there is no terminal."""
STATE_WIDTH = 24
"""Of the column with the states: `not finished (failed)` fits."""
LEAST_WIDTH = 16


def describe_state(folder: RunFolder, job: str) -> str:
    """`finished` if the run has a result, whatever its job's state; else that state. Raises `UserError`."""
    if is_finished(folder.path, job):
        return "finished"
    state = ask_state(job)
    return state.describe() if state.is_alive else f"not finished ({state.describe()})"


def describe_progress(folder: RunFolder) -> str:
    """How far a run is, in a few words; "" before its first step."""
    lines = [line for line in folder.read_metrics() if isinstance(line, StepLine)]
    if not lines:
        return ""
    words = [f"epoch {lines[-1].epoch} step {lines[-1].step:,}"]
    accuracies = [line.val_accuracy for line in of_kind(lines, EpochLine) if line.val_accuracy is not None]
    if accuracies:
        words.append(f"best val {percent(max(accuracies))}")
    if (folder.read_result() or {}).get("stopped_early"):
        words.append("ended early")
    return ", ".join(words)


def describe_submitted_run(run_path: Path, jobs: Sequence[str]) -> str:
    """One run in full: its jobs, its attempts, and if it ended before it was finished, why."""
    folder = RunFolder(run_path)
    lines = [f"{run_path}: {describe_state(folder, jobs[-1])}; job {', '.join(jobs)}"]
    if progress := describe_progress(folder):
        lines.append(progress)
    lines += [_describe_event(line) for line in folder.read_attempts()]
    if not is_finished(run_path, jobs[-1]) and not ask_state(jobs[-1]).is_alive:
        lines += ["", explain_end(run_path, jobs[-1])]
    return "\n".join(lines)


def _describe_event(line: AttemptLine) -> str:
    """A line of attempts.jsonl, for people."""
    if isinstance(line, StartLine):
        processes = f"{line.world_size} process{'' if line.world_size == 1 else 'es'}"
        return f"  attempt {line.attempt}  {line.time}  {processes}, from step {line.first_step:,}"
    if isinstance(line, EndLine):
        lost = f", {line.seconds_lost:g} s lost" if line.seconds_lost else ""
        return f"             {line.time}  {line.reason}{lost}"
    return f"             {line.time}  requeued: {line.why}"


def describe_runs(paths: Sequence[Path]) -> str:
    """A table of runs and arrays; each has a job."""
    rows = [("run", "job", "state", "progress")]
    for path in paths:
        job = jobs_of(path)[-1]
        if trials := read_trials(path):
            done = sum(trial.is_finished for trial in trials)
            rows.append((str(path), job, f"array: {done} of {len(trials)} finished", ""))
            continue
        folder = RunFolder(path)
        try:
            state = describe_state(folder, job)
        except UserError:
            state = "not known: SLURM does not answer"
        rows.append((str(path), job, state, describe_progress(folder)))
    return columns(rows)


def describe_array(folder: Path) -> str:
    """The table of an array's trials: state, accuracies, and why a trial is not finished. As wide as the terminal."""
    rows = [("trial", "state", "val", "test", "why not finished")]
    for trial in read_trials(folder):
        run, jobs = RunFolder(trial.path), jobs_of(trial.path)
        state = describe_state(run, jobs[-1]) if jobs else "not submitted"
        numbers = run.read_result() or {}
        why = "" if trial.is_finished else _explain_trial(trial, jobs)
        rows.append((" ".join(trial.settings), state, _accuracy(numbers, "val"), _accuracy(numbers, "test"), why))
    width = shutil.get_terminal_size((WIDTH, 24)).columns
    return f"{folder}\n{columns(wrap_rows(rows, width))}"


def wrap_rows(rows: Sequence[Sequence[str]], width: int) -> list[list[str]]:
    """Rows whose cells go on in further rows, so that `columns` makes no line of more than `width`.

    Args:
        rows: of a trial, its state, short cells, and a text: as many in each.
        width: in characters. The text has LEAST_WIDTH of it at least.
    """
    most = [max(len(row[number]) for row in rows) for number in range(len(rows[0]))]
    most[1] = min(most[1], STATE_WIDTH)
    others = sum(most[1:-1]) + 2 * (len(most) - 1)
    most[0] = max(min(most[0], width - others - LEAST_WIDTH), LEAST_WIDTH)
    most[-1] = max(width - others - most[0], LEAST_WIDTH)
    wrapped = []
    for row in rows:
        cells = [textwrap.wrap(cell, each) for cell, each in zip(row, (max(each, 1) for each in most), strict=True)]
        wrapped += [list(line) for line in itertools.zip_longest(*cells, fillvalue="")]
    return wrapped


def _explain_trial(trial: Trial, jobs: Sequence[str]) -> str:
    """Why a trial is not finished, in one line; "" if it is not known."""
    run = RunFolder(trial.path)
    card = find_root_cause(read_failures(run.logs))
    if card is not None:
        return card.error.split("\n")[0]
    if ends := of_kind(run.read_attempts(), EndLine):
        return ends[-1].reason
    return last_error(trial.path, jobs[-1]) if jobs else ""


def _accuracy(numbers: dict[str, Any], name: str) -> str:
    value = numbers.get(f"{name}_accuracy")
    return percent(value) if value is not None else ""
