"""Runs beside each other, as numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from signs_dist.reporting.comparison import Run, group_runs, importance, paired_tests, short_names
from signs_dist.results.summary import RunSummary


def run(accuracy: float | None, *, finished: bool = True, **settings: Any) -> Run:
    result = {"val_accuracy": accuracy} if finished and accuracy is not None else {}
    summary = RunSummary(
        path=Path(), state="finished" if finished else "failed", val_accuracy=accuracy, settings=settings, result=result
    )
    return Run("r0", "run", summary, value=accuracy)


def test_runs_that_differ_in_their_seeds_only_are_one_group() -> None:
    runs = [run(0.8, lr=0.1, seed=0), run(0.6, lr=0.2, seed=0), run(0.9, lr=0.1, seed=1), run(0.1, lr=0.3, seed=0)]
    groups = group_runs(runs)
    assert [(group.name, len(group.runs)) for group in groups] == [("lr=0.1", 2), ("lr=0.2", 1), ("lr=0.3", 1)]
    assert groups[0].score == (pytest.approx(0.85), pytest.approx(0.0707, abs=1e-4))
    assert groups[1].score == (0.6, None)


def test_runs_that_are_not_finished_do_not_count_and_come_last() -> None:
    groups = group_runs([run(0.99, finished=False, lr=0.1, seed=0), run(0.5, lr=0.2, seed=0)])
    assert [(group.name, group.score) for group in groups] == [("lr=0.2", (0.5, None)), ("lr=0.1", None)]


def test_of_losses_the_lowest_is_the_best_and_failed_runs_come_last() -> None:
    runs = [run(None, finished=False, lr=0.3, seed=0), run(0.9, lr=0.1, seed=0), run(0.2, lr=0.2, seed=0)]
    assert [group.name for group in group_runs(runs, is_less_better=True)] == ["lr=0.2", "lr=0.1", "lr=0.3"]


def test_runs_without_a_difference_are_one_group() -> None:
    assert [group.name for group in group_runs([run(0.8, lr=0.1, seed=0), run(0.9, lr=0.1, seed=1)])] == ["all runs"]


def test_a_paired_test_needs_two_seeds_in_common() -> None:
    best = [run(0.90, lr=0.1, seed=0), run(0.92, lr=0.1, seed=1), run(0.91, lr=0.1, seed=2)]
    close = [run(0.80, lr=0.2, seed=1), run(0.83, lr=0.2, seed=2), run(0.99, finished=False, lr=0.2, seed=0)]
    (test,) = paired_tests(group_runs([*best, *close, run(0.5, lr=0.3, seed=0)]))
    assert (test.group.name, test.seeds) == ("lr=0.2", [1, 2])
    assert test.difference.mean == pytest.approx(-0.10)


def test_importance_is_the_variance_between_the_values_of_a_setting() -> None:
    runs = [run(0.9 - 0.2 * lr + 0.001 * decay, lr=lr, decay=decay, seed=0) for lr in (0, 1, 2) for decay in (0, 1)]
    first, second = importance(group_runs(runs))
    assert (first.setting, first.num_values) == ("lr", 3)
    assert first.share is not None
    assert first.share > 0.99
    assert (second.setting, second.share) == ("decay", 0.0)


def test_importance_of_a_setting_with_another_value_each_time() -> None:
    numbers = [run(0.5 + 0.01 * rate, lr=float(rate), seed=0) for rate in range(12)]
    (found,) = importance(group_runs(numbers))
    assert found.num_values == 3
    assert found.share is not None
    assert found.share > 0.8
    names = [run(0.5 + 0.01 * number, model=f"net{number}", seed=0) for number in range(4)]
    (found,) = importance(group_runs(names))
    assert found.share is None


def test_importance_of_nothing() -> None:
    assert importance([]) == []
    assert importance(group_runs([run(None, lr=1, seed=0), run(None, lr=2, seed=0)])) == []


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["/r/a", "/r/b"], ["a", "b"]),
        (["/r/a/x", "/r/b/x"], ["a/x", "b/x"]),
        (["/r/a"], ["a"]),
        (["/r/a", "/r/a/b"], ["a", "a/b"]),
    ],
)
def test_short_names(paths: list[str], names: list[str]) -> None:
    assert short_names([Path(path).parts for path in paths]) == names
