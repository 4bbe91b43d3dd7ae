"""The pictures of a run for dashboards: the confusion matrix, the worst mistakes, the training images. All are PNG."""

from __future__ import annotations

import contextlib
import dataclasses
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageOps

from signs_dist.console.class_tables import most_confused
from signs_dist.console.screen import percent
from signs_dist.monitoring.plain_text import one_line
from signs_dist.reporting.pictures import small_picture
from signs_dist.reporting.scores import confusion_of, worst_mistakes
from signs_dist.results.predictions import (
    Prediction,
    PredictionsHeader,
    photo_path,
    predictions_path,
    read_predictions,
)

CONFUSION, MISTAKES, TRAINING = "val/confusion_matrix", "val/worst_mistakes", "train/images"
"""Names of the pictures."""
MOST_CLASSES = 40
"""With more classes the picture of the confusion matrix shows the classes that are confused most."""
DARKEST = "#084a90"
"""Of a class whose images all have one prediction."""
NUM_MISTAKES = 24
TILE = 128
"""Side of a photo among the worst mistakes, in pixels."""
LINE = 14
"""Height of a line of text below a photo, in pixels."""
PER_ROW = 8
MOST_LETTERS = 20
"""Of a class's name below a photo."""


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Pictures of what one epoch's weights predict.

    Attributes:
        epoch: of the weights, from 1.
        step: number of steps of these weights.
        named: name → PNG.
    """

    epoch: int
    step: int
    named: Mapping[str, bytes]


def pictures_of(run_path: Path) -> Pictures | None:
    """The pictures for the newest predictions of a run; None where there are none."""
    read = read_predictions(predictions_path(run_path, "val"))
    if read is None or not read[1]:
        return None
    header, predictions = read
    named = {CONFUSION: confusion_png(header.classes, confusion_of(predictions, len(header.classes)))}
    if wrong := worst_mistakes(predictions, NUM_MISTAKES):
        named[MISTAKES] = mistakes_png(header, wrong)
    with contextlib.suppress(OSError):
        named[TRAINING] = (run_path / "training-images.png").read_bytes()
    return Pictures(header.epoch, header.step, named)


def confusion_png(classes: Sequence[str], confusion: Sequence[Sequence[int]]) -> bytes:
    """The confusion matrix, or of more than `MOST_CLASSES` classes its part with those that are confused most.

    Args:
        classes: their names.
        confusion: [true class][predicted class] → number of images.
    """
    import vl_convert

    shown = _shown_classes(confusion)
    values = [
        {
            "true": one_line(classes[true]),
            "predicted": one_line(classes[predicted]),
            "images": confusion[true][predicted],
            "share": confusion[true][predicted] / max(1, sum(confusion[true])),
        }
        for true in shown
        for predicted in shown
    ]
    names = [one_line(classes[number]) for number in shown]
    axes = {
        name: {"field": field, "type": "nominal", "sort": names, "title": f"{field} class"}
        for name, field in (("x", "predicted"), ("y", "true"))
    }
    part = f", {len(shown)} of {len(classes)} classes" if len(shown) < len(classes) else ""
    spec: dict[str, Any] = {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "title": f"val: number of images{part}; the shade is the share of the true class",
        "background": "white",
        "data": {"values": values},
        "width": {"step": 32},
        "height": {"step": 32},
        "encoding": axes,
        "layer": [
            {
                "mark": "rect",
                "encoding": {
                    "color": {
                        "field": "share",
                        "type": "quantitative",
                        "scale": {"range": ["white", DARKEST], "domain": [0, 1]},
                        "legend": None,
                    }
                },
            },
            {
                "transform": [{"filter": "datum.images > 0"}],
                "mark": "text",
                "encoding": {
                    "text": {"field": "images", "type": "quantitative"},
                    "color": {"condition": {"test": "datum.share > 0.5", "value": "white"}, "value": "black"},
                },
            },
        ],
    }
    png: bytes = vl_convert.vegalite_to_png(spec)
    return png


def _shown_classes(confusion: Sequence[Sequence[int]]) -> list[int]:
    """All classes, or `MOST_CLASSES` of them: those of the most confused pairs, then the first ones."""
    if len(confusion) <= MOST_CLASSES:
        return list(range(len(confusion)))
    pairs = most_confused(confusion)[:MOST_CLASSES]
    wanted = [number for true, predicted, _ in pairs for number in (true, predicted)]
    return sorted(list(dict.fromkeys([*wanted, *range(len(confusion))]))[:MOST_CLASSES])


def mistakes_png(header: PredictionsHeader, mistakes: Sequence[Prediction]) -> bytes:
    """Wrong images side by side; below each its predicted class with the probability, and its true class.

    A photo that cannot be read here is a grey square.
    """
    height = TILE + 2 * LINE + 4
    num_rows = -(-len(mistakes) // PER_ROW)
    sheet = Image.new("RGB", (min(len(mistakes), PER_ROW) * (TILE + 4), num_rows * height), "white")
    draw = ImageDraw.Draw(sheet)
    for number, mistake in enumerate(mistakes):
        left, top = number % PER_ROW * (TILE + 4), number // PER_ROW * height
        path = photo_path(header, mistake.file)
        photo = small_picture(path, TILE) if path is not None else None
        tile = Image.new("RGB", (TILE, TILE), "lightgrey") if photo is None else ImageOps.contain(photo, (TILE, TILE))
        sheet.paste(tile, (left, top))
        predicted, true = (_short(header.classes[label]) for label in (mistake.predicted, mistake.label))
        draw.text((left, top + TILE), f"{predicted} {percent(mistake.confidence)}", "black")
        draw.text((left, top + TILE + LINE), f"is {true}", "black")
    stream = io.BytesIO()
    sheet.save(stream, "PNG")
    return stream.getvalue()


def _short(name: str) -> str:
    name = one_line(name)
    return name if len(name) <= MOST_LETTERS else f"{name[: MOST_LETTERS - 1]}…"
