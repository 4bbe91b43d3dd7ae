"""The charts of several runs: their curves in one chart, and parallel coordinates over their settings."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from signs_dist.console.screen import percent
from signs_dist.reporting.charts import (
    LOGARITHMIC_NOTE,
    NUM_STYLES,
    Series,
    curves,
    needs_logarithm,
    parallel_coordinates,
)
from signs_dist.reporting.comparison import Group, Run, plain
from signs_dist.reporting.drawing import draw
from signs_dist.reporting.measure import Measure
from signs_dist.reporting.run_charts import Figure
from signs_dist.reporting.thinning import Point
from signs_dist.results.result_values import is_number
from signs_dist.run_folder.records import EpochLine

MOST_CURVES = 24
"""With more runs, the curves of the best ones are shown."""
assert MOST_CURVES <= NUM_STYLES
MOST_AXES = 8
"""Of the parallel coordinates, beside the accuracy."""
_NOTE = (
    "Each line is a choice of settings, averaged over its seeds: the stronger and thicker, the better. An axis of "
    "positive numbers that span a factor of 10 or more is logarithmic."
)
MOST_TICKS = 8
"""Values written at an axis."""


def run_curves(runs: Sequence[Run], epochs: Mapping[str, Sequence[EpochLine]]) -> list[Figure]:
    """Validation and training over steps, a line for each run; a chart without a line is left out.

    Args:
        runs: at most `MOST_CURVES`.
        epochs: key of the run → its epochs.
    """
    wanted = (
        ("val-accuracy", "Val accuracy", "val_accuracy", ".1~%", percent),
        ("val-loss", "Val loss", "val_loss", ".3~r", _four),
        ("train-loss", "Training loss", "train_loss", ".3~r", _four),
        ("rate", "Learning rate", "lr", ".2~g", _three),
    )
    figures = []
    for name, title, field, number, words in wanted:
        series = [
            Series(run.key, run.name, points, style)
            for style, run in enumerate(runs)
            if (points := _points(epochs[run.key], field))
        ]
        if not series:
            continue
        last = "; ".join(f"{line.label} ends at {words(line.points[-1][1])}" for line in series)
        description = f"{title} over steps of {len(series)} runs. {last}."
        is_logarithmic = needs_logarithm(series)
        spec = curves(
            series,
            title=title.lower(),
            description=description,
            number_format=number,
            is_logarithmic=is_logarithmic,
        )
        rows = [_row(line, words) for line in series]
        figures.append(
            Figure(
                name=name,
                title=title,
                description=description,
                drawing=draw(spec, name),
                series=series,
                note=LOGARITHMIC_NOTE if is_logarithmic else "",
                header=("run", "last step", "at its end", "lowest", "highest"),
                rows=rows,
            )
        )
    return figures


def _points(epochs: Sequence[EpochLine], field: str) -> list[Point]:
    return [(line.step, value) for line in epochs if (value := getattr(line, field)) is not None]


def _row(line: Series, words: Callable[[float], str]) -> list[str]:
    (step, last), values = line.points[-1], [value for _, value in line.points]
    return [line.label, f"{step:,}", words(last), words(min(values)), words(max(values))]


def settings_figure(groups: Sequence[Group], settings: Sequence[str], measure: Measure) -> Figure | None:
    """Parallel coordinates: an axis for each setting and one for the measure, a line for each group of runs.

    Args:
        groups: those without a finished run are left out.
        settings: the axes, the most important first; more than `MOST_AXES` are left out.
        measure: what the groups are compared by.
    """
    scored = [group for group in groups if group.score is not None]
    axes = list(settings)[:MOST_AXES]
    if len(scored) < 3 or not axes:
        return None
    places = {setting: _places([group.settings[setting] for group in scored]) for setting in axes}
    scores = [group.score[0] for group in scored if group.score is not None]
    low, high = min(scores), max(scores)
    places[measure.label] = [(_height(score, low, high), measure.text(score)) for score in scores]
    lines = []
    for number, (group, score) in enumerate(zip(scored, scores, strict=True)):
        for axis, values in places.items():
            height, text = values[number]
            strength = measure.goodness(score)
            lines.append({"k": str(number), "n": group.name, "axis": axis, "y": height, "v": text, "a": strength})
    ticks = [
        {"axis": axis, "y": place, "t": text} for axis, values in places.items() for place, text in _spread(values)
    ]
    description = (
        f"Parallel coordinates of {len(scored)} choices of settings: one line each, through its value of "
        f"{', '.join(axes)} and its {measure.label}, from {measure.text(low)} to {measure.text(high)}. "
        f"The best: {scored[0].name}."
    )
    notes = [_NOTE]
    if len(scored) < len(groups):
        notes.append(f"{len(groups) - len(scored)} of {len(groups)} choices have no finished run, and no line.")
    if len(settings) > MOST_AXES:
        notes.append(f"The {MOST_AXES} most important of {len(settings)} settings.")
    return Figure(
        name="parallel",
        title=f"Settings and {measure.label}",
        description=description,
        drawing=draw(parallel_coordinates(lines, ticks, list(places), description=description), "parallel"),
        note=" ".join(notes),
    )


def _places(values: Sequence[Any]) -> list[tuple[float, str]]:
    """(height from 0 to 1, text) of each value on its axis."""
    texts = [plain(value) for value in values]
    if all(is_number(value) for value in values):
        numbers = [float(value) for value in values]
        low, high = min(numbers), max(numbers)
        if low > 0 and high >= 10 * low:
            numbers, low, high = [math.log(number) for number in numbers], math.log(low), math.log(high)
        return [(_height(number, low, high), text) for number, text in zip(numbers, texts, strict=True)]
    different = sorted(set(texts))
    whole = max(1, len(different) - 1)
    return [(different.index(text) / whole, text) for text in texts]


def _height(number: float, low: float, high: float) -> float:
    return (number - low) / (high - low) if high > low else 0.5


def _spread(values: Sequence[tuple[float, str]]) -> list[tuple[float, str]]:
    """The ticks that leave room for each other: the lowest, the highest, and some between."""
    ordered = sorted(set(values))
    kept = [ordered[0]]
    for place, text in ordered[1:-1]:
        if place - kept[-1][0] >= 1 / MOST_TICKS and ordered[-1][0] - place >= 1 / MOST_TICKS:
            kept.append((place, text))
    return [*kept, *ordered[1:][-1:]]


def _four(value: float) -> str:
    return f"{value:.4f}"


def _three(value: float) -> str:
    return f"{value:.3g}"
