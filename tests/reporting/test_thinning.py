"""Fewer points for a curve."""

from __future__ import annotations

import random

from signs_dist.reporting.thinning import RULE, thin


def test_a_short_curve_stays_as_it_is() -> None:
    points = [(step, float(step % 7)) for step in range(600)]
    assert thin(points) == points


def test_a_long_curve_keeps_its_extremes_its_ends_and_its_order() -> None:
    draw = random.Random(1)
    points = [(step, draw.random()) for step in range(10_000)]
    points[4321] = (4321, 50.0)
    points[7777] = (7777, -50.0)
    thinned = thin(points)
    assert len(thinned) <= 602
    assert thinned == sorted(set(thinned))
    assert {points[0], points[-1], (4321, 50.0), (7777, -50.0)} <= set(thinned)
    # Each stretch keeps its own extremes.
    first = points[: 10_000 // 300]
    assert {min(first, key=lambda point: point[1]), max(first, key=lambda point: point[1])} <= set(thinned)


def test_the_rule_is_said_in_numbers() -> None:
    assert "more than 600 points" in RULE
    assert "300 equal stretches" in RULE
