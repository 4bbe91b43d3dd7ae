"""What the page about a sweep says beside its runs: its trials, as `sweep --show` has them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from signs_dist.reporting.cells import Cell, Column, TableRow, number_cell
from signs_dist.results.sweeps import TRIALS, SweepRun, SweepSummary, SweepTrial, is_sweep, summarise_sweep
from signs_dist.searching.wording import count_states, describe_search, table_of_trials


@dataclasses.dataclass(frozen=True)
class SweepView:
    """The trials of a sweep.

    Attributes:
        title: of the page.
        search: what is searched, in words.
        measure: by which trials are compared.
        states: the states of the trials, and how many have each.
        header: the columns after the first, which numbers the trials.
        trials: the finished ones first, the best of them at the top.
    """

    title: str
    search: str
    measure: str
    states: list[tuple[str, int]]
    header: list[Column]
    trials: list[TableRow]


@dataclasses.dataclass(frozen=True)
class NamedRun:
    """A run as its sweep knows it.

    Attributes:
        parts: the parts of the sweep's path, and the name of the run: its trial and its seed.
        state_and_why: its state, and the reason.
        value: its best value of the sweep's measure over its epochs; None without one.
    """

    parts: tuple[str, ...]
    state_and_why: tuple[str, str]
    value: float | None


def view_sweep(sweep: SweepSummary) -> SweepView:
    """The trials, ready for the template. The texts are those of `sweep --show`."""
    titles, *rows = table_of_trials(sweep)
    by_measure = "ascending" if sweep.is_less_better else "descending"
    numbers = {"test": "descending", "runs": "descending", sweep.measure: by_measure}
    columns = [Column(title, title in numbers, numbers.get(title, "ascending")) for title in titles[1:]]
    return SweepView(
        title=f"Sweep {sweep.path.resolve().name}",
        search=describe_search(sweep),
        measure=sweep.measure,
        states=[(state, count) for state, count in count_states(sweep)],
        header=columns,
        trials=[
            TableRow(
                f"trial {trial.number}",
                trial.state.replace(" ", "-"),
                [_cell(sweep, trial, column.name, text) for column, text in zip(columns, row[1:], strict=True)],
            )
            for trial, row in zip(sweep.ranked, rows, strict=True)
        ],
    )


def _cell(sweep: SweepSummary, trial: SweepTrial, title: str, text: str) -> Cell:
    if title == sweep.measure:
        return number_cell(text, trial.mean if trial.mean is not None else trial.best_so_far)
    if title == "test":
        return number_cell(text, trial.test_accuracy)
    if title == "runs":
        return number_cell(text, trial.num_finished)
    return Cell(text, text, is_number=False)


def run_folders(sweep: SweepSummary) -> list[Path]:
    """The run folders that have begun, those of the best trial first."""
    paths = [run.summary.path for trial in sweep.ranked for run in trial.runs]
    return [path for path in dict.fromkeys(paths) if (path / "config.yaml").exists()]


def find_sweeps(paths: Sequence[Path]) -> list[SweepSummary]:
    """The sweeps to which some of the run folders belong."""
    folders = [path.resolve().parent for path in paths]
    found = dict.fromkeys(folder.parent for folder in folders if folder.name == TRIALS)
    return [summarise_sweep(folder) for folder in found if is_sweep(folder)]


def name_runs(sweep: SweepSummary) -> dict[Path, NamedRun]:
    """Run folder, resolved → what the sweep calls the run, and what it knows of its end."""
    parts = sweep.path.resolve().parts
    return {
        run.summary.path.resolve(): NamedRun((*parts, _name(trial, run)), _state_and_why(trial, run), run.value)
        for trial in sweep.trials
        for run in trial.runs
    }


def _name(trial: SweepTrial, run: SweepRun) -> str:
    return f"trial {trial.number}" + ("" if run.seed is None else f", seed {run.seed}")


def _state_and_why(trial: SweepTrial, run: SweepRun) -> tuple[str, str]:
    if trial.state == "pruned" and run.state != "finished":
        return "pruned", trial.why
    return run.state, run.why
