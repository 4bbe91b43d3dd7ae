"""Decide what `data.root` is, read it where it lies, and divide it where it is not split."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
from collections.abc import Callable, Sequence
from pathlib import Path

from signs_dist.config.settings import DataConfig
from signs_dist.data.folder import check_root, has_class_folders, has_split, index_data_set, set_notes
from signs_dist.data.folder import split_folder as folder_of_split
from signs_dist.data.kept_listing import KeptListings
from signs_dist.data.names import split_of_folder
from signs_dist.data.sources.collection import Collection, join, to_indexes
from signs_dist.data.sources.columns import MissingColumnError
from signs_dist.data.sources.dividing import Opened, Report, as_before, divide_collection, lacking_notes
from signs_dist.data.sources.division_file import read_division, shown_place
from signs_dist.data.sources.folders import find_metadata, read_folder, read_tables_of_splits
from signs_dist.data.sources.table import read_photos
from signs_dist.data.sources.table_file import OTHER_TABLES, TABLE_SUFFIXES, is_table_name
from signs_dist.errors import UserError


def open_roots(
    config: DataConfig,
    roots: Sequence[Path],
    *,
    copy: Path | None = None,
    report: Report | None = None,
    tell: Callable[[str], None] | None = None,
    keep: KeptListings | None = None,
) -> Opened:
    """Index the splits of a folder, of a table, or of several.

    Args:
        config: the data section.
        roots: folders or tables.
        copy: the division of a run that has begun: its images are used, and others are not. None, or a file that is
            missing: the division is that of data.split_folder, which is made or extended.
        report: called with the progress.
        tell: gets a line when this waits long for another process.
        keep: as in `index_split`, for the usual folder with train and val.

    Raises:
        UserError: a root is missing or holds no images with classes; or the images cannot be divided.
    """
    where = " + ".join(map(str, roots))
    found = read_roots(config, roots, keep)
    if isinstance(found, Opened) or not found.is_from_table:
        refuse_columns(config, where)
    if isinstance(found, Opened):
        refuse_division(config, where)
        return found
    return split_collection(found, config, roots, copy=copy, report=report, tell=tell)


def split_collection(
    found: Collection,
    config: DataConfig,
    roots: Sequence[Path],
    *,
    copy: Path | None,
    report: Report | None,
    tell: Callable[[str], None] | None,
) -> Opened:
    """The splits of photos as the data say them, or divided. Arguments and errors as `open_roots`."""
    where = " + ".join(map(str, roots))
    present = found.splits()
    if "val" in present:
        refuse_division(config, where)
        splits = to_indexes(found, [photo.split for photo in found.photos], where)
        return Opened(found.root, splits, (*found.notes, *lacking_notes(splits)))
    if "train" not in present and None not in present:
        raise UserError(f"{where} has {' and '.join(map(str, present))} images, but no train images. Add some.")
    known = read_division(copy) if copy is not None else None
    if known is not None:
        return as_before(found, known, shown_place(copy or Path()), where)
    return divide_collection(found, config, roots, where, report, tell)


def read_roots(config: DataConfig, roots: Sequence[Path], keep: KeptListings | None = None) -> Collection | Opened:
    """The photos of all roots; `Opened` for the usual folder with train and val, which needs nothing more.

    Raises:
        UserError: as `open_roots`.
    """
    if len(roots) == 1:
        return _read_one(roots[0], config, keep)
    _require_apart(roots)
    return join([_read_collection(root, config) for root in roots])


def _read_one(root: Path, config: DataConfig, keep: KeptListings | None) -> Collection | Opened:
    if config.label_pattern is None and root.is_dir() and has_split(root, "train") and has_split(root, "val"):
        try:
            splits = index_data_set(root, keep=keep)
        except UserError:  # flat folders without labels in the names: a table may tell them
            if tables := _tables_of_splits(root):
                return read_tables_of_splits(tables, root, config)
            if metadata := find_metadata(root):
                return read_photos(metadata, config)
            raise
        return Opened(root, splits, set_notes(root, splits))
    if root.is_dir() and split_of_folder(root.name) and has_split(root.absolute().parent, "val"):
        raise UserError(f"{root} is the folder of one split. Give the folder above, {root.absolute().parent}.")
    found = _read_collection(root, config)
    if root.is_dir() and config.label_pattern is None and {"train", "val"} <= set(found.splits()):
        inner = _folder_with_splits(found)
        if inner is not None:  # the usual folder lies one folder down
            splits = index_data_set(inner, keep=keep)
            return Opened(inner, splits, (f"read: {inner}, which holds the splits", *set_notes(inner, splits)))
    return found


def is_usual_folder(root: Path, config: DataConfig) -> bool:
    """Whether a folder tells splits and classes by its folders and the names in them, without a table or a pattern."""
    if not root.is_dir() or config.label_pattern is not None:
        return False
    return find_metadata(root) is None and not _tables_of_splits(root)


def _read_collection(root: Path, config: DataConfig) -> Collection:
    if root.is_file() and is_table_name(root):
        return read_photos(root, config)
    if root.is_file() and root.suffix.lower() in OTHER_TABLES:
        raise UserError(
            f"{root}: such a file is not read. Save the table as one of {', '.join(TABLE_SUFFIXES)}, such as CSV with "
            f"the columns path,label."
        )
    if is_table_name(root) and not root.exists():
        beside = [path.name for path in sorted(root.parent.glob("*")) if is_table_name(path)]
        near = difflib.get_close_matches(root.name, beside, n=1)
        raise UserError(f"there is no table {root}.{f' Did you mean {root.parent / near[0]}?' if near else ''}")
    check_root(root)
    metadata = find_metadata(root)
    if metadata is not None and config.label_pattern is None:
        try:
            return read_photos(metadata, config)
        except MissingColumnError:
            # Texts or boxes beside class folders: the classes are told by the folders, if by anything.
            with contextlib.suppress(UserError):
                found = read_folder(root, config)
                return dataclasses.replace(
                    found, notes=(*found.notes, f"not used: {metadata.name}, which has no column with classes")
                )
            raise
    if config.label_pattern is None and has_split(root, "train") and (tables := _tables_of_splits(root)):
        return read_tables_of_splits(tables, root, config)
    return read_folder(root, config)


def _tables_of_splits(root: Path) -> dict[str, Path]:
    """The tables beside the images of each split, where these lie in no class folders; none if train has none."""
    tables = {}
    for split in ("train", "val", "test"):
        if has_split(root, split):
            folder = folder_of_split(root, split)
            table = find_metadata(folder)
            if table is not None and not has_class_folders(folder):
                tables[split] = table
    return tables if "train" in tables else {}


def _folder_with_splits(collection: Collection) -> Path | None:
    """The folder that holds the splits' folders of a collection; None if they are not in one."""
    train = next(photo.path for photo in collection.photos if photo.split == "train").split("/")
    for depth in range(len(train) - 1):
        folder = collection.root.joinpath(*train[:depth])
        if has_split(folder, "train") and has_split(folder, "val"):
            return folder
    return None


def _require_apart(roots: Sequence[Path]) -> None:
    """Refuse a root that is given twice, or lies in another one: its images would count twice."""
    for root in roots:
        if not root.is_file():
            check_root(root)
    for number, later in enumerate(roots):
        for earlier in roots[:number]:
            place, other = later.resolve(), earlier.resolve()
            if place == other:
                again = "twice" if later == earlier else f"twice, also as {earlier}"
                raise UserError(f"data.root: {later} is given {again}. Give it once.")
            for inner, outer in ((place, other), (other, place)):
                if outer in inner.parents and outer.is_dir() and inner.is_dir():
                    raise UserError(
                        f"data.root: {inner} lies in {outer}, and its images would count twice. Give one of them."
                    )


def refuse_columns(config: DataConfig, where: str, *, has_label: bool = False) -> None:
    """Refuse columns of a table where there is none. `has_label`: data.columns.label is read all the same."""
    columns = config.columns
    given = {"path": columns.path, "label": columns.label, "split": columns.split, "group": columns.group}
    unused = [use for use, value in given.items() if value is not None and not (has_label and use == "label")]
    if unused:
        groups = " data.group_pattern finds groups in paths." if unused[0] == "group" else ""
        raise UserError(
            f"data.columns.{unused[0]} is a column of a table, and {where} has none. Delete data.columns.{unused[0]}, "
            f"or name the table with data.root.{groups}"
        )


def refuse_division(config: DataConfig, where: str) -> None:
    """Refuse settings of a division where there is nothing to divide."""
    given = {
        "data.split": config.split,
        "data.group_pattern": config.group_pattern,
        "data.columns.group": config.columns.group,
        "data.split_seed": config.split_seed or None,
    }
    unused = [name for name, value in given.items() if value is not None]
    if unused:
        raise UserError(
            f"{unused[0]} divides images that are not split, and {where} has train and val images. Delete {unused[0]}, "
            f"or give the images without splits."
        )
