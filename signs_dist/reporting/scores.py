"""Numbers of a report that follow from a confusion matrix or from predictions: pure functions."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from signs_dist.results.predictions import Prediction

Confusion = Sequence[Sequence[int]]
"""[C, C], images by (true class, predicted class)."""
NUM_BINS = 15
"""Bins of confidence, of equal width."""


@dataclasses.dataclass(frozen=True)
class ClassScore:
    """How well one class is recognised; a share is None where it would divide by 0.

    Attributes:
        label: the class.
        support: number of its images.
        precision: share of the images predicted as this class that are of it, 0..1.
        recall: share of its images that are predicted as it, 0..1.
        f1: harmonic mean of precision and recall, 0..1.
    """

    label: int
    support: int
    precision: float | None
    recall: float | None
    f1: float | None


def score_classes(confusion: Confusion) -> list[ClassScore]:
    """Precision, recall, F1 and support of each class."""
    columns = [sum(column) for column in zip(*confusion, strict=True)]
    scores = []
    for label, row in enumerate(confusion):
        hits, support, predicted = row[label], sum(row), columns[label]
        f1 = 2 * hits / (support + predicted) if support + predicted else None
        scores.append(ClassScore(label, support, _share(hits, predicted), _share(hits, support), f1))
    return scores


def confusion_of(predictions: Sequence[Prediction], num_classes: int) -> list[list[int]]:
    """The confusion matrix of a split's predictions."""
    confusion = [[0] * num_classes for _ in range(num_classes)]
    for prediction in predictions:
        confusion[prediction.label][prediction.predicted] += 1
    return confusion


@dataclasses.dataclass(frozen=True)
class ConfidenceBin:
    """The images whose predicted class has a probability within [low, high); the last bin holds 1 too.

    Attributes:
        low, high: edges, 0..1.
        num_images: number of images, at least 1.
        confidence: their mean probability of the predicted class.
        accuracy: share of them whose class was predicted.
    """

    low: float
    high: float
    num_images: int
    confidence: float
    accuracy: float


def bin_by_confidence(predictions: Sequence[Prediction], num_bins: int = NUM_BINS) -> list[ConfidenceBin]:
    """The bins that have images, by confidence."""
    members: list[list[Prediction]] = [[] for _ in range(num_bins)]
    for prediction in predictions:
        members[min(num_bins - 1, int(prediction.confidence * num_bins))].append(prediction)
    return [
        ConfidenceBin(
            low=number / num_bins,
            high=(number + 1) / num_bins,
            num_images=len(inside),
            confidence=sum(each.confidence for each in inside) / len(inside),
            accuracy=sum(each.is_right for each in inside) / len(inside),
        )
        for number, inside in enumerate(members)
        if inside
    ]


def expected_calibration_error(bins: Sequence[ConfidenceBin]) -> float | None:
    """The mean of |accuracy - confidence| over the images, bin by bin; None without images.

    (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, equation 3.)
    """
    total = sum(each.num_images for each in bins)
    if not total:
        return None
    return sum(each.num_images * abs(each.accuracy - each.confidence) for each in bins) / total


def worst_mistakes(predictions: Sequence[Prediction], most: int) -> list[Prediction]:
    """The wrong predictions with the highest probability, the highest first."""
    wrong = [each for each in predictions if not each.is_right]
    return sorted(wrong, key=lambda each: (-each.confidence, each.file))[:most]


def least_certain_right(predictions: Sequence[Prediction], most: int) -> list[Prediction]:
    """The right predictions with the lowest probability, the lowest first."""
    right = [each for each in predictions if each.is_right]
    return sorted(right, key=lambda each: (each.confidence, each.file))[:most]


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
