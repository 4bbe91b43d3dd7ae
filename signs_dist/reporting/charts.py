"""The Vega-Lite specs of a report's charts.

Colours are variables of the page's style sheet, so that one chart fits light and dark. Users' names occur as data only.
Each chart leaves out the series that its parameter `hidden` lists.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from signs_dist.reporting.scores import ConfidenceBin
from signs_dist.reporting.thinning import Point, thin

WIDTH, HEIGHT = 560, 260
"""Of the picture, in pixels. The interactive chart is as wide as its place in the page."""
NUM_COLORS = 7
DASHES = ([1, 0], [7, 3], [2, 3], [9, 3, 2, 3])
"""Beside its colour, a series has a dash pattern."""
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross")
NUM_STYLES = NUM_COLORS * len(DASHES)
"""How many series can be told apart."""
_CONFIG = {
    "font": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--muted)",
        "titleColor": "var(--ink)",
        "gridColor": "var(--grid)",
        "domainColor": "var(--grid)",
        "tickColor": "var(--grid)",
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "titlePadding": 10,
    },
    "text": {"color": "var(--muted)", "fontSize": 12},
    "rule": {"color": "var(--muted)"},
}
LOGARITHMIC_FACTOR = 10
"""The values of curves lie on a logarithmic axis if the highest is more than this many times their median."""
LOGARITHMIC_NOTE = (
    f"The vertical axis is logarithmic, because the highest value is more than {LOGARITHMIC_FACTOR} times the median."
)
"""The rule, for people."""
HOVER = "hover"
"""The name of the layer that only an interactive chart has: the point that is pointed at."""
_HOVER = {
    "name": "pointed",
    "select": {"type": "point", "on": "pointerover", "clear": "pointerout", "nearest": True},
}
_ZOOM = {
    "name": "zoom",
    "select": {
        "type": "interval",
        "encodings": ["x"],
        "translate": "[pointerdown[event.pointerType !== 'touch'], window:pointerup] > window:pointermove!",
        # The wheel alone scrolls the page.
        "zoom": "wheel![event.ctrlKey || event.metaKey]",
    },
    "bind": "scales",
}


@dataclasses.dataclass(frozen=True)
class Series:
    """A line of a chart.

    Attributes:
        key: short, of letters and digits: the same key is the same series in all charts of a page.
        label: its name, for people.
        points: (step, value).
        style: number of its colour, dashes and marker.
    """

    key: str
    label: str
    points: Sequence[Point]
    style: int = 0

    @property
    def color(self) -> str:
        """As a variable of the style sheet."""
        return f"var(--series-{self.style % NUM_COLORS})"

    @property
    def dash(self) -> list[int]:
        """Lengths of strokes and gaps."""
        return list(DASHES[(self.style % NUM_COLORS + self.style // NUM_COLORS) % len(DASHES)])

    @property
    def shape(self) -> str:
        """The marker."""
        return SHAPES[self.style % len(SHAPES)]


@dataclasses.dataclass(frozen=True)
class Mark:
    """A vertical line at a step, with a text that is shown when it is pointed at."""

    step: int
    text: str


def needs_logarithm(series: Sequence[Series]) -> bool:
    """Whether few high values would press the others together, as the loss of a run that diverged.

    Curves that touch or cross 0 have no logarithm, and keep their axis.
    """
    values = [value for each in series for _, value in each.points]
    return bool(values) and min(values) > 0 and max(values) > LOGARITHMIC_FACTOR * statistics.median(values)


def curves(
    series: Sequence[Series],
    *,
    title: str,
    description: str,
    number_format: str,
    best: Mark | None = None,
    attempts: Sequence[Mark] = (),
    from_zero: bool = False,
    is_logarithmic: bool = False,
) -> dict[str, Any]:
    """Lines over steps, each thinned, with the best epoch and the starts of later attempts marked.

    Args:
        series: the lines.
        title: of the vertical axis.
        description: for people who do not see the chart.
        number_format: of the vertical axis, in the notation of d3-format.
        best: the best epoch.
        attempts: the first steps of attempts after the first.
        from_zero: whether the vertical axis begins at 0.
        is_logarithmic: whether the vertical axis is; all values are above 0 then.
    """
    number_format = ".4~g" if is_logarithmic else number_format  # its numbers may be very small and very large
    values = [
        {"x": step, "y": value, "k": each.key, "n": each.label} for each in series for step, value in thin(each.points)
    ]
    is_one = len(series) == 1
    color = _by_key(series, [each.color for each in series])
    dash = _by_key(series, [DASHES[0] if is_one else each.dash for each in series])
    shape = _by_key(series, [each.shape for each in series])
    steps = [step for each in series for step, _ in each.points]
    x = {
        "field": "x",
        "type": "quantitative",
        "title": "step",
        "axis": {"grid": False, "tickMinStep": 1, "tickCount": 8, "labelSeparation": 6, "format": ",d"},
        "scale": {"domain": [min(steps), max(steps)], "nice": False, "padding": 6},
    }
    y = {
        "field": "y",
        "type": "quantitative",
        "title": title,
        "axis": _value_axis(series, number_format, is_logarithmic=is_logarithmic),
        "scale": _value_scale(series, from_zero=from_zero, is_logarithmic=is_logarithmic),
    }
    shown = [{"filter": "indexof(hidden, datum.k) < 0"}]
    has_few = max((len(each.points) for each in series), default=0) <= 40
    told = [
        {"field": "n", "title": "series"},
        {"field": "x", "title": "step", "format": ",d"},
        {"field": "y", "title": title, "format": number_format},
    ]
    encoding = {"x": x, "y": y, "color": color, "shape": shape}
    on_hover = {"condition": {"param": "pointed", "empty": False, "value": 1}, "value": 0}
    layers: list[dict[str, Any]] = [
        *([_rule("best", [best], x, [5, 3])] if best else []),
        _rule("attempts", attempts, x, [1, 3]),  # without any too: then two runs differ in these data only
        {
            "params": [_ZOOM],
            "transform": shown,
            "mark": {"type": "line", "clip": True, "strokeWidth": 2},
            "encoding": {"x": x, "y": y, "color": color, "strokeDash": dash},
        },
        *([_points("points", {**encoding, "opacity": {"value": 1}}, shown)] if has_few else []),
        {**_points(HOVER, {**encoding, "opacity": on_hover, "tooltip": told}, shown), "params": [_HOVER]},
    ]
    return _spec(description, {"layer": layers, "data": {"values": values}})


def _value_axis(series: Sequence[Series], number_format: str, *, is_logarithmic: bool) -> dict[str, Any]:
    if is_logarithmic:
        values = [value for each in series for _, value in each.points]
        return {"format": number_format, "values": logarithmic_ticks(min(values), max(values))}
    return {"format": number_format, "tickCount": 5}


def logarithmic_ticks(low: float, high: float, most: int = 9) -> list[float]:
    """At most about `most` round numbers from `low` to `high`, which are above 0: 1, 2, 5, 10, … or powers of 10."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    powers = range(first, last + 1)
    fine = [digit * 10.0**power for power in powers for digit in (1, 2, 5) if low <= digit * 10.0**power <= high]
    if len(fine) <= most:
        return fine
    return [10.0**power for power in powers[:: -(-len(powers) // most)]]


def _value_scale(series: Sequence[Series], *, from_zero: bool, is_logarithmic: bool) -> dict[str, Any]:
    """The vertical scale, with room for the whole markers of the lowest and the highest point."""
    if is_logarithmic:
        return {"type": "log", "nice": False, "padding": 8}
    if from_zero:
        highest = max((value for each in series for _, value in each.points), default=0.0)
        return {"zero": True, "nice": False, "domainMin": 0, "domainMax": 1.05 * highest or 1}
    return {"zero": False, "nice": False, "padding": 8}


def _points(name: str, encoding: dict[str, Any], transform: list[dict[str, Any]]) -> dict[str, Any]:
    mark = {"type": "point", "filled": True, "size": 40, "clip": True}
    return {"name": name, "transform": transform, "mark": mark, "encoding": encoding}


def _by_key(series: Sequence[Series], values: Sequence[Any]) -> dict[str, Any]:
    """A channel that gives each series its value."""
    domain = [each.key for each in series]
    return {"field": "k", "type": "nominal", "legend": None, "scale": {"domain": domain, "range": list(values)}}


def _rule(name: str, marks: Sequence[Mark], x: dict[str, Any], dash: list[int]) -> dict[str, Any]:
    return {
        "name": name,
        "data": {"name": name, "values": [{"x": mark.step, "t": mark.text} for mark in marks]},
        "mark": {"type": "rule", "strokeDash": dash, "strokeWidth": 1.5, "clip": True},
        "encoding": {"x": x, "tooltip": [{"field": "t", "title": "mark"}]},
    }


def reliability(bins: Sequence[ConfidenceBin], *, description: str) -> dict[str, Any]:
    """Accuracy over confidence, a bar for each bin, beside the diagonal of perfect calibration."""
    values = [
        {"low": each.low, "high": each.high, "c": each.confidence, "a": each.accuracy, "i": each.num_images}
        for each in bins
    ]
    share = {"type": "quantitative", "scale": {"domain": [0, 1]}}
    x = {
        **share,
        "title": "probability of the predicted class",
        "axis": {"format": ".0%", "grid": False, "tickCount": 5},
    }
    y = {**share, "title": "share that is right", "axis": {"format": ".0%", "tickCount": 5}}
    told = [
        {"field": "i", "title": "images", "format": ",d"},
        {"field": "c", "title": "mean probability", "format": ".1%"},
        {"field": "a", "title": "right", "format": ".1%"},
    ]
    layers = [
        {
            "mark": {"type": "bar", "color": "var(--series-0)", "opacity": 0.55, "binSpacing": 1},
            "encoding": {
                "x": {**x, "field": "low", "bin": "binned"},
                "x2": {"field": "high"},
                "y": {**y, "field": "a"},
                "tooltip": told,
            },
        },
        {
            "data": {"values": [{"x": 0, "y": 0}, {"x": 1, "y": 1}]},
            "mark": {"type": "line", "color": "var(--muted)", "strokeDash": [5, 3]},
            "encoding": {"x": {**x, "field": "x"}, "y": {**y, "field": "y"}},
        },
        {
            "mark": {"type": "point", "filled": True, "color": "var(--series-1)", "size": 60, "opacity": 1},
            "encoding": {"x": {**x, "field": "c"}, "y": {**y, "field": "a"}, "tooltip": told},
        },
    ]
    return _spec(description, {"data": {"values": values}, "layer": layers})


def parallel_coordinates(
    lines: Sequence[Mapping[str, Any]], ticks: Sequence[Mapping[str, Any]], axes: Sequence[str], *, description: str
) -> dict[str, Any]:
    """Vertical axes side by side, and lines from axis to axis. The last axis gives the colour and the width.

    Args:
        lines: a point for each line and axis: `k` the line, `n` its name, `axis`, `y` the height from 0 to 1, `v` the
            value as text, `a` the number that gives the colour.
        ticks: texts at the axes: `axis`, `y`, `t`.
        axes: their names, from left to right.
        description: for people who do not see the chart.
    """
    x = {
        "field": "axis",
        "type": "nominal",
        "sort": list(axes),
        "scale": {"type": "point", "padding": 0.35},
        "title": None,
        "axis": {
            "orient": "top",
            "labelAngle": 0,
            "labelColor": "var(--ink)",
            "domain": False,
            "ticks": False,
            "grid": True,
            "labelLimit": 150,
            "offset": 24,
        },
    }
    y = {"type": "quantitative", "scale": {"domain": [0, 1]}, "axis": None}
    told = [{"field": "n", "title": "settings"}, {"field": "axis", "title": "axis"}, {"field": "v", "title": "value"}]
    by_step = {"field": "step", "type": "ordinal", "legend": None}
    parts = [0, 1, 2, 3]
    colors = ["var(--low)", "var(--lower)", "var(--higher)", "var(--high)"]
    layers = [
        {
            "mark": {"type": "line", "opacity": 0.9},
            "encoding": {
                "x": x,
                "y": {**y, "field": "y"},
                "detail": {"field": "k"},
                "order": {"field": "order", "type": "quantitative"},
                "color": {**by_step, "scale": {"domain": parts, "range": colors}},
                "strokeWidth": {**by_step, "scale": {"domain": parts, "range": [1.2, 1.8, 2.6, 4]}},
            },
        },
        {
            "mark": {"type": "point", "filled": True, "size": 50, "color": "var(--ink)", "opacity": 0.8},
            "encoding": {"x": x, "y": {**y, "field": "y"}, "tooltip": told},
        },
        *(
            {
                "data": {"values": list(ticks)},
                "mark": {"type": "text", "align": "left", "dx": 7, "dy": -7, **ink},
                "encoding": {"x": x, "y": {**y, "field": "y"}, "text": {"field": "t"}},
            }
            # First a rim in the colour of the page, so that the text is legible upon lines.
            for ink in (
                {"color": "var(--paper)", "stroke": "var(--paper)", "strokeWidth": 5, "aria": False},
                {"color": "var(--ink)"},
            )
        ),
    ]
    numbers = [line["a"] for line in lines]
    least, most = min(numbers), max(numbers)
    values = [
        {
            **line,
            "order": list(axes).index(line["axis"]),
            "step": min(3, int(4 * (line["a"] - least) / (most - least))) if most > least else 3,
        }
        for line in lines
    ]
    return _spec(description, {"data": {"values": values}, "layer": layers, "height": 320, "width": 2 * WIDTH})


def _spec(description: str, body: dict[str, Any]) -> dict[str, Any]:
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "description": description,
        "background": "transparent",
        "width": WIDTH,
        "height": HEIGHT,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "params": [{"name": "hidden", "value": []}],
        "config": _CONFIG,
        **body,
    }
