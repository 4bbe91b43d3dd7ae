"""Numbers that follow from a confusion matrix or from predictions."""

from __future__ import annotations

import pytest

from signs_dist.reporting.scores import (
    bin_by_confidence,
    confusion_of,
    expected_calibration_error,
    least_certain_right,
    score_classes,
    worst_mistakes,
)
from signs_dist.results.predictions import Prediction

CONFUSION = [[3, 1, 0], [0, 2, 2], [0, 0, 0]]


def image(label: int, predicted: int, confidence: float, file: str = "a.png") -> Prediction:
    return Prediction(file, label, {predicted: confidence, 1 - predicted: 1 - confidence})


def test_precision_recall_f1_and_support_of_each_class() -> None:
    cat, dog, owl = score_classes(CONFUSION)
    assert (cat.support, cat.precision, cat.recall, cat.f1) == (4, 1.0, 0.75, pytest.approx(6 / 7))
    assert (dog.support, dog.precision, dog.recall, dog.f1) == (4, pytest.approx(2 / 3), 0.5, pytest.approx(4 / 7))
    assert (owl.support, owl.precision, owl.recall, owl.f1) == (0, 0.0, None, 0.0)


def test_a_class_that_never_occurs_has_no_scores() -> None:
    scores = score_classes([[2, 0], [0, 0]])
    assert (scores[1].precision, scores[1].recall, scores[1].f1) == (None, None, None)


def test_the_confusion_matrix_of_predictions() -> None:
    assert confusion_of([image(0, 0, 0.9), image(0, 1, 0.9), image(1, 1, 0.6)], 2) == [[1, 1], [0, 1]]


def test_the_calibration_error_is_the_mean_gap_of_the_bins_by_images() -> None:
    images = [image(0, 0, 0.95), image(0, 1, 0.93), image(0, 0, 0.71)]
    bins = bin_by_confidence(images, num_bins=10)
    assert [(each.low, each.high, each.num_images) for each in bins] == [(0.7, 0.8, 1), (0.9, 1.0, 2)]
    assert [each.accuracy for each in bins] == [1.0, 0.5]
    assert expected_calibration_error(bins) == pytest.approx((1 * 0.29 + 2 * abs(0.5 - 0.94)) / 3)


def test_a_probability_of_one_is_in_the_last_bin_and_no_images_have_no_error() -> None:
    assert bin_by_confidence([image(0, 0, 1.0)])[0].high == 1.0
    assert expected_calibration_error(bin_by_confidence([])) is None


def test_the_worst_mistakes_and_the_least_certain_right_images() -> None:
    sure, unsure = image(0, 1, 0.99, "sure"), image(0, 1, 0.6, "unsure")
    right, lucky = image(1, 1, 0.9, "right"), image(1, 1, 0.51, "lucky")
    everything = [unsure, right, sure, lucky]
    assert worst_mistakes(everything, 24) == [sure, unsure]
    assert worst_mistakes(everything, 1) == [sure]
    assert least_certain_right(everything, 24) == [lucky, right]
