"""The charts of one run, with the words and the numbers beside them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from signs_dist.console.screen import percent
from signs_dist.reporting.charts import LOGARITHMIC_NOTE, Mark, Series, curves, needs_logarithm, reliability
from signs_dist.reporting.content import RunContent
from signs_dist.reporting.drawing import Drawing, draw
from signs_dist.reporting.scores import ConfidenceBin
from signs_dist.run_folder.records import StartLine, StepLine, of_kind

MOST_ROWS = 30
"""A table beside curves has at most about as many rows; the chart has more points."""
FEW_EPOCHS = 5
"""Curves of a run with at most this many epochs have points within epochs too."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figure:
    """A chart in the page.

    Attributes:
        name: letters and dashes; another one for each chart of a page.
        title: for people.
        description: what the chart shows, for people who do not see it.
        drawing: the chart.
        series: its lines, for the legend; empty without one.
        note: a sentence below it, or "".
        header, rows: its numbers, as a table.
        varies: whether it tells of time, so that two runs with the same result differ here.
    """

    name: str
    title: str
    description: str
    drawing: Drawing
    series: Sequence[Series] = ()
    note: str = ""
    header: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    varies: bool = False

    @property
    def vega(self) -> Mapping[str, Any]:
        """The Vega spec."""
        return self.drawing.vega


def run_figures(content: RunContent) -> list[Figure]:
    """Loss, accuracy, learning rate, speed and waiting for data over steps; empty without a line of metrics."""
    epochs, steps = content.epochs, content.steps
    if not steps:
        return []
    trained = steps if len(epochs) <= FEW_EPOCHS else [*epochs, *_after(steps, epochs[-1].step)]
    validated = [line for line in epochs if line.val_accuracy is not None]
    loss = [
        Series("train", "train", [(line.step, line.train_loss) for line in trained], 0),
        Series("val", "val", [(line.step, line.val_loss) for line in validated if line.val_loss is not None], 1),
    ]
    accuracy = [
        Series("train", "train", [(line.step, line.train_accuracy) for line in trained], 0),
        Series("val", "val", [(line.step, line.val_accuracy or 0.0) for line in validated], 1),
    ]
    rate = [Series("rate", "learning rate", [(line.step, line.lr) for line in steps], 2)]
    speed = [Series("speed", "images/s", [(line.step, line.images_per_second) for line in steps], 3)]
    waiting = [Series("wait", "waiting for data", [(line.step, line.data_wait_share) for line in steps], 4)]
    best = _best_mark(content)
    attempts = _attempt_marks(content)

    def figure(
        name: str, title: str, lines: list[Series], number: str, words: Any, *, varies: bool = False, zero: bool = False
    ) -> Figure:
        lines = [line for line in lines if line.points]
        description = f"{title} over steps. {' '.join(_in_words(line, words) for line in lines)}"
        is_logarithmic = not zero and needs_logarithm(lines)
        spec = curves(
            lines,
            title=title.lower(),
            description=description,
            number_format=number,
            best=best if len(lines) > 1 else None,
            attempts=attempts,
            from_zero=zero,
            is_logarithmic=is_logarithmic,
        )
        header, rows = _table(lines, words)
        return Figure(
            name=name,
            title=title,
            description=description,
            drawing=draw(spec, name),
            series=lines if len(lines) > 1 else (),
            note=LOGARITHMIC_NOTE if is_logarithmic else "",
            header=header,
            rows=rows,
            varies=varies,
        )

    return [
        figure("loss", "Loss", loss, ".3~r", lambda value: f"{value:.4f}"),
        figure("accuracy", "Accuracy", accuracy, ".1~%", percent),
        figure("rate", "Learning rate", rate, ".2~g", lambda value: f"{value:.3g}", zero=True),
        figure("speed", "Images per second", speed, ",.3~r", lambda value: f"{value:,.1f}", varies=True, zero=True),
        figure("wait", "Share of time waiting for data", waiting, "~%", percent, varies=True, zero=True),
    ]


def reliability_figure(split: str, bins: Sequence[ConfidenceBin], error: float) -> Figure:
    """The reliability curve of a split."""
    description = (
        f"Share of right {split} images over the probability of the predicted class, in {len(bins)} bins. "
        f"The expected calibration error is {percent(error)}."
    )
    return Figure(
        name=f"reliability-{split}",
        title="Reliability",
        description=description,
        drawing=draw(reliability(bins, description=description), f"reliability-{split}"),
        header=("probability", "images", "mean probability", "right"),
        rows=[
            [
                f"{percent(each.low)} to {percent(each.high)}",
                f"{each.num_images:,}",
                percent(each.confidence),
                percent(each.accuracy),
            ]
            for each in bins
        ],
    )


def _after(lines: Sequence[StepLine], step: int) -> list[StepLine]:
    return [line for line in lines if line.step > step]


def _best_mark(content: RunContent) -> Mark | None:
    """The end of the best epoch."""
    number = content.summary.result.get("best_epoch", content.summary.best_epoch)
    line = next((line for line in content.epochs if line.epoch == number), None)
    return None if line is None else Mark(line.step, f"best epoch: {line.epoch}")


def _attempt_marks(content: RunContent) -> list[Mark]:
    starts = of_kind(content.attempts, StartLine)[1:]
    return [Mark(line.first_step, f"attempt {line.attempt} begins after step {line.first_step:,}") for line in starts]


def _in_words(line: Series, words: Any) -> str:
    first, last = line.points[0], line.points[-1]
    low, high = min(line.points, key=lambda point: point[1]), max(line.points, key=lambda point: point[1])
    return (
        f"{line.label}: from {words(first[1])} at step {first[0]:,} to {words(last[1])} at step {last[0]:,}; "
        f"lowest {words(low[1])}, highest {words(high[1])}."
    )


def _table(series: Sequence[Series], words: Any) -> tuple[list[str], list[list[str]]]:
    """The series as a table over steps; of many steps about `MOST_ROWS`, equally far apart, the last among them."""
    steps = sorted({step for line in series for step, _ in line.points})
    stride = -(-len(steps) // MOST_ROWS)
    chosen = steps[::-1][::stride][::-1] if steps else []
    columns = [dict(line.points) for line in series]
    rows = [[f"{step:,}", *(words(column[step]) if step in column else "" for column in columns)] for step in chosen]
    return ["step", *(line.label for line in series)], rows
