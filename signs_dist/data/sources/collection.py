"""Labelled photos as they were found in one place or several, before they are divided."""

from __future__ import annotations

import dataclasses
import itertools
import os
import re
from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

from signs_dist.data.folder import ImageIndex, labels_of_classes, sorted_classes
from signs_dist.data.listing import PassedOver
from signs_dist.data.names import SPLITS, listed, printable
from signs_dist.errors import UserError


class Photo(NamedTuple):
    """A photo with its class."""

    path: str
    """Below the collection's root, with forward slashes."""
    class_name: str
    split: str | None = None
    """train, val or test, as the data say; None: the data are not split."""
    group: str | None = None
    name: str = ""
    """What a division calls it, where that is not `path`."""

    @property
    def known_as(self) -> str:
        """Its name in a division."""
        return self.name or self.path


@dataclasses.dataclass(frozen=True)
class Collection:
    """The photos of a folder, of a table, or of several."""

    root: Path
    """The folder that all paths begin at."""
    photos: Sequence[Photo]
    """Sorted by path."""
    notes: tuple[str, ...] = ()
    """What a user should know, a line each."""
    is_from_table: bool = False
    """Whether a table named photos, so that `data.columns` was read."""

    def splits(self) -> tuple[str | None, ...]:
        """The splits that the data have, in the order train, val, test; None stands for photos without one."""
        present = {photo.split for photo in self.photos}
        return tuple(split for split in (None, *SPLITS) if split in present)


def whole_path(path: Path) -> str:
    """A path from / on, without `..`. Links stay: images are named as they were given."""
    return os.path.normpath(path.absolute())


def group_of(path: str, pattern: re.Pattern[str]) -> str | None:
    """What the one group of a pattern finds in a path; None where it finds nothing."""
    match = pattern.search(path)
    return match[1] if match and match[1] else None


def require_found(found: Sequence[str | None], paths: Sequence[str], setting: str, pattern: str, where: object) -> None:
    """Refuse a pattern that finds nothing in some paths.

    Raises:
        UserError: it names the setting, the number of paths, and some of them.
    """
    without = [path for path, value in zip(paths, found, strict=True) if value is None]
    if without:
        count = "any of the" if len(without) == len(paths) else f"{len(without):,} of"
        raise UserError(
            f"data.{setting}='{pattern}' finds nothing in {count} {len(paths):,} paths below {where}, such as "
            f"{listed(without, 3)}. Change the expression, which is searched anywhere in the path, or remove it."
        )


def join(collections: Sequence[Collection]) -> Collection:
    """The photos of several places below the folder that holds them all. Equal class names are one class.

    Raises:
        UserError: some are split and others are not, or a photo is in two of them.
    """
    unsplit = [str(each.root) for each in collections if None in each.splits()]
    if unsplit and len(unsplit) < len(collections):
        others = [str(each.root) for each in collections if None not in each.splits()]
        raise UserError(
            f"data.root: {listed(others)} {'is' if len(others) == 1 else 'are'} split into train, val or test, and "
            f"{listed(unsplit)} {'is' if len(unsplit) == 1 else 'are'} not. Give roots that are all split, or none."
        )
    roots = [whole_path(each.root) for each in collections]
    common = os.path.commonpath(roots)
    photos: list[Photo] = []
    for root, each in zip(roots, collections, strict=True):
        below = os.path.relpath(root, common)
        prefix = "" if below == "." else f"{below}/"
        photos += [photo._replace(path=prefix + photo.path, name="") for photo in each.photos]
    photos.sort(key=itemgetter(0))
    for before, after in itertools.pairwise(photos):
        if before.path == after.path:
            raise UserError(f"data.root: {Path(common, after.path)} is in two of the roots. Remove it from one.")
    notes = tuple(dict.fromkeys(note for each in collections for note in each.notes))
    return Collection(Path(common), photos, notes, any(each.is_from_table for each in collections))


def to_indexes(collection: Collection, split_of: Sequence[str | None], where: str) -> dict[str, ImageIndex]:
    """The index of each split, all with the classes of train.

    Args:
        collection: the photos.
        split_of: the split of each photo; None: it is not used.
        where: what `data.root` was, for messages.

    Raises:
        UserError: no training photo, a single class, or a class of val or test that train lacks.
    """
    of_split: dict[str, list[Photo]] = {split: [] for split in SPLITS}
    for photo, split in zip(collection.photos, split_of, strict=True):
        if split is not None:
            of_split[split].append(photo)
    for split in ("train", "val"):
        if not of_split[split]:
            raise UserError(f"{where} has no {split} images. Name some, or leave out all splits: they are then chosen.")
    classes = sorted_classes({photo.class_name for photo in of_split["train"]})
    if len(classes) < 2:
        raise UserError(
            f"{where}: train has the single class {printable(classes[0])!r}. A classifier needs images of two or more."
        )
    return {
        split: _index(collection.root, split, photos, classes, where) for split, photos in of_split.items() if photos
    }


def to_index(collection: Collection, split: str, classes: Sequence[str], where: str) -> ImageIndex:
    """All photos as one split, with the given classes. Raises `UserError` for a photo of another class."""
    return _index(collection.root, split, collection.photos, classes, where)


def _index(root: Path, split: str, photos: Sequence[Photo], classes: Sequence[str], where: str) -> ImageIndex:
    label_of = labels_of_classes({photo.class_name for photo in photos}, classes)
    unknown = sorted_classes({name for name, label in label_of.items() if label is None})
    if unknown:
        examples = [photo.path for photo in photos if label_of[photo.class_name] is None]
        raise UserError(
            f"{where}: the {split} images have class {listed(unknown)}, which is not among the classes "
            f"{listed(list(classes))} ({len(examples):,} of them, such as {printable(examples[0])}). "
            f"Move these images to another split or place, or add the class to train."
        )
    import numpy  # not for --help of the commands that read tables

    return ImageIndex(
        root=root,
        split=split,
        classes=tuple(classes),
        paths=tuple(photo.path for photo in photos),
        labels=numpy.array([label_of[photo.class_name] for photo in photos], dtype=numpy.int64),
        passed_over=PassedOver(),
    )
