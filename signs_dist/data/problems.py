"""How problems of many images are told: each kind once, with a count and examples."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from signs_dist.monitoring.plain_text import one_line

NUM_EXAMPLES = 3
MAX_LISTED = 20
"""More files than this with one problem are told in one line; more lines than this end in how many there are."""


@dataclass(frozen=True)
class BadFile:
    """An image that cannot be used, and why."""

    path: str
    reason: str


def bad_lines(bad: Sequence[BadFile], *, in_full: bool = False) -> list[str]:
    """A line for each bad image; for more than `MAX_LISTED` of one kind a line with their number and examples.

    Reasons that differ in numbers alone, such as those of truncated files, are of one kind.

    Args:
        bad: the images, in the order of the lines.
        in_full: a line for each image, however many there are.
    """
    kinds: dict[str, list[BadFile]] = {}
    for file in bad:
        kinds.setdefault(file.path if in_full else re.sub(r"[0-9,.]*[0-9]", "N", file.reason), []).append(file)
    lines: list[str] = []
    for files in kinds.values():
        if len(files) > MAX_LISTED:
            examples = ", ".join(one_line(file.path) for file in files[:NUM_EXAMPLES])
            lines.append(f"{files[0].reason}: {len(files):,} images, such as {examples}")
        else:
            lines += [f"{one_line(file.path)}: {file.reason}" for file in files]
    return shown_list(lines, None if in_full else MAX_LISTED)


def shown_list(lines: Sequence[str], num_shown: int | None) -> list[str]:
    """Indented lines: all, or `num_shown` of them and how many more there are."""
    shown = [f"  {line}" for line in lines[:num_shown]]
    return shown if len(shown) == len(lines) else [*shown, f"  and {len(lines) - len(shown):,} more"]


def listed(names: Sequence[str], *, num_shown: int = 5) -> str:
    """Names in a sentence: all, or the first of them and how many more there are."""
    shown = ", ".join(one_line(name) for name in names[:num_shown])
    return shown if len(names) <= num_shown else f"{shown} and {len(names) - num_shown:,} more"
