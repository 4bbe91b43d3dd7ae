"""What the page about several runs says."""

from __future__ import annotations

from pathlib import Path

import pytest

from signs_dist.reporting.comparison_page import ComparisonPage, view_runs
from signs_dist.results.sweeps import read_curve
from signs_dist.run_folder.folder import RunFolder
from tests.reporting.run_folders import write_run


@pytest.fixture(scope="module")
def page(sweep: Path) -> ComparisonPage:
    return view_runs(sorted((sweep / "trials").iterdir()))


def test_the_table_has_every_run_and_the_settings_that_differ(page: ComparisonPage) -> None:
    names = [column.name for column in page.header]
    assert names[:3] == ["state", "best val accuracy", "val accuracy"]
    assert [name for name in names if "." in name or name == "seed"] == ["seed", "optim.lr", "optim.weight_decay"]
    assert "test accuracy" not in names  # no run has one
    assert len(page.runs) == 12
    failed = page.runs[9]
    assert (failed.state, failed.cells[0].text) == ("failed", "failed: TrainingFailedError: the loss is not finite")


def test_choices_are_averaged_over_seeds_the_best_first(page: ComparisonPage) -> None:
    assert page.num_groups == 6
    assert page.groups[0].name.startswith("optim.lr=0.03")
    assert page.groups[0].seeds == "0, 1"
    assert page.groups[0].sd.startswith("± ")
    assert [row.unfinished for row in page.groups if row.unfinished] == ["0009 failed"]
    assert {test.seeds for test in page.tests} == {"0, 1"}


def test_choices_are_compared_by_the_best_epoch_which_has_its_column(page: ComparisonPage, sweep: Path) -> None:
    by_seed = [
        max(read_curve(RunFolder(sweep / "trials" / name), "val_accuracy").values()) for name in ("0004", "0005")
    ]
    assert page.groups[0].mean == f"{100 * sum(by_seed) / 2:.1f} %"
    assert [page.runs[place].cells[1].value for place in (4, 5)] == by_seed


def test_the_learning_rate_matters_most(page: ComparisonPage) -> None:
    assert [name for name, *_ in page.importance] == ["optim.lr", "optim.weight_decay"]
    assert page.parallel is not None


def test_more_runs_than_curves_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("signs_dist.reporting.comparison_page.MOST_CURVES", 2)
    runs = [write_run(tmp_path / name, f"seed={seed}", epochs=2) for seed, name in enumerate("abc")]
    page = view_runs(runs)
    assert len(page.legend) == 2
    assert page.curves_note == "The curves of the 2 best of 3 runs."


def test_different_data_are_told(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name, epochs=2, data=name) for name in ("synthetic", "photos")]
    page = view_runs(runs)
    assert page.several_data == ["photos", "synthetic"]
    assert page.is_synthetic
