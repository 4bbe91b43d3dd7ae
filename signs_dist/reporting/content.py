"""All that a report shows of one run, read from its folder."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from signs_dist.monitoring.failure_card import read_failures, render
from signs_dist.monitoring.root_cause import find_root_cause
from signs_dist.results.predicted_pictures import pictures_path, read_pictures
from signs_dist.results.predictions import Prediction, PredictionsHeader, predictions_path, read_predictions
from signs_dist.results.summary import RunSummary, summarise_run
from signs_dist.run_folder.folder import RunFolder
from signs_dist.run_folder.lines import read_lines
from signs_dist.run_folder.records import AttemptLine, EpochLine, MetricsLine, StepLine, of_kind

SPLITS = ("val", "test")
"""Splits that a run may be evaluated on."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunContent:
    """One run.

    Attributes:
        name: of the run folder.
        summary: the run in short.
        metrics: the lines of metrics.jsonl.
        attempts: the lines of attempts.jsonl.
        manifest: manifest.json; empty if it cannot be read.
        predictions: split → the header and the images of its file, where there is one.
        pictures: split → file → a small picture as a `data:` address, of images that are in no files of their own.
        card: the failure card as text; "" unless the run failed and a process left one.
        classes: their names; empty if no file has them.
        training_images: the picture of the first images as the network sees them; None if there is none.
        training_labels: (file, class) of each of these images, in order.
        read_at: when the folder was read, in seconds since 1970.
    """

    name: str
    summary: RunSummary
    metrics: list[MetricsLine]
    attempts: list[AttemptLine]
    manifest: Mapping[str, Any]
    predictions: Mapping[str, tuple[PredictionsHeader, list[Prediction]]]
    pictures: Mapping[str, Mapping[str, str]]
    card: str
    classes: list[str]
    training_images: Path | None
    training_labels: list[tuple[str, str]]
    read_at: float = 0.0

    @property
    def epochs(self) -> list[EpochLine]:
        """The line of each epoch."""
        return of_kind(self.metrics, EpochLine)

    @property
    def steps(self) -> list[StepLine]:
        """The lines within epochs and at their ends, in their order."""
        return [line for line in self.metrics if isinstance(line, StepLine)]


def read_content(path: Path, *, is_ended: bool = False) -> RunContent:
    """Read a run folder; what is missing or torn is left out.

    Args:
        path: the run folder.
        is_ended: whether the last attempt has ended although its process still holds the folder: that process asks.

    Raises:
        UserError: `path` is no run folder.
    """
    folder = RunFolder.open(path)
    summary = summarise_run(path, is_ended=is_ended)
    card = find_root_cause(read_failures(folder.logs)) if summary.state == "failed" else None
    found = {split: read_predictions(predictions_path(path, split)) for split in SPLITS}
    predictions = {split: each for split, each in found.items() if each is not None}
    classes = _find_classes(summary, [header for header, _ in predictions.values()])
    picture = path / "training-images.png"
    return RunContent(
        name=path.resolve().name,
        summary=summary,
        metrics=folder.read_metrics(),
        attempts=folder.read_attempts(),
        manifest=_read_json(folder.manifest),
        predictions=predictions,
        pictures={split: read_pictures(pictures_path(path, split)) for split in predictions},
        card=render(card) if card is not None else "",
        classes=classes,
        training_images=picture if picture.is_file() else None,
        training_labels=_training_labels(path, classes),
        read_at=time.time(),
    )


def _find_classes(summary: RunSummary, headers: Sequence[PredictionsHeader]) -> list[str]:
    named = summary.result.get("classes")
    if isinstance(named, list):
        return [str(name) for name in named]
    return list(headers[0].classes) if headers else []


def _training_labels(path: Path, classes: Sequence[str]) -> list[tuple[str, str]]:
    """(file, its class) of each training image in the picture; of a mixed image the classes with their shares."""
    labels = []
    for line in read_lines(path / "training-images.jsonl"):
        shares = line.get("shares")
        text = _class_name(line.get("label"), classes)
        if isinstance(shares, dict) and all(isinstance(share, int | float) for share in shares.values()):
            parts = [f"{_class_name(label, classes)} {share:.0%}" for label, share in shares.items()]
            text = " + ".join(parts)
        labels.append((str(line.get("file", "")), text))
    return labels


def _class_name(label: object, classes: Sequence[str]) -> str:
    """The name of the class with this label; the label itself if it has no name."""
    number = int(str(label)) if str(label).isascii() and str(label).isdigit() else -1
    return classes[number] if 0 <= number < len(classes) else str(label)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
