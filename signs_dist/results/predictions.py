"""predictions-val.jsonl and predictions-test.jsonl of a run folder: what the network says about each image of a split.

The first line is the header: the split, the classes, the weights that were evaluated, and the data set's folder. Each
further line is one image: its file, its class, and the probabilities. Epochs and steps count from 1.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from signs_dist.results.result_values import is_count
from signs_dist.run_folder.lines import parse, read_lines

Probabilities = Sequence[float] | Mapping[int, float]
"""The probabilities of an image, 0..1: those of all classes, or class → probability of those that are kept."""
VERSION = 1
"""The version of the file."""
MOST_CLASSES_IN_FULL = 100
"""With more classes than this a line holds the probabilities of the most probable classes and of the image's class."""
NUM_KEPT = 10
"""How many of the most probable classes it holds then."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictionsHeader:
    """The first line of a file of predictions.

    Attributes:
        split: val or test.
        classes: names; a class is its position here.
        epoch: the epoch at whose end the evaluated weights were, from 1.
        step: number of steps of these weights.
        weights: `best`, or `last` for those at the end of the run.
        root: the data set's folder, which the images' files are relative to; "" for drawn images without a folder.
    """

    split: str
    classes: tuple[str, ...]
    epoch: int
    step: int
    weights: str
    root: str = ""


@dataclasses.dataclass(frozen=True)
class Prediction:
    """One image.

    Attributes:
        file: its path, relative to the header's root.
        label: its class.
        probabilities: class → probability, 0..1. With many classes those that the file does not hold are missing.
    """

    file: str
    label: int
    probabilities: Mapping[int, float]

    @property
    def predicted(self) -> int:
        """The most probable class; of equally probable ones the first."""
        highest = self.confidence
        return min(label for label, probability in self.probabilities.items() if probability == highest)

    @property
    def confidence(self) -> float:
        """The probability of the predicted class."""
        return max(self.probabilities.values())

    @property
    def is_right(self) -> bool:
        """Whether the predicted class is the image's class."""
        return self.predicted == self.label


def predictions_path(run_path: Path, split: str) -> Path:
    """The file of a split's predictions in a run folder."""
    return run_path / f"predictions-{split}.jsonl"


def photo_path(header: PredictionsHeader, file: str) -> Path | None:
    """The photo of an image; None where the data set has no folder, or where the path leaves the folder.

    A page that is passed on must not hold a picture from elsewhere because a file of predictions names it.
    """
    path = PurePath(file)
    is_below = not path.is_absolute() and ".." not in path.parts
    return Path(header.root) / path if header.root and is_below else None


def to_text(header: PredictionsHeader, predictions: Iterable[tuple[str, int, Probabilities]]) -> str:
    """The text of a file: the header, and a line for each (file, class, probabilities).

    Probabilities are written with 6 digits. An image whose probabilities are no finite numbers, as those of a network
    that has diverged, has null instead of them, and `read_predictions` omits it.
    """
    fields = {"kind": "header", "version": VERSION} | dataclasses.asdict(header)
    lines = [json.dumps(fields, ensure_ascii=False)]
    for file, label, probabilities in predictions:
        name = json.dumps(file, ensure_ascii=False)
        lines.append(f'{{"file": {name}, "label": {label}, "probabilities": {_kept(label, probabilities)}}}')
    return "".join(f"{line}\n" for line in lines)


def _kept(label: int, probabilities: Probabilities) -> str:
    """The JSON of an image's probabilities. Not by `json`, which takes three times as long for many classes."""
    if isinstance(probabilities, Mapping):
        kept = probabilities
    elif len(probabilities) <= MOST_CLASSES_IN_FULL:
        is_finite = math.isfinite(sum(probabilities))
        return f"[{', '.join(map(_number, probabilities))}]" if is_finite else "null"
    else:
        order = sorted(range(len(probabilities)), key=lambda number: (-probabilities[number], number))
        kept = {number: probabilities[number] for number in {*order[:NUM_KEPT], label}}
    if not math.isfinite(sum(kept.values())):
        return "null"
    return "{" + ", ".join(f'"{number}": {_number(kept[number])}' for number in sorted(kept)) + "}"


_number = "{:.6g}".format


def read_header(path: Path) -> PredictionsHeader | None:
    """The header of a file; None if the file is missing, or its header is unreadable or of a later version."""
    if not path.is_file():  # to open a pipe would wait for a writer
        return None
    try:
        with path.open("rb") as stream:
            line = parse(stream.readline())
    except OSError:
        return None
    return _read_header(line) if line is not None else None


def read_predictions(path: Path) -> tuple[PredictionsHeader, list[Prediction]] | None:
    """The header and the images of a file; None if it is missing, or its header is unreadable or of a later version."""
    lines = read_lines(path)
    header = _read_header(lines[0]) if lines else None
    if header is None:
        return None
    return header, [each for line in lines[1:] if (each := _read_line(line, len(header.classes))) is not None]


def _read_header(line: Mapping[str, Any]) -> PredictionsHeader | None:
    if line.get("kind") != "header" or line.get("version") != VERSION:
        return None
    names = {field.name for field in dataclasses.fields(PredictionsHeader)}
    try:
        known = {name: value for name, value in line.items() if name in names}
        header = PredictionsHeader(**known | {"classes": tuple(map(str, line["classes"]))})
    except (KeyError, TypeError):
        return None
    are_texts = all(isinstance(value, str) for value in (header.split, header.weights, header.root))
    are_counts = is_count(header.epoch) and is_count(header.step)
    return header if are_texts and are_counts and isinstance(line["classes"], list) else None


def _read_line(line: Mapping[str, Any], num_classes: int) -> Prediction | None:
    file, label, kept = line.get("file"), line.get("label"), line.get("probabilities")
    pairs = enumerate(kept) if isinstance(kept, list) else kept.items() if isinstance(kept, dict) else ()
    try:
        probabilities = {int(number): float(value) for number, value in pairs}
    except (TypeError, ValueError, OverflowError):
        return None
    is_whole = isinstance(file, str) and type(label) is int and 0 <= label < num_classes and probabilities
    if not is_whole or not all(0 <= number < num_classes for number in probabilities):
        return None
    if not all(0 <= value <= 1 for value in probabilities.values()):
        return None
    return Prediction(str(file), int(label), probabilities)  # type: ignore[arg-type]  # checked above
