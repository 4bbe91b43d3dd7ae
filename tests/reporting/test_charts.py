"""The specs of the charts."""

from __future__ import annotations

import json
from typing import Any

from signs_dist.reporting.charts import NUM_STYLES, Mark, Series, curves, parallel_coordinates, reliability
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
