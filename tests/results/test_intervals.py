"""The confidence interval of an accuracy."""

from __future__ import annotations

import pytest

from signs_dist.results.intervals import wilson_interval


@pytest.mark.parametrize(
    ("num_correct", "num_images", "low", "high"),
    [
        (117, 120, 0.929, 0.991),
        (0, 10, 0.0, 0.2775),  # z² / (n + z²)
        (10, 10, 0.7225, 1.0),
        (5, 10, 0.2366, 0.7634),
        (15, 148, 0.0624, 0.1605),  # Newcombe, Statistics in Medicine 1998, table I, method 3
        (81, 263, 0.2553, 0.3662),  # the same
        (1, 29, 0.0061, 0.1718),  # the same
        (0, 0, 0.0, 1.0),
    ],
)
def test_the_wilson_interval(num_correct: int, num_images: int, low: float, high: float) -> None:
    found = wilson_interval(num_correct, num_images)
    assert found == pytest.approx((low, high), abs=5.1e-4)


def test_the_wilson_interval_is_symmetric_holds_the_share_and_shrinks() -> None:
    for num_images in (1, 7, 120, 10**9):
        for num_correct in {0, 1, num_images // 2, num_images}:
            low, high = wilson_interval(num_correct, num_images)
            mirrored = wilson_interval(num_images - num_correct, num_images)
            assert 0 <= low <= num_correct / num_images <= high <= 1
            assert mirrored == pytest.approx((1 - high, 1 - low))
    widths = [high - low for low, high in (wilson_interval(n * 3 // 4, n) for n in (8, 80, 800))]
    assert widths == sorted(widths, reverse=True)
