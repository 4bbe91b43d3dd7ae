from __future__ import annotations

import re
from typing import Any

import pytest

from signs_dist.errors import UserError
from signs_dist.learning.class_weights import find_class_weights

COUNTS = {"bus": 6, "cat": 2, "dog": 4}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, None),
        ("balanced", (12 / 18, 12 / 6, 12 / 12)),
        ((1.0, 5.0, 0.0), (1.0, 5.0, 0.0)),
        ({"dog": 3.0, "bus": 0.5}, (0.5, 1.0, 3.0)),
        ({}, (1.0, 1.0, 1.0)),
    ],
)
def test_the_weight_of_each_class(given: Any, expected: tuple[float, ...] | None) -> None:
    assert find_class_weights(given, COUNTS) == (None if expected is None else pytest.approx(expected))


def test_balanced_weights_have_mean_1_over_the_images_and_make_classes_count_alike() -> None:
    weights = find_class_weights("balanced", COUNTS)
    assert weights is not None
    shares = [weight * count for weight, count in zip(weights, COUNTS.values(), strict=True)]
    assert shares == pytest.approx([4, 4, 4])


def test_a_class_without_training_images_is_not_counted() -> None:
    assert find_class_weights("balanced", {"bus": 6, "cat": 0, "dog": 2}) == pytest.approx((8 / 12, 1.0, 8 / 4))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            (1.0, 2.0),
            "loss.class_weights has 2 weights, and the data has 3 classes: bus, cat, dog. Give a weight for each",
        ),
        ((), "loss.class_weights has 0 weights"),
        ((1.0, 2.0, 3.0, 4.0), "loss.class_weights has 4 weights"),
        (
            {"Cat": 2.0},
            "loss.class_weights: Cat is not a class of the data. Did you mean cat? Its classes: bus, cat, dog.",
        ),
        ({"zebra": 2.0}, "loss.class_weights: zebra is not a class of the data. Its classes: bus, cat, dog."),
        ((0.0, 0.0, 0.0), "loss.class_weights gives weight 0 to every training image"),
    ],
)
def test_wrong_weights_are_refused_with_what_is_legal(given: Any, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        find_class_weights(given, COUNTS)


def test_a_message_names_ten_classes_at_most() -> None:
    with pytest.raises(UserError, match=r"has 12 classes: c0, c1, .* c9 and 2 more\. Give"):
        find_class_weights((1.0,), {f"c{number}": 1 for number in range(12)})
