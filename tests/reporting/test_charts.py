"""The specs of the charts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from signs_dist.reporting.charts import (
    NUM_STYLES,
    Mark,
    Series,
    curves,
    logarithmic_ticks,
    needs_logarithm,
    parallel_coordinates,
    reliability,
)
from signs_dist.reporting.scores import ConfidenceBin


def curves_of(*series: Series, **others: Any) -> dict[str, Any]:
    return curves(series, title="loss", description="Loss over steps.", number_format=".2f", **others)


def test_each_series_of_many_looks_different() -> None:
    series = [Series(f"r{style}", "", [], style) for style in range(NUM_STYLES)]
    assert len({(each.color, tuple(each.dash)) for each in series}) == NUM_STYLES


def test_neighbours_differ_in_dashes_and_markers_too() -> None:
    first, second, third = (Series(f"r{style}", "", [], style) for style in range(3))
    assert first.dash != second.dash != third.dash
    assert first.shape != second.shape != third.shape


def test_long_curves_are_thinned_and_others_are_not() -> None:
    long, short = [(step, float(step)) for step in range(5000)], [(1, 1.0), (2, 2.0)]
    spec = curves_of(Series("long", "long", long), Series("short", "short", short))
    values = spec["data"]["values"]
    assert sum(value["k"] == "short" for value in values) == 2
    assert sum(value["k"] == "long" for value in values) <= 602


def test_the_best_epoch_and_later_attempts_are_marked() -> None:
    spec = curves_of(
        Series("a", "a", [(1, 1.0), (9, 2.0)]), best=Mark(9, "best epoch: 3"), attempts=[Mark(4, "attempt 2")]
    )
    best, attempts = spec["layer"][:2]
    assert (best["name"], best["data"]["values"]) == ("best", [{"x": 9, "t": "best epoch: 3"}])
    assert (attempts["name"], attempts["data"]["values"]) == ("attempts", [{"x": 4, "t": "attempt 2"}])


def test_an_attempt_before_the_first_line_does_not_move_the_axis() -> None:
    points = [(20, 1.0), (40, 2.0)]
    with_one = curves_of(Series("a", "a", points), attempts=[Mark(3, "attempt 2")])
    without = curves_of(Series("a", "a", points))
    with_one["layer"][0]["data"]["values"] = []
    assert with_one == without


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([2.3, 1.2, 0.8, 0.6], False),
        ([25.0, 3.4, 1.1, 0.9, 0.5], True),  # as the val loss of a first epoch
        ([1e12, 2.0, 1.9], True),
        ([25.0, 0.5, 0.1, 0.0], False),  # 0 has no logarithm
        ([], False),
    ],
)
def test_curves_that_a_few_high_values_would_flatten_have_a_logarithmic_axis(
    values: list[float], expected: bool
) -> None:
    series = [Series("val", "val", list(enumerate(values))), Series("train", "train", [])]
    assert needs_logarithm(series) is expected


def test_a_logarithmic_axis_has_few_round_numbers() -> None:
    spec = curves_of(Series("a", "a", [(1, 30.0), (2, 0.4)]), is_logarithmic=True)
    y = next(layer for layer in spec["layer"] if layer["mark"]["type"] == "line")["encoding"]["y"]
    assert (y["scale"]["type"], y["axis"]["values"]) == ("log", [0.5, 1.0, 2.0, 5.0, 10.0, 20.0])
    assert logarithmic_ticks(0.3, 14_032.6) == [0.1, 1.0, 10.0, 100.0, 1_000.0, 10_000.0, 100_000.0]
    assert len(logarithmic_ticks(1e-30, 1e30)) <= 9
    assert logarithmic_ticks(3.0, 3.0) == []


def test_an_axis_from_zero_has_room_above_the_highest_point() -> None:
    for highest, top in ((0.1, 0.105), (0.0, 1)):
        spec = curves_of(Series("a", "a", [(1, highest), (2, 0.0)]), from_zero=True)
        y = next(layer for layer in spec["layer"] if layer["mark"]["type"] == "line")["encoding"]["y"]
        assert y["scale"]["domainMin"] == 0
        assert y["scale"]["domainMax"] == pytest.approx(top)


def test_names_of_users_occur_as_data_only() -> None:
    name = "a.b[0]'\"<b>"
    spec = curves_of(Series("r0", name, [(1, 1.0)]))
    assert {value["n"] for value in spec["data"]["values"]} == {name}
    assert json.dumps(name)[1:-1] not in json.dumps({**spec, "data": None})


def test_the_reliability_curve_has_a_bar_for_each_bin() -> None:
    spec = reliability([ConfidenceBin(0.5, 0.6, 4, 0.55, 0.75)], description="…")
    assert spec["data"]["values"] == [{"low": 0.5, "high": 0.6, "c": 0.55, "a": 0.75, "i": 4}]


def test_the_most_accurate_choice_is_drawn_strongest() -> None:
    lines = [
        {"k": str(number), "n": "n", "axis": axis, "y": 0.5, "v": "1", "a": accuracy}
        for number, accuracy in enumerate((0.5, 0.9))
        for axis in ("lr", "accuracy")
    ]
    spec = parallel_coordinates(lines, [], ["lr", "accuracy"], description="…")
    steps = {(value["a"], value["order"]): value["step"] for value in spec["data"]["values"]}
    assert steps == {(0.5, 0): 0, (0.5, 1): 0, (0.9, 0): 3, (0.9, 1): 3}
