"""The page about a sweep: its trials as `sweep --show` has them, and runs under the names of its trials."""

from __future__ import annotations

from pathlib import Path

import pytest

from signs_dist.reporting.cells import Cell
from signs_dist.reporting.comparison_page import view_runs
from signs_dist.reporting.sweep_view import SweepView, run_folders, view_sweep
from signs_dist.reporting.writing import write_sweep_report
from signs_dist.results.sweeps import SweepSummary, summarise_sweep
from signs_dist.searching.wording import table_of_trials
from tests.reporting.run_folders import write_run
from tests.results.test_sweeps import trial, write

LATE = "epoch 4: 0.25, the median of 3 other trials is 0.5"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four trials with two seeds: finished, better, pruned, and failed before a run folder began."""
    folder = tmp_path_factory.mktemp("sweep") / "lr"
    folder.mkdir()
    rates = {0: 0.1, 1: 0.3, 2: 1e-6, 3: 9.0}
    write(
        folder,
        *(trial(number, rate, f"{number}a", f"{number}b") for number, rate in rates.items()),
        {"event": "pruned", "trial": 2, "why": LATE},
        {"event": "ended", "trial": 3, "run": "3a", "state": "failed", "why": "no module named <b>"},
    )
    for number in (0, 1, 2):
        for seed, name in enumerate("ab"):
            is_pruned = number == 2
            write_run(
                folder / "trials" / f"{number}{name}",
                *(f"optim.lr={rates[number]}", f"seed={seed}"),
                accuracy=0.6 + 0.1 * number,
                is_finished=not is_pruned,
                end="stopped by SIGTERM" if is_pruned else "finished",
            )
    return folder


@pytest.fixture
def sweep(folder: Path) -> SweepSummary:
    return summarise_sweep(folder)


@pytest.fixture
def view(sweep: SweepSummary) -> SweepView:
    return view_sweep(sweep)


def test_the_trials_are_told_as_the_sweep_tells_them(sweep: SweepSummary, view: SweepView) -> None:
    assert view.title == "Sweep lr"
    assert view.states == [("finished", 2), ("failed", 1), ("pruned", 1)]
    assert [row.name for row in view.trials] == ["trial 1", "trial 0", "trial 2", "trial 3"]
    assert [[cell.text for cell in row.cells] for row in view.trials] == [row[1:] for row in table_of_trials(sweep)[1:]]
    why = [row.cells[-1] for row in view.trials]
    assert why[2:] == [Cell(LATE, LATE, is_number=False), Cell("no module named <b>", "no module named <b>", False)]


def test_the_trials_are_sorted_by_numbers(view: SweepView) -> None:
    place = [column.name for column in view.header].index("val_accuracy")
    assert view.header[place].first == "descending"
    values = [row.cells[place].value for row in view.trials]
    assert isinstance(values[0], float)
    assert isinstance(values[1], float)
    assert values[0] > values[1]
    assert values[3] == ""


def test_runs_have_the_names_and_the_states_of_their_trials(sweep: SweepSummary) -> None:
    page = view_runs(run_folders(sweep), sweep)
    assert [(row.name, row.state, row.cells[0].text) for row in page.runs] == [
        ("trial 1, seed 0", "finished", "finished"),
        ("trial 1, seed 1", "finished", "finished"),
        ("trial 0, seed 0", "finished", "finished"),
        ("trial 0, seed 1", "finished", "finished"),
        ("trial 2, seed 0", "pruned", "pruned"),
        ("trial 2, seed 1", "pruned", "pruned"),
    ]


def test_the_best_choice_is_the_best_trial_by_the_same_numbers(sweep: SweepSummary) -> None:
    for name in ("val_accuracy", "val_loss"):
        by_name = summarise_sweep(sweep.path, name)
        page = view_runs(run_folders(by_name), by_name)
        best, first = by_name.best, page.groups[0]
        assert best is not None
        assert best.mean is not None
        assert first.name == f"optim.lr={best.chosen['optim.lr']:g}"
        assert first.mean == page.measure.text(best.mean)
        assert page.header[1].name == page.measure.label == f"best {name.replace('_', ' ')}"


def test_runs_of_a_sweep_have_their_names_and_states_in_other_pages_too(
    sweep: SweepSummary, one_run: Path, tmp_path: Path
) -> None:
    names = {row.name: row for row in view_runs([one_run, *run_folders(sweep)]).runs}
    pruned = next(row for name, row in names.items() if name.endswith("lr/trial 2, seed 1"))
    assert (pruned.state, pruned.cells[0].text) == ("pruned", f"pruned: {LATE}")
    assert len(names) == 7
    link = tmp_path / "link"
    link.symlink_to(sweep.path)
    (only, _) = view_runs([link / "trials" / "0a", link / "trials" / "0b"]).runs
    assert only.name == "trial 0, seed 0"


def test_a_reason_is_shown_and_escaped(folder: Path, tmp_path: Path) -> None:
    assert write_sweep_report(folder, tmp_path / "page.html") == 4
    page = (tmp_path / "page.html").read_text()
    assert LATE in page
    assert "no module named &lt;b&gt;" in page


def test_a_sweep_without_a_run_folder_has_a_page(tmp_path: Path) -> None:
    write(tmp_path, trial(0, 0.1, "a", "b"))
    assert write_sweep_report(tmp_path, tmp_path / "page.html") == 1
    assert "not begun" in (tmp_path / "page.html").read_text()
