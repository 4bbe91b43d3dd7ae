from __future__ import annotations

import pytest

from signs_dist.results.class_scores import macro_f1


@pytest.mark.parametrize(
    ("hits", "support", "predicted", "mean"),
    [
        ([3, 2], [4, 4], [3, 5], (6 / 7 + 4 / 9) / 2),
        ([2, 0], [2, 0], [2, 0], 1.0),
        ([1, 0], [2, 0], [1, 1], 2 / 3),  # the second class has no images: the wrong prediction counts for the first
        ([0, 0], [2, 2], [0, 4], 0.0),
        ([0], [0], [0], None),
    ],
)
def test_the_mean_is_over_the_classes_that_have_images(
    hits: list[int], support: list[int], predicted: list[int], mean: float | None
) -> None:
    assert macro_f1(hits, support, predicted) == pytest.approx(mean)
