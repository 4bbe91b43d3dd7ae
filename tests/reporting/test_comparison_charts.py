"""The charts of several runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from signs_dist.reporting.comparison import Group, Run, group_runs
from signs_dist.reporting.comparison_charts import run_curves, settings_figure
from signs_dist.reporting.measure import Measure
from signs_dist.results.summary import RunSummary
from signs_dist.run_folder.records import EpochLine
from tests.reporting.test_comparison import run


def line(step: int, val: float | None) -> EpochLine:
    numbers = {"train_loss": 1.0, "train_accuracy": 0.5, "lr": 0.1, "images_per_second": 1.0, "data_wait_share": 0.0}
    return EpochLine(epoch=step, step=step, images=step, val_loss=val, val_accuracy=val, **numbers)


def test_the_curves_of_runs_lie_in_one_chart_and_one_without_points_is_left_out() -> None:
    runs = [Run(key, key, RunSummary(path=Path(key), state="running")) for key in ("r0", "r1")]
    figures = run_curves(runs, {"r0": [line(1, 0.5), line(2, 0.75)], "r1": [line(1, None)]})
    assert [figure.name for figure in figures] == ["val-accuracy", "val-loss", "train-loss", "rate"]
    assert [series.key for series in figures[0].series] == ["r0"]
    assert [series.key for series in figures[2].series] == ["r0", "r1"]
    assert figures[0].rows == [["r0", "2", "75.0 %", "50.0 %", "75.0 %"]]


def groups_of(*settings: dict[str, Any]) -> list[Group]:
    return group_runs([run(0.5 + 0.1 * number, seed=0, **each) for number, each in enumerate(settings)])


def test_an_axis_over_a_wide_range_is_logarithmic() -> None:
    figure = settings_figure(groups_of({"lr": 0.01}, {"lr": 0.1}, {"lr": 1.0}), ["lr"], Measure())
    assert figure is not None
    points = next(data["values"] for data in figure.vega["data"] if "values" in data and "v" in data["values"][0])
    heights = {point["v"]: round(point["y"], 6) for point in points if point["axis"] == "lr"}
    assert heights == {"0.01": 0.0, "0.1": 0.5, "1": 1.0}
    assert figure.description.endswith("The best: lr=1.")


def test_words_have_places_of_their_own_and_too_few_choices_no_chart() -> None:
    figure = settings_figure(groups_of({"name": "adam"}, {"name": "sgd"}, {"name": None}), ["name"], Measure())
    assert figure is not None
    assert settings_figure(groups_of({"lr": 1.0}, {"lr": 2.0}), ["lr"], Measure()) is None


def test_of_losses_the_lowest_is_drawn_strongest_and_choices_without_a_line_are_counted() -> None:
    runs = [run(0.5 + number, lr=number, seed=0) for number in range(3)]
    groups = group_runs([*runs, run(None, finished=False, lr=9, seed=0)], is_less_better=True)
    figure = settings_figure(groups, ["lr"], Measure("val_loss"))
    assert figure is not None
    assert figure.title == "Settings and best val loss"
    points = next(data["values"] for data in figure.vega["data"] if "values" in data and "v" in data["values"][0])
    assert {point["v"]: point["step"] for point in points if point["axis"] == "best val loss"} == {
        "0.5000": 3,
        "1.5000": 2,
        "2.5000": 0,
    }
    assert figure.note.endswith("1 of 4 choices have no finished run, and no line.")
