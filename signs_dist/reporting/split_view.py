"""What the page says about one split: confusion, classes, calibration, and the images to look at."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from signs_dist.console.class_tables import most_confused
from signs_dist.console.screen import percent
from signs_dist.reporting.content import RunContent
from signs_dist.reporting.pictures import as_data_uri
from signs_dist.reporting.run_charts import Figure, reliability_figure
from signs_dist.reporting.scores import (
    NUM_BINS,
    ClassScore,
    Confusion,
    bin_by_confidence,
    confusion_of,
    expected_calibration_error,
    least_certain_right,
    score_classes,
    worst_mistakes,
)
from signs_dist.results.class_scores import macro_f1
from signs_dist.results.predictions import Prediction, PredictionsHeader, photo_path

MOST_CLASSES = 40
"""With more classes the most confused pairs are shown instead of the matrix."""
NUM_PAIRS = 40
NUM_PICTURES = 24
_NO_PREDICTIONS = (
    "The run folder has no predictions-{split}.jsonl, so no calibration and no mistakes are shown. A run writes it "
    "when it evaluates its best and its final weights."
)


@dataclasses.dataclass(frozen=True)
class Tile:
    """An image with what the network says about it.

    Attributes:
        picture: a `data:` address, or None.
        file: its path as in the predictions.
        true, predicted: names of classes.
        confidence: of the predicted class, as text.
        of_true: probability of the true class, as text; "" where the file does not hold it.
        description: all of this, for people who do not see the picture.
    """

    picture: str | None
    file: str
    true: str
    predicted: str
    confidence: str
    of_true: str
    description: str


# Many members: one for each part of the section.
@dataclasses.dataclass(frozen=True, kw_only=True)
class SplitView:
    """A split's section."""

    name: str
    classes: list[str]
    weights: str
    matrix: Confusion | None
    pairs: list[tuple[int, int, int]]
    scores: list[ClassScore]
    macro_f1: str
    reliability: Figure | None
    calibration: str
    mistakes: list[Tile]
    num_mistakes: int
    uncertain: list[Tile]
    pictures_note: str
    why_no_predictions: str


def view_split(content: RunContent, split: str) -> SplitView | None:
    """The section of a split; None if the run was not evaluated on it."""
    header, images = content.predictions.get(split, (None, []))
    classes = content.classes
    confusion: Confusion | None = content.summary.result.get(f"{split}_confusion")
    if confusion is None and header is not None:
        confusion = confusion_of(images, len(header.classes))
    if confusion is None:
        return None
    # A file that was edited may have fewer names than classes.
    num_classes = max(len(confusion), len(header.classes) if header is not None else 0)
    classes = [*classes, *map(str, range(len(classes), num_classes))]
    is_small = len(confusion) <= MOST_CLASSES
    scores = score_classes(confusion)
    hits = [row[label] for label, row in enumerate(confusion)]
    mean = macro_f1(hits, [sum(row) for row in confusion], [sum(column) for column in zip(*confusion, strict=True)])
    bins = bin_by_confidence(images)
    error = expected_calibration_error(bins)
    worst, uncertain = worst_mistakes(images, NUM_PICTURES), least_certain_right(images, NUM_PICTURES)
    pictures = content.pictures.get(split, {})
    tiles = [_tile(image, classes, header, pictures) for image in worst]
    other_tiles = [_tile(image, classes, header, pictures) for image in uncertain]
    return SplitView(
        name=split,
        classes=classes,
        weights=f"the {header.weights} weights, of epoch {header.epoch}" if header is not None else "",
        matrix=confusion if is_small else None,
        pairs=[] if is_small else most_confused(confusion)[:NUM_PAIRS],
        scores=scores,
        macro_f1="" if mean is None else percent(mean),
        reliability=None if error is None else reliability_figure(split, bins, error),
        calibration="" if error is None else _calibration_text(error),
        mistakes=tiles,
        num_mistakes=sum(not image.is_right for image in images),
        uncertain=other_tiles,
        pictures_note=_pictures_note(header, [*tiles, *other_tiles]),
        why_no_predictions="" if header is not None else _NO_PREDICTIONS.format(split=split),
    )


def _calibration_text(error: float) -> str:
    return (
        f"Expected calibration error (ECE): {percent(error)}. It is the mean over the images of the difference between "
        f"the share of right images and the mean probability of the predicted class, in {NUM_BINS} bins of equal width "
        "(Guo et al., 2017). 0 % is perfect: of the images predicted with 80 %, 80 % are right."
    )


def _tile(
    image: Prediction, classes: Sequence[str], header: PredictionsHeader | None, pictures: Mapping[str, str]
) -> Tile:
    true, predicted = classes[image.label], classes[image.predicted]
    held = image.probabilities.get(image.label)
    confidence, of_true = percent(image.confidence), "" if held is None else percent(held)
    said = f"{image.file}: class {true}, predicted {predicted} with {confidence}"
    if not image.is_right and of_true:
        said += f"; {true} with {of_true}"
    picture = pictures.get(image.file)
    photo = photo_path(header, image.file) if header is not None and picture is None else None
    if photo is not None:
        picture = as_data_uri(photo)
    return Tile(picture, image.file, true, predicted, confidence, of_true, said)


def _pictures_note(header: PredictionsHeader | None, tiles: Sequence[Tile]) -> str:
    """Why pictures are missing; "" if none is."""
    missing = sum(tile.picture is None for tile in tiles)
    if not missing or header is None:
        return ""
    if not header.root:
        return "The images were drawn for the run and are in no folder, so names stand in the place of pictures."
    return (
        f"{missing} of {len(tiles)} photos cannot be read on this machine below {header.root}; their names stand in "
        "the place of pictures. Make the report again where the photos are."
    )
