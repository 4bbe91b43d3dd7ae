"""How many images of each class each split has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from signs_dist.data.folder import sorted_classes
from signs_dist.data.names import SPLITS

UNSPLIT = "all"
"""What the one split of images that are not split is called."""


def count_classes(images: Iterable[tuple[str | None, str]]) -> dict[str, dict[str, int]]:
    """Number of images of each class, for each split.

    Args:
        images: (split, class) of each. Images without a split are counted in the split `all`.
    """
    pairs = [(split or UNSPLIT, class_name) for split, class_name in images]
    classes = sorted_classes({class_name for _, class_name in pairs})
    present = {split for split, _ in pairs}
    counts = {split: dict.fromkeys(classes, 0) for split in (UNSPLIT, *SPLITS) if split in present}
    for split, class_name in pairs:
        counts[split][class_name] += 1
    return counts


def missing_classes(counts: Mapping[str, Mapping[str, int]]) -> tuple[tuple[str, str], ...]:
    """The (split, class) pairs without an image."""
    return tuple((split, name) for split, row in counts.items() for name, count in row.items() if count == 0)
