"""Photos with equal pixels, by a digest of each: how they are grouped, and how that is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from signs_dist.data.problems import shown_list
from signs_dist.monitoring.plain_text import one_line


@dataclass(frozen=True)
class Duplicates:
    """Groups of paths whose images are equal."""

    across: tuple[tuple[str, ...], ...]
    """In more than one split: the model is evaluated on an image that it has learned."""
    within: tuple[tuple[str, ...], ...]
    """In one split: the image counts twice."""
    conflicting: tuple[tuple[str, ...], ...] = ()
    """In more than one class, in one split or several: all labels but one are wrong."""


def find_duplicates(images: Mapping[str, tuple[str, str]], classes: Mapping[str, str]) -> Duplicates:
    """Group the paths of equal images.

    Args:
        images: path → (split, digest of the pixels).
        classes: path → class.
    """
    groups: dict[str, list[str]] = {}
    for path in sorted(images):
        groups.setdefault(images[path][1], []).append(path)
    several = [tuple(paths) for paths in groups.values() if len(paths) > 1]
    return sort_groups(several, {path: split for path, (split, _) in images.items()}, classes)


def sort_groups(groups: Sequence[tuple[str, ...]], splits: Mapping[str, str], classes: Mapping[str, str]) -> Duplicates:
    """Tell groups of equal images by what is wrong with them.

    Args:
        groups: the paths of each group.
        splits: path → split.
        classes: path → class.
    """
    across = [paths for paths in groups if len({splits[path] for path in paths}) > 1]
    return Duplicates(
        across=tuple(across),
        within=tuple(paths for paths in groups if len({splits[path] for path in paths}) == 1),
        conflicting=tuple(paths for paths in groups if len({classes[path] for path in paths}) > 1),
    )


def duplicate_lines(duplicates: Duplicates, *, num_shown: int | None = None) -> list[str]:
    """Warnings about duplicates; no lines if there are none."""
    lines = []
    if duplicates.conflicting:
        lines.append(
            f"problem: {_images_are(duplicates.conflicting)} in more than one class. Keep the file in the right class:"
        )
        lines += shown_list([" = ".join(map(one_line, paths)) for paths in duplicates.conflicting], num_shown)
    if duplicates.across:
        lines.append(
            f"warning: {_images_are(duplicates.across)} in more than one split, so the accuracy there is too high:"
        )
        lines += shown_list([" = ".join(map(one_line, paths)) for paths in duplicates.across], num_shown)
    within = [paths for paths in duplicates.within if paths not in duplicates.conflicting]
    if within:
        lines.append(f"{_images_are(within)} in one split more than once:")
        lines += shown_list([" = ".join(map(one_line, paths)) for paths in within], num_shown)
    return lines


def _images_are(groups: Sequence[object]) -> str:
    return "1 image is" if len(groups) == 1 else f"{len(groups):,} images are"
