"""Choose settings for photos that were inspected, each with its reason, and write them as a config. Pure functions."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from signs_dist.data.few_photos import settings_for_few
from signs_dist.data.inspection.clean_table import reasons_for_table
from signs_dist.data.inspection.findings import ENOUGH_TO_WEIGH, imbalance
from signs_dist.data.inspection.inspecting import Inspection
from signs_dist.data.inspection.measures import Sizes, measure
from signs_dist.data.names import printable
from signs_dist.data.next_step import LARGEST_IMAGE_SIZE

USUAL_SIZE = 64
SMALL_SIZES = (48, 32)
"""Sides of the images of a run, in pixels; small ones for small photos."""
ENOUGH_FOR_THREE = 500
"""From so many photos on, a tenth of them is enough to test on."""
_LENGTHS = ((2_000, 40, 32), (20_000, 20, 32), (None, 10, 128))
"""(fewer training photos than this, epochs, images per step)."""
_LINE = 110


@dataclass(frozen=True)
class Choice:
    """A setting, and why it has its value."""

    key: str
    """Section and name, such as `data.root`."""
    value: Any
    reason: str


def choose_settings(
    found: Inspection, root: str, *, given: Mapping[str, Any], is_table: bool, has_groups: bool, stored_size: int | None
) -> list[Choice]:
    """The settings of a run on the photos, in the order of the config.

    Args:
        found: the photos.
        root: data.root as it is written.
        given: settings that the user typed, such as data.label_pattern.
        is_table: whether it is a table of `clean_table`.
        has_groups: whether the table has groups.
        stored_size: side of the images in pixels if `build` made them.
    """
    sizes = measure([found.facts[photo.path] for photo in found.photos])
    assert sizes is not None, "only photos that can be used have a config"
    splits = found.listed.splits
    num_all = sum(photo.split in (None, "train") for photo in found.photos)
    shares = (0.8, 0.1, 0.1) if num_all >= ENOUGH_FOR_THREE and "test" not in splits else (0.8, 0.2)
    num_train = num_all if "val" in splits else round(shares[0] * num_all)
    chosen = [
        Choice("data.root", root, _why_root(found, is_table=is_table)),
        *([Choice("data.columns.group", "group", "copies stay on one side of the division")] if has_groups else []),
        *([] if "val" in splits else [Choice("data.split", list(shares), _why_split(shares, num_all, splits))]),
        _choose_size(sizes, stored_size),
        *_choose_flip(found),
        *_choose_weights(found),
        *_choose_length(num_train),
    ]
    as_typed = [Choice(key, value, "as you typed it") for key, value in given.items()]
    root_choice, *others = (choice for choice in chosen if choice.key not in given)
    return [root_choice, *as_typed, *others]


def _why_root(found: Inspection, *, is_table: bool) -> str:
    if not is_table:
        return f"{found.listed.layout}; read where it lies"
    return f"a table of the photos where they lie: {', and '.join(reasons_for_table(found))}"


def _why_split(shares: Sequence[float], num_all: int, splits: Sequence[str]) -> str:
    how = "of each class its share, written down at the first run, so that it never changes"
    if len(shares) == 3:
        return f"train, val and test: {how}; a tenth is {num_all // 10:,} photos"
    if "test" in splits:
        return f"val is taken from train: {how}"
    return f"train and val: {how}; with {num_all:,} photos, a tenth for test would be too few to judge by"


def _choose_size(sizes: Sizes, stored_size: int | None) -> Choice:
    if stored_size is not None:
        return Choice("data.image_size", min(stored_size, LARGEST_IMAGE_SIZE), "as the data set was built")
    middle = sizes.shorter_sides[2]
    if middle < USUAL_SIZE:
        size = next((size for size in SMALL_SIZES if size <= middle), SMALL_SIZES[-1])
        return Choice("data.image_size", size, f"half of the photos have a side of {middle} pixels or fewer")
    more = 2 * USUAL_SIZE
    hint = f"; {more} shows more, at 4 times the time, if classes differ in details" if middle >= more else ""
    return Choice("data.image_size", USUAL_SIZE, f"the photos are larger (median {_by(sizes.median)}){hint}")


def _choose_flip(found: Inspection) -> list[Choice]:
    words = {
        word for name in found.class_counts() for word in name.casefold().replace("_", " ").replace("-", " ").split()
    }
    if {"left", "right"} <= words:
        return [Choice("augment.flip", 0.0, "a mirror image of a left class is of a right one")]
    return []


def _choose_weights(found: Inspection) -> list[Choice]:
    counts = dict(found.counts.get("train") or found.class_counts())
    uneven = imbalance(counts)
    if uneven is not None:
        largest, smallest = uneven
        reason = f"{largest} has {counts[largest] / counts[smallest]:.0f} times the photos of {smallest}"
        return [Choice("loss.class_weights", "balanced", f"{reason}; so each class counts the same")]
    tiny = [name for name, count in counts.items() if count < ENOUGH_TO_WEIGH]
    if tiny and len(tiny) < len(counts):
        few = tiny[0] if len(tiny) == 1 else f"{len(tiny)} classes"
        reason = f"the {counts[tiny[0]]} photos of {few}" if len(tiny) == 1 else f"the few photos of {few}"
        return [Choice("loss.class_weights", None, f"{reason}, weighed by their rarity, would unsettle a training")]
    return [Choice("loss.class_weights", None, "the classes are about equally large")]


def _choose_length(num_train: int) -> list[Choice]:
    from signs_dist.config.settings import Config  # pydantic: not for --help

    few = settings_for_few(num_train, Config())
    epochs, batch = next((epochs, batch) for limit, epochs, batch in _LENGTHS if limit is None or num_train < limit)
    batch = few.get("train.global_batch", batch)
    epochs = few.get("train.epochs", epochs)
    steps = max(1, num_train // batch)
    an_epoch = "1 step" if steps == 1 else f"{steps:,} steps"
    choices = []
    if "optim.lr" in few:
        choices.append(Choice("optim.lr", few["optim.lr"], "few photos learn better with small steps"))
    return [
        *choices,
        Choice(
            "train.epochs",
            epochs,
            f"about {num_train:,} training photos: {an_epoch} an epoch, {steps * epochs:,} in all",
        ),
        Choice("train.global_batch", batch, "images per step, over all processes"),
    ]


def config_text(
    choices: Sequence[Choice], source: Path, config: Path, num_photos: int, typed: Sequence[str] = ()
) -> str:
    """The choices as a config in YAML, each below a comment with its reason. Of a setting that is not set, with a value
    of None, there is a comment only. `typed` are the settings of the command, such as `data.columns.label=kind`."""
    from signs_dist.config.yaml_text import format_value

    lines = [
        f"# Written by: python -m signs_dist.inspect {shlex.join([str(source), *typed, '--write', str(config)])}",
        f"# {num_photos:,} photos. To train: python -m signs_dist.train --config {shlex.quote(str(config))}",
        "# What is not written here has its default: add --explain to see them all.",
    ]
    above: list[str] = []
    for choice in choices:
        *sections, name = choice.key.split(".")
        if choice.value is None:
            lines += _comment(f"{choice.key} is not set: {choice.reason}")
            continue
        for depth in range(len(sections)):
            if above[: depth + 1] != sections[: depth + 1]:
                lines.append(f"{'  ' * depth}{sections[depth]}:")
        above = sections
        indent = "  " * len(sections)
        lines += [*_comment(choice.reason, indent), f"{indent}{name}: {format_value(choice.value)}"]
    return "\n".join(lines) + "\n"


def _comment(text: str, indent: str = "") -> list[str]:
    wrapped = textwrap.wrap(printable(text), _LINE - len(indent), break_on_hyphens=False)
    return [f"{indent}# {line}" for line in wrapped]


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]:,} x {size[1]:,}"
