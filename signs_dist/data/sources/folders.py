"""The photos of a folder that holds no train and val, read where they lie."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from signs_dist.data.listing import list_images
from signs_dist.data.names import check_class_names, class_notes, is_printable, listed, printable, same_class
from signs_dist.data.names import split_of_folder as split_of_word
from signs_dist.data.photos.sources import arrange, list_source, require_usable
from signs_dist.data.sources.collection import Collection, Photo, group_of, require_found
from signs_dist.data.sources.table import read_photos
from signs_dist.data.sources.table_file import TABLE_SUFFIXES
from signs_dist.errors import UserError

if TYPE_CHECKING:
    from signs_dist.config.settings import DataConfig

METADATA = "metadata"
"""The table beside images in Hugging Face's layout: metadata.csv, metadata.jsonl, metadata.parquet."""
ONE_HOT = "_classes.csv"
"""The table beside the images of each split in Roboflow's layout: a column of zeros and ones for each class."""


def find_metadata(folder: Path) -> Path | None:
    """The table that tells the classes of a folder's images, if there is one.

    Raises:
        UserError: there are several.
    """
    found = [path for suffix in TABLE_SUFFIXES if (path := folder / f"{METADATA}{suffix}").is_file()]
    if not found and (folder / ONE_HOT).is_file():
        return folder / ONE_HOT
    if len(found) > 1:
        raise UserError(f"{folder} has {listed([path.name for path in found])}. Give one: data.root={found[0]}")
    return found[0] if found else None


def read_folder(root: Path, config: DataConfig) -> Collection:
    """The photos of class folders, with labels in their names, or with a class that `data.label_pattern` finds.

    Raises:
        UserError: there are no photos, or photos have no class.
    """
    collection = _by_pattern(root, config.label_pattern) if config.label_pattern is not None else _by_layout(root)
    return with_groups(collection, config)


def read_tables_of_splits(tables: dict[str, Path], root: Path, config: DataConfig) -> Collection:
    """The photos of splits that each have a table: train/metadata.csv, test/metadata.csv.

    Args:
        tables: split → its table.
        root: the folder that holds the splits' folders.
        config: the data section.
    """
    photos: list[Photo] = []
    notes: list[str] = []
    for split, path in tables.items():
        found = read_photos(path, config, split=split)
        folder = path.parent.name
        if found.root != path.parent:
            raise UserError(f"{path} names images outside its folder. Put one table into {root}, with all of them.")
        photos += [photo._replace(path=f"{folder}/{photo.path}", name="") for photo in found.photos]
        notes += [f"{folder}/{note}" for note in found.notes]
    return Collection(root, sorted(photos), tuple(notes), is_from_table=True)


def _by_layout(root: Path) -> Collection:
    listing = list_source(root)
    if not listing.files:
        zips = sorted(path.name for path in root.glob("*.zip"))
        packed = f" Unpack {zips[0]}: python -m signs_dist.data.build --source {root / zips[0]}." if zips else ""
        raise UserError(
            f"{root} holds no images. Give a folder with a folder for each class, with names such as 3_IMG_5942.jpg, "
            f"or with train/ and val/, or train_signs/ and val_signs/.{packed}{listing.passed_over.sentence()}"
        )
    arrangement = arrange(listing, root)
    require_usable(arrangement, root)
    if arrangement.bad_names:
        path, reason = arrangement.bad_names[0]
        more = f", and {len(arrangement.bad_names) - 1:,} like it" if len(arrangement.bad_names) > 1 else ""
        raise UserError(
            f"{root}: {path}: {reason}{more}. Rename or remove these files, put them into class folders, or say with "
            f"data.label_pattern where in the path the class is."
        )
    outside = [f"outside the splits, and not used: {listed(list(arrangement.outside))}"] if arrangement.outside else []
    photos = sorted(Photo(image.file.path, image.class_name, image.split) for image in arrangement.images)
    return Collection(root, photos, (*arrangement.notes, *outside))


def _by_pattern(root: Path, pattern: str) -> Collection:
    listing = list_images(root)
    if not listing.images:
        raise UserError(f"{root} holds no images.{listing.passed_over.sentence()}")
    bad = [path for path in listing.images if not is_printable(path)]
    if bad:
        raise UserError(f"{root}: {printable(bad[0])} has control characters in its name, or is not UTF-8. Rename it.")
    splits = _splits_of(listing.images)
    used = [path for path, split in zip(listing.images, splits, strict=True) if split != _OUTSIDE]
    expression = re.compile(pattern)
    found = [group_of(path, expression) for path in used]
    require_found(found, used, "label_pattern", pattern, root)
    classes = [name for name in found if name is not None]
    check_class_names(classes, root, kind="class")
    class_of = same_class(set(classes))
    inside = [split for split in splits if split != _OUTSIDE]
    photos = sorted(Photo(path, class_of[name], split) for path, name, split in zip(used, classes, inside, strict=True))
    notes = [*listing.passed_over.notes(), *class_notes(set(classes), kind="label")]
    if len(used) < len(listing.images):
        others = [path for path, split in zip(listing.images, splits, strict=True) if split == _OUTSIDE]
        notes.append(f"outside the splits, and not used: {listed(others)}")
    return Collection(root, photos, tuple(notes))


_OUTSIDE = "outside"


def _splits_of(paths: Sequence[str]) -> list[str | None]:
    """The split of each path by its first folder; None for all if no folder is train; `_OUTSIDE` beside the splits."""
    split_of = {top: split_of_word(top) for top in {path.partition("/")[0] for path in paths if "/" in path}}
    if "train" not in split_of.values():
        return [None] * len(paths)
    return [split_of.get(path.partition("/")[0]) or _OUTSIDE for path in paths]


def with_groups(collection: Collection, config: DataConfig) -> Collection:
    """The photos with the groups that `data.group_pattern` finds in their paths, if it is given.

    Raises:
        UserError: it finds nothing in some paths.
    """
    if config.group_pattern is None:
        return collection
    expression = re.compile(config.group_pattern)
    paths = [photo.path for photo in collection.photos]
    groups = [group_of(path, expression) for path in paths]
    require_found(groups, paths, "group_pattern", config.group_pattern, collection.root)
    photos = [photo._replace(group=group) for photo, group in zip(collection.photos, groups, strict=True)]
    return dataclasses.replace(collection, photos=photos)
