from __future__ import annotations

import math

import pytest

from signs_dist.console.curves import LEAST_HEIGHT, LEAST_WIDTH, MOST_MARKS, Curve, draw, whole_ticks

TRAIN = Curve("train", [1.0, 2.0, 3.0, 4.0], [4.0, 3.0, 2.0, 1.0])
VAL = Curve("val", [2.0, 4.0], [3.5, 2.5], "o")


def test_curves_are_drawn_with_their_legend_and_their_limits() -> None:
    text = draw("loss", [TRAIN, VAL], 60, 12, has_colour=False)
    lines = text.plain.splitlines()
    assert len(lines) == 12
    assert max(map(len, lines)) <= 60
    assert "loss: line = train, o = val" in lines[0]
    assert text.plain.count("o") >= 2 + "loss: line = train, o = val".count("o")
    assert "4.0" in lines[2]
    assert "1.0" in text.plain


@pytest.mark.parametrize(
    ("xs", "most", "ticks"),
    [
        ([0.9, 1.8, 6.0], 7, [1, 2, 3, 4, 5, 6]),
        ([0.9, 6.0], 3, [2, 4, 6]),
        ([1, 60], 7, [10, 20, 30, 40, 50, 60]),
        ([1, 10_000], 7, [2000, 4000, 6000, 8000, 10_000]),
        ([0.2, 0.9], 7, []),
    ],
)
def test_epochs_are_whole_numbers(xs: list[float], most: int, ticks: list[int]) -> None:
    assert whole_ticks(xs, most) == ticks


def test_the_whole_numbers_are_drawn() -> None:
    curve = Curve("train", [0.9, 1.8, 2.7, 3.6, 6.0], [4.0, 3.0, 2.0, 1.5, 1.0])
    below = draw("loss", [curve], 60, 12, has_colour=False).plain.splitlines()[-1]
    assert below.split() == ["1", "2", "3", "4", "5", "6"]


def test_colour_is_left_out_where_it_is_not_wanted() -> None:
    assert draw("loss", [TRAIN], 60, 12, has_colour=False).spans == []
    assert draw("loss", [TRAIN], 60, 12, has_colour=True).spans != []
    assert "\x1b" not in draw("loss", [TRAIN], 60, 12, has_colour=True).plain


@pytest.mark.parametrize(
    ("curves", "width", "height"),
    [
        ([], 60, 12),
        ([Curve("train", [], [])], 60, 12),
        ([Curve("train", [1.0], [math.nan])], 60, 12),
        ([Curve("train", [1.0, 2.0], [math.inf, -math.inf])], 60, 12),
        ([TRAIN], LEAST_WIDTH - 1, 12),
        ([TRAIN], 60, LEAST_HEIGHT - 1),
        ([TRAIN], 60, -3),
    ],
)
def test_nothing_to_draw_or_no_room(curves: list[Curve], width: int, height: int) -> None:
    assert draw("loss", curves, width, height, has_colour=False).plain == ""


def test_many_separate_points_do_not_hide_a_line() -> None:
    many = Curve("val", list(map(float, range(1, 501))), [2.0] * 500, "o")
    told = draw("loss", [many], 100, 12, has_colour=False).plain.splitlines()[1:]
    assert 10 <= sum(line.count("o") for line in told) <= MOST_MARKS


@pytest.mark.parametrize(
    "curve",
    [
        Curve("one", [1.0], [1.0]),
        Curve("flat", [1.0, 2.0], [0.5, 0.5]),
        Curve("large", [1.0, 2.0], [1e30, -1e30]),
        Curve("gap", [1.0, 2.0, 3.0], [1.0, math.nan, 3.0]),
        Curve("long", list(map(float, range(30_000))), [1 / (1 + x) for x in range(30_000)]),
    ],
)
def test_awkward_curves_are_drawn(curve: Curve) -> None:
    assert len(draw("loss", [curve], LEAST_WIDTH, LEAST_HEIGHT, has_colour=False).plain.splitlines()) == LEAST_HEIGHT
