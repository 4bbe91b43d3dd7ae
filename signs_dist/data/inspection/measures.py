"""Formats, widths and heights of photos, in numbers. Pure functions."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from signs_dist.data.inspection.looking import PhotoFacts


@dataclass(frozen=True)
class Sizes:
    """Widths and heights in pixels, upright."""

    smallest: tuple[int, int]
    """(width, height) of the photo with the fewest pixels."""
    median: tuple[int, int]
    """The median width, and the median height."""
    largest: tuple[int, int]
    shorter_sides: tuple[int, int, int]
    """Of the shorter side of each photo: the smallest, the 10th percentile and the median."""
    aspects: tuple[float, float, float]
    """Width over height: the smallest, the median and the largest."""

    def line(self) -> str:
        """All in words."""
        (narrow, usual, wide) = self.aspects
        aspect = f"width / height {usual:.2f}" if narrow == wide else f"width / height {narrow:.2f} to {wide:.2f}"
        if self.smallest == self.largest:
            return f"{_by(self.smallest)} pixels"
        return f"{_by(self.smallest)} to {_by(self.largest)} pixels, median {_by(self.median)}, {aspect}"


def measure(facts: Sequence[PhotoFacts]) -> Sizes | None:
    """The sizes of photos; None without photos."""
    if not facts:
        return None
    ordered = sorted(((each.width, each.height) for each in facts), key=lambda size: (size[0] * size[1], size))
    shorter = sorted(min(size) for size in ordered)
    aspects = sorted(width / height for width, height in ordered)
    return Sizes(
        smallest=ordered[0],
        median=(round(statistics.median(w for w, _ in ordered)), round(statistics.median(h for _, h in ordered))),
        largest=ordered[-1],
        shorter_sides=(shorter[0], shorter[len(shorter) // 10], shorter[len(shorter) // 2]),
        aspects=(aspects[0], aspects[len(aspects) // 2], aspects[-1]),
    )


def count_formats(facts: Sequence[PhotoFacts]) -> dict[str, int]:
    """Format → number of photos, the most frequent first."""
    return dict(Counter(each.image_format for each in facts).most_common())


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]:,} x {size[1]:,}"
