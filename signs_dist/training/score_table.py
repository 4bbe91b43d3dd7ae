"""A score as fields for files and as a table for people."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from signs_dist.console.class_tables import class_tables
from signs_dist.console.screen import Screen, percent
from signs_dist.console.screen import duration as duration  # re-exported
from signs_dist.learning.metrics import Score


def score_fields(split: str, score: Score, *, in_full: bool = False) -> dict[str, Any]:
    """Plain numbers for JSON: `<split>_loss` and `<split>_accuracy`; `in_full` also all others."""
    fields: dict[str, Any] = {f"{split}_loss": score.loss, f"{split}_accuracy": score.accuracy}
    if in_full:
        fields |= {
            f"{split}_loss": finite(score.loss),
            f"{split}_correct": score.num_correct,
            f"{split}_images": score.num_images,
            f"{split}_accuracy_interval": list(score.accuracy_interval()),
            f"{split}_macro_f1": score.macro_f1 if score.num_images else None,
            f"{split}_class_accuracies": [None if math.isnan(share) else share for share in score.class_accuracies()],
            f"{split}_confusion": score.confusion.tolist(),
        }
        if score.metrics:
            fields[f"{split}_metrics"] = _metric_fields(score)
    return fields


def epoch_fields(score: Score) -> dict[str, Any]:
    """The `val_…` fields of an `EpochLine`."""
    fields = {"val_loss": finite(score.loss), "val_accuracy": score.accuracy, "val_macro_f1": score.macro_f1}
    return fields | ({"val_metrics": _metric_fields(score)} if score.metrics else {})


def _metric_fields(score: Score) -> dict[str, float | None]:
    return {name: finite(value) for name, value in score.metrics.items()}


def finite(value: float) -> float | None:
    """The value; None for NaN and infinity, which JSON does not have."""
    return value if math.isfinite(value) else None


def show_score(screen: Screen, split: str, score: Score, classes: Sequence[str], data_name: str) -> None:
    """Print the confusion matrix or its main parts unless quiet, and always the accuracy with its interval."""
    title, accuracies = f"\n{split} of {data_name}", score.class_accuracies()
    screen.tables(lambda width: class_tables(title, classes, score.confusion.tolist(), accuracies, width))
    low, high = score.accuracy_interval()
    screen.result(
        f"{split} accuracy {percent(score.accuracy)} ({score.num_correct}/{score.num_images} {data_name} images, "
        f"95 % interval {100 * low:.1f} to {100 * high:.1f} %), loss {score.loss:.4f}"
    )
    if score.metrics:
        screen.result(f"{split} {', '.join(f'{name} {value:.4g}' for name, value in score.metrics.items())}")
