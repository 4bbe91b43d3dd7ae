"""Find where in a source its data set lies: below which folder, in which splits. Pure functions on paths."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from signs_dist.data.names import (
    is_mere_container,
    label_of_name,
    listed,
    named_like_split_message,
    printable,
    split_of_folder,
)
from signs_dist.data.photos.archive import SourceFile
from signs_dist.errors import UserError


@dataclass(frozen=True)
class PlacedFile:
    """A file of the data set."""

    split: str | None
    name: str
    """Path below the split's folder, or below the folder that holds the classes."""
    file: SourceFile


@dataclass(frozen=True)
class Place:
    """Where in a source the data set lies."""

    prefix: str
    """The folder that holds it, with its slash, or empty."""
    tops: dict[str, str] = dataclasses.field(default_factory=dict)
    """Folder of a split, with slashes and without the prefix → split. Empty: the source is not split."""

    def of(self, file: SourceFile) -> PlacedFile | None:
        """A file's place in the data set; None: it lies outside."""
        if not file.path.startswith(self.prefix):
            return None
        inner = file.path[len(self.prefix) :]
        if not self.tops:
            return PlacedFile(None, inner, file)
        for top, split in self.tops.items():
            if inner.startswith(top):
                return PlacedFile(split, inner[len(top) :], file)
        return None


def find_place(paths: Sequence[str], where: Path) -> Place:
    """Find the data set in the paths of a source's images.

    Raises:
        UserError: there are several data sets, or class folders with splits in them. `where` is for the message.
    """
    prefix = ""
    while True:
        inner = [path[len(prefix) :].split("/") for path in paths]
        tops = sorted({parts[0] for parts in inner if len(parts) > 1})
        splits = {top: split for top in tops if (split := split_of_folder(top)) is not None}
        if splits:
            return Place(prefix, {_split_top(top, split, inner): split for top, split in splits.items()})
        below = _sets_one_folder_down(inner, f"{where}/{prefix}" if prefix else str(where))
        is_single = len(tops) == 1 and all(len(parts) > 1 for parts in inner)
        if below is None and not (is_single and any(len(parts) > 2 or label_of_name(parts[1]) for parts in inner)):
            return Place(prefix)
        prefix += f"{below or tops[0]}/"
        paths = [path for path in paths if path.startswith(prefix)]


def _split_top(top: str, split: str, inner: list[list[str]]) -> str:
    """The folder of a split, or the one folder in it that holds all its images and is no class.

    As `data.folder`: seg_train/seg_train/, or train/images/ with the classes below.
    """
    paths = [parts for parts in inner if parts[0] == top]
    second = {parts[1] if len(parts) > 2 else "" for parts in paths}
    if len(second) == 1 and (name := second.pop()):
        has_labels = all(len(parts) > 3 or label_of_name(parts[2]) is not None for parts in paths)
        if split_of_folder(name) == split or (is_mere_container(name) and has_labels):
            return f"{top}/{name}/"
    return f"{top}/"


def _sets_one_folder_down(inner: list[list[str]], where: str) -> str | None:
    """The folder whose subfolders are splits; None if there is none."""
    splits_of: dict[str, set[str]] = {}
    has_labels: set[str] = set()
    for parts in inner:
        split = split_of_folder(parts[1]) if len(parts) > 2 else None
        if split is not None:
            splits_of.setdefault(parts[0], set()).add(split)
            if len(parts) > 3 or label_of_name(parts[2]) is not None:
                has_labels.add(parts[0])
    with_train = sorted(top for top, splits in splits_of.items() if "train" in splits)
    if len(with_train) > 1 and not has_labels:
        raise UserError(
            f"{where} has class folders with splits in them ({listed(with_train)}). Put the splits above the classes: "
            f"train/{printable(with_train[0])}/ and val/{printable(with_train[0])}/."
        )
    sets = [top for top in with_train if top in has_labels]
    if len(sets) > 1:
        raise UserError(f"{where} holds several data sets: {listed(sets)}. Give one of them as --source.")
    return sets[0] if sets else None


def check_splits(placed: Sequence[PlacedFile], place: Place, outside: Iterable[str], where: Path) -> None:
    """Refuse splits that cannot be meant so.

    Raises:
        UserError: two folders for one split, no train split, or a class that is called as a split is.
    """
    folder_of_split: dict[str, str] = {}
    for top, split in place.tops.items():
        other = folder_of_split.setdefault(split, top)
        if other != top:
            raise UserError(
                f"{where} has both {place.prefix}{other} and {place.prefix}{top} for {split}. "
                f"Keep one: rename or move the other."
            )
    others = sorted({path[len(place.prefix) :].partition("/")[0] for path in outside if _is_beside(path, place.prefix)})
    unlabelled = sorted(
        top
        for top, split in place.tops.items()
        if all("/" not in found.name and label_of_name(found.name) is None for found in placed if found.split == split)
    )
    is_train_missing = "train" not in folder_of_split
    beside = others or ([top.strip("/") for top in unlabelled[1:]] if is_train_missing else [])
    if beside and unlabelled and (is_train_missing or folder_of_split["train"] in unlabelled):
        raise UserError(named_like_split_message(f"{where}/{place.prefix}".rstrip("/"), unlabelled[0], beside))
    if is_train_missing:
        raise UserError(
            f"{where} has {place.prefix}{next(iter(folder_of_split.values()))} but no training images. "
            f"Add a folder train/ or train_signs/ beside it."
        )


def _is_beside(path: str, prefix: str) -> bool:
    return path.startswith(prefix) and "/" in path[len(prefix) :]


def check_not_splits(placed: Sequence[PlacedFile], prefix: str, where: Path) -> None:
    """Refuse "classes" that all hold the same folders.

    Raises:
        UserError: they are splits in another language, or the folds of a cross-validation.
    """
    subfolders: dict[str, set[str]] = {}
    for found in placed:
        top, *inner = found.name.split("/")[:-1]
        subfolders.setdefault(top, set()).add(inner[0] if inner else "")
    first = next(iter(subfolders.values()))
    is_alike = all(names == first for names in subfolders.values())
    if len(subfolders) > 1 and len(first) > 1 and "" not in first and is_alike:
        tops = sorted(subfolders)
        raise UserError(
            f"{where}: the folders {listed(tops)} all hold the same folders {listed(sorted(first))}, as splits do and "
            f"classes do not. If they are splits, rename them to train, val and test. If they are classes, put them "
            f"into one folder called train, such as {prefix}train/{printable(tops[0])}/."
        )
