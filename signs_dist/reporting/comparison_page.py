"""What the page about several runs says, ready for the template."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from signs_dist.console.screen import duration, percent
from signs_dist.reporting.cells import Cell, Column, TableRow, number_cell
from signs_dist.reporting.charts import Series
from signs_dist.reporting.comparison import (
    Group,
    Importance,
    PairedTest,
    Run,
    group_runs,
    importance,
    paired_tests,
    plain,
    short_names,
)
from signs_dist.reporting.comparison_charts import MOST_CURVES, run_curves, settings_figure
from signs_dist.reporting.measure import Measure
from signs_dist.reporting.run_charts import Figure
from signs_dist.reporting.sweep_view import NamedRun, SweepView, find_sweeps, name_runs, view_sweep
from signs_dist.results.differences import differing_settings
from signs_dist.results.summary import summarise_run
from signs_dist.results.sweeps import SweepSummary, best_value
from signs_dist.run_folder.folder import RunFolder
from signs_dist.run_folder.records import EpochLine, of_kind

NUM_BEST = 10
"""Choices of settings in the table of the best."""


@dataclasses.dataclass(frozen=True)
class GroupRow:
    """Runs that differ in nothing but their seeds."""

    name: str
    num_finished: int
    num_runs: int
    mean: str
    sd: str
    seeds: str
    unfinished: str


@dataclasses.dataclass(frozen=True)
class TestRow:
    """A paired test against the best choice of settings."""

    name: str
    seeds: str
    difference: str
    interval: str
    p_value: str


# Many members: one for each section of the page.
@dataclasses.dataclass(frozen=True, kw_only=True)
class ComparisonPage:
    """The page, section by section."""

    title: str
    sweep: SweepView | None
    measure: Measure
    states: list[tuple[str, int]]
    is_synthetic: bool
    several_data: list[str]
    header: list[Column]
    runs: list[TableRow]
    differing: list[tuple[str, list[str]]]
    legend: list[Series]
    curves_note: str
    figures: list[Figure]
    groups: list[GroupRow]
    num_groups: int
    best_name: str
    tests: list[TestRow]
    parallel: Figure | None
    importance: list[tuple[str, str, float, int]]


def view_runs(paths: Sequence[Path], sweep: SweepSummary | None = None) -> ComparisonPage:
    """The page about several runs.

    Args:
        paths: the run folders.
        sweep: whose runs they are; None for runs that were begun one by one.

    Raises:
        UserError: a path is no run folder.
    """
    measure = Measure(sweep.measure) if sweep is not None else Measure()
    folders = [RunFolder.open(path) for path in paths]
    runs = _read_runs(folders, [sweep] if sweep is not None else find_sweeps(paths), measure)
    differing = differing_settings([run.summary.settings for run in runs])
    groups = group_runs(runs, is_less_better=measure.is_less_better)
    shares = importance(groups)
    best = sorted(runs, key=lambda run: -measure.goodness(run.value))[:MOST_CURVES]
    drawn = [run for run in runs if run in best]
    epochs = {
        run.key: of_kind(folder.read_metrics(), EpochLine)
        for run, folder in zip(runs, folders, strict=True)
        if run in best
    }
    figures = run_curves(drawn, epochs)
    with_line = {line.key for figure in figures for line in figure.series}
    header, rows = _table(runs, differing, measure, has_trials=sweep is not None)
    states = [run.state for run in runs]
    counted = [(state, states.count(state)) for state in dict.fromkeys(states)]
    trials = view_sweep(sweep) if sweep is not None else None
    data = sorted({run.summary.data for run in runs if run.summary.data})
    return ComparisonPage(
        title=trials.title if trials else f"{len(runs):,} runs" if len(runs) != 1 else "1 run",
        sweep=trials,
        measure=measure,
        states=trials.states if trials else counted,
        is_synthetic="synthetic" in data,
        several_data=data if len(data) > 1 else [],
        header=header,
        runs=rows,
        differing=[(key, [plain(value) for value in values]) for key, values in differing.items()],
        legend=[Series(run.key, run.name, [], style) for style, run in enumerate(drawn) if run.key in with_line],
        curves_note="" if len(drawn) == len(runs) else f"The curves of the {len(drawn)} best of {len(runs):,} runs.",
        figures=figures,
        groups=[_group_row(group, measure) for group in groups[:NUM_BEST]],
        num_groups=len(groups),
        best_name=groups[0].name if groups else "",
        tests=[_test_row(test, measure) for test in paired_tests(groups)],
        parallel=settings_figure(groups, [each.setting for each in shares], measure),
        importance=[_importance_row(each) for each in shares] if any(each.share is not None for each in shares) else [],
    )


def _read_runs(folders: Sequence[RunFolder], sweeps: Sequence[SweepSummary], measure: Measure) -> list[Run]:
    """The runs. One of a sweep has the name, the state and the reason that the sweep knows."""
    told: dict[Path, NamedRun] = {}
    for sweep in sweeps:
        told |= name_runs(sweep)
    named = [told.get(folder.path.resolve()) for folder in folders]
    names = short_names(
        [
            folder.path.resolve().parts if each is None else each.parts
            for folder, each in zip(folders, named, strict=True)
        ]
    )
    return [
        Run(
            f"r{place}",
            name,
            summarise_run(folder.path),
            None if each is None else each.state_and_why,
            best_value(folder, measure.name),
        )
        for place, (folder, name, each) in enumerate(zip(folders, names, named, strict=True))
    ]


def _table(
    runs: Sequence[Run], differing: Mapping[str, Sequence[Any]], measure: Measure, *, has_trials: bool
) -> tuple[list[Column], list[TableRow]]:
    """The columns that have a value in some run, and a row for each run."""
    columns = [
        Column("state", False),
        Column(measure.label, True, "ascending" if measure.is_less_better else "descending"),
        Column("val accuracy", True, "descending"),
        Column("val loss", True),
        Column("test accuracy", True, "descending"),
        *(Column(key, False) for key in differing),
        Column("best epoch", True),
        Column("epochs", True, "descending"),
        Column("training time", True),
        Column("images/s", True, "descending"),
        Column("processes", True),
        Column("attempts", True, "descending"),
    ]
    rows = [
        [
            _state_cell(run, has_trials=has_trials),
            number_cell("" if run.value is None else measure.text(run.value), run.value),
            *_result_cells(run),
            *(_setting(values[place]) for values in differing.values()),
            *_work_cells(run),
        ]
        for place, run in enumerate(runs)
    ]
    used = [place for place in range(len(columns)) if any(row[place].text for row in rows)]
    return [columns[place] for place in used], [
        TableRow(run.name, run.state.replace(" ", "-"), [row[place] for place in used])
        for run, row in zip(runs, rows, strict=True)
    ]


def _state_cell(run: Run, *, has_trials: bool) -> Cell:
    # Beside a table of trials, the reasons stand in it.
    state = run.state + (f": {run.why}" if run.why and not (has_trials and run.told is not None) else "")
    return Cell(state, state, is_number=False)


def _result_cells(run: Run) -> list[Cell]:
    summary = run.summary
    interval = summary.result.get("val_accuracy_interval")
    accuracy = "" if run.accuracy is None else percent(run.accuracy)
    if interval and accuracy:
        accuracy += f" ({100 * interval[0]:.1f} to {100 * interval[1]:.1f})"
    return [
        number_cell(accuracy, run.accuracy),
        number_cell("" if run.loss is None else f"{run.loss:.4f}", run.loss),
        number_cell("" if summary.test_accuracy is None else percent(summary.test_accuracy), summary.test_accuracy),
    ]


def _work_cells(run: Run) -> list[Cell]:
    summary, result = run.summary, run.summary.result
    best = result.get("best_epoch", summary.best_epoch)
    of = f" of {summary.num_epochs}" if summary.num_epochs else ""
    seconds, rate = result.get("train_seconds"), result.get("images_per_second", summary.images_per_second)
    size = result.get("world_size")
    return [
        number_cell("" if best is None else str(best), best),
        number_cell(f"{summary.epoch}{of}", summary.epoch),
        number_cell("" if seconds is None else duration(seconds), seconds),
        number_cell("" if rate is None else f"{rate:,.0f}", rate),
        number_cell("" if size is None else str(size), size),
        number_cell(str(summary.num_attempts), summary.num_attempts),
    ]


def _setting(value: Any) -> Cell:
    return Cell("" if value is None else plain(value), "" if value is None else plain(value), is_number=False)


def _group_row(group: Group, measure: Measure) -> GroupRow:
    mean, sd = group.score or (None, None)
    others = [f"{run.name} {run.state}" for run in group.runs if run not in group.finished]
    return GroupRow(
        name=group.name,
        num_finished=len(group.finished),
        num_runs=len(group.runs),
        mean="" if mean is None else measure.text(mean),
        sd="" if sd is None else measure.spread_text(sd),
        seeds=", ".join(map(plain, sorted((run.seed for run in group.runs), key=str))),
        unfinished=", ".join(others),
    )


def _test_row(test: PairedTest, measure: Measure) -> TestRow:
    found, told = test.difference, measure.difference_text
    return TestRow(
        name=test.group.name,
        seeds=", ".join(map(plain, sorted(test.seeds, key=str))),
        difference=told(found.mean),
        interval="" if found.low is None or found.high is None else f"{told(found.low)} to {told(found.high)}",
        p_value="" if found.p_value is None else "below 0.001" if found.p_value < 0.001 else f"{found.p_value:.3f}",
    )


def _importance_row(each: Importance) -> tuple[str, str, float, int]:
    """(setting, share in words, length of its bar in percent, number of values)."""
    share = each.share
    return each.setting, "–" if share is None else percent(share), round(100 * (share or 0.0), 1), each.num_values
