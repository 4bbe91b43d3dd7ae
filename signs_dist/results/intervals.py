"""The confidence interval of an accuracy."""

from __future__ import annotations

import math


def wilson_interval(num_correct: int, num_images: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """The Wilson score interval of a share: (low, high) in 0..1, at 95 % by default; (0, 1) without images.

    (Wilson, "Probable inference, the law of succession, and statistical inference", JASA 1927.)
    """
    if num_images == 0:
        return 0.0, 1.0
    share = num_correct / num_images
    spread = z * z / num_images
    centre = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / num_images + spread / (4 * num_images)) / (1 + spread)
    # Rounding must not put 0 of 7 outside its own interval.
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))
