"""Random rectangles in an image, for random resized crops and for random erasing."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from signs_dist.data.batch_pixels import Numbers, centred

NUM_TRIES = 10
"""Of a size that fits into the image, as in torchvision."""
NUM_DRAWS = 2 * NUM_TRIES + 2
"""Draws that a rectangle takes."""

Range = tuple[float, float]


def draw_rectangles(
    draws: npt.NDArray[np.float32], area: Range, ratio: Range, aspect: float
) -> tuple[Numbers, Numbers]:
    """Rectangles that lie in their images, uniform in area and place, and in the logarithm of width by height.

    One number at a time: a vectorised exponential may round differently at another position in the batch.

    Args:
        draws: float32 [B, NUM_DRAWS] in [0, 1).
        area: smallest and largest share of the image's area.
        ratio: smallest and largest width by height, in pixels.
        aspect: height by width of the images.

    Returns:
        (centres, half sides): each [B, 2] as (y, x), in coordinates from -1 to 1. Where no size fits after NUM_TRIES,
        the half sides are 0.
    """
    half_sides = np.array([_find_size(row, area, ratio, aspect) for row in draws[:, :-2].tolist()]).reshape(-1, 2)
    return centred(draws[:, -2:]) * (1 - half_sides), half_sides


def draw_crops(draws: npt.NDArray[np.float32], area: Range, ratio: Range, aspect: float) -> tuple[Numbers, Numbers]:
    """`draw_rectangles` for crops: where no size fits, the largest rectangle with a legal ratio, in the middle."""
    centres, half_sides = draw_rectangles(draws, area, ratio, aspect)
    fits = half_sides[:, :1] > 0
    return np.where(fits, centres, 0.0), np.where(fits, half_sides, [largest_size(ratio, aspect)])


def _find_size(draws: Sequence[float], area: Range, ratio: Range, aspect: float) -> tuple[float, float]:
    """Height and width of the first size that fits, as shares of the image's sides; zeros if none does."""
    smallest, largest = (math.log(value) for value in ratio)
    for of_area, of_ratio in zip(draws[0::2], draws[1::2], strict=True):
        share = area[0] + (area[1] - area[0]) * of_area
        by_width = math.exp(smallest + (largest - smallest) * of_ratio) * aspect
        height, width = math.sqrt(share / by_width), math.sqrt(share * by_width)
        if height <= 1 and width <= 1:
            return height, width
    return 0.0, 0.0


def largest_size(ratio: Range, aspect: float) -> tuple[float, float]:
    """Height and width of the largest rectangle with a legal ratio, as shares of the image's sides."""
    by_width = min(max(1.0, ratio[0] * aspect), ratio[1] * aspect)
    return min(1.0, 1 / by_width), min(1.0, by_width)
