"""Fewer points for a curve, by one rule that keeps its extremes."""

from __future__ import annotations

from collections.abc import Sequence

Point = tuple[int, float]
"""Step and value."""
MOST_POINTS = 600
"""A curve with more points is thinned."""
RULE = (
    f"A curve with more than {MOST_POINTS:,} points is thinned: of each of {MOST_POINTS // 2:,} equal stretches its "
    "lowest and its highest point are kept, and the first and the last point of the curve."
)
"""The rule, for people."""


def thin(points: Sequence[Point], most: int = MOST_POINTS) -> list[Point]:
    """At most about `most` of the points, in their order: the lowest and highest of each stretch, the first, the last.

    A stretch is a run of neighbouring points, all of nearly the same number.
    """
    if len(points) <= most:
        return list(points)
    num_stretches = most // 2
    kept = {0, len(points) - 1}
    for number in range(num_stretches):
        stretch = range(number * len(points) // num_stretches, (number + 1) * len(points) // num_stretches)
        kept.add(min(stretch, key=lambda place: points[place][1]))
        kept.add(max(stretch, key=lambda place: points[place][1]))
    return [points[place] for place in sorted(kept)]
