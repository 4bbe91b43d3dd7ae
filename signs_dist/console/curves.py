"""Curves in a terminal, drawn by plotext."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from rich.text import Text

LEAST_WIDTH = 24
LEAST_HEIGHT = 6
"""A smaller plot shows nothing."""
MOST_POINTS = 400
"""Of a line; a terminal has no room for more."""
MOST_MARKS = 30
"""Of a curve of separate points: more would hide the others."""
COLUMNS_A_TICK = 8
"""Of the plot's width, for each number below it."""
LINE = "braille"
"""The marker of a fine line."""


@dataclasses.dataclass(frozen=True)
class Curve:
    """One curve of a plot.

    Attributes:
        name: in the legend.
        xs, ys: the points, as many of each. Points that are not finite are omitted.
        marker: `LINE`, or a character for separate points.
    """

    name: str
    xs: Sequence[float]
    ys: Sequence[float]
    marker: str = LINE


def draw(title: str, curves: Sequence[Curve], width: int, height: int, *, has_colour: bool) -> Text:
    """A plot of `width` columns and `height` lines; empty where there is nothing to draw, or no room.

    The marker of each curve is in the title, so that the curves can be told apart without colour.
    """
    points = [(curve, _thinned(curve)) for curve in curves]
    points = [(curve, kept) for curve, kept in points if kept]
    if not points or width < LEAST_WIDTH or height < LEAST_HEIGHT:
        return Text()
    import plotext

    figure = plotext.figure
    figure.clear()
    figure.plot_size(width, height)
    figure.theme("simple")
    legend = ", ".join(f"{'line' if curve.marker == 'braille' else curve.marker} = {curve.name}" for curve, _ in points)
    figure.title(f"{title}: {legend}")
    for curve, kept in points:
        signal = figure.signal([x for x, _ in kept], [y for _, y in kept], marker=curve.marker)
        if curve.marker == LINE:
            signal.lines()
        figure.draw(signal)
    ticks = whole_ticks([x for _, kept in points for x, _ in kept], width // COLUMNS_A_TICK)
    if len(ticks) >= 2:
        figure.ruler("x").ticks(ticks, [str(tick) for tick in ticks])
    text: str = figure.build().string(not has_colour)
    return Text.from_ansi(text.rstrip("\n"))


def whole_ticks(xs: Sequence[float], most: int) -> list[int]:
    """Whole numbers between the least and the largest of `xs`, at most `most`, 1, 2 or 5 times a power of 10 apart."""
    low, high = math.ceil(min(xs)), math.floor(max(xs))
    step = next(
        unit * 10**power
        for power in range(20)
        for unit in (1, 2, 5)
        if (high - low) // (unit * 10**power) < max(1, most)
    )
    return list(range(step * math.ceil(low / step), high + 1, step))


def _thinned(curve: Curve) -> list[tuple[float, float]]:
    """The finite points, and of many a part that is spread evenly and has the last one."""
    points = [(x, y) for x, y in zip(curve.xs, curve.ys, strict=True) if math.isfinite(x) and math.isfinite(y)]
    step = math.ceil(len(points) / (MOST_POINTS if curve.marker == LINE else MOST_MARKS)) or 1
    return points[::-step][::-1]
