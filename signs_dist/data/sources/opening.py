"""Decide what `data.root` is, read it where it lies, and divide it where it is not split."""

from __future__ import annotations

import contextlib
import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from signs_dist.config.data_settings import DEFAULT_SHARES
from signs_dist.config.settings import DataConfig
from signs_dist.data.folder import ImageIndex, check_root, has_class_folders, has_split, index_data_set, set_notes
from signs_dist.data.folder import split_folder as folder_of_split
from signs_dist.data.names import listed, printable, split_of_folder
from signs_dist.data.photos.archive import SourceFile
from signs_dist.data.photos.copies import Copies, find_copies
from signs_dist.data.sources.collection import Collection, Photo, join, to_indexes
from signs_dist.data.sources.columns import MissingColumnError
from signs_dist.data.sources.division import divide, make_units
from signs_dist.data.sources.division_file import agree, file_of, read_division, shown_place
from signs_dist.data.sources.folders import find_metadata, read_folder, read_tables_of_splits
from signs_dist.data.sources.table import read_photos
from signs_dist.data.sources.table_file import OTHER_TABLES, TABLE_SUFFIXES, is_table_name
from signs_dist.errors import UserError

Report = Callable[[str, int, int], None]
"""Called with (the work in progress, images done, images in all)."""


@dataclasses.dataclass(frozen=True)
class Opened:
    """The splits of `data.root`.

    Attributes:
        root: the folder that all paths begin at.
        splits: the index of each split.
        notes: what a user should know, a line each.
        division: name → split of the images that were divided; None where the data say all splits.
    """

    root: Path
    splits: Mapping[str, ImageIndex]
    notes: tuple[str, ...] = ()
    division: Mapping[str, str] | None = None


def open_roots(
    config: DataConfig,
    roots: Sequence[Path],
    *,
    copy: Path | None = None,
    report: Report | None = None,
    tell: Callable[[str], None] | None = None,
) -> Opened:
    """Index the splits of a folder, of a table, or of several.

    Args:
        config: the data section.
        roots: folders or tables.
        copy: the division of a run that has begun: its images are used, and others are not. None, or a file that is
            missing: the division is that of data.split_folder, which is made or extended.
        report: called with the progress.
        tell: gets a line when this waits long for another process.

    Raises:
        UserError: a root is missing or holds no images with classes; or the images cannot be divided.
    """
    where = " + ".join(map(str, roots))
    found = read_roots(config, roots)
    if isinstance(found, Opened):
        _refuse_division(config, where)
        return found
    present = found.splits()
    if "val" in present:
        _refuse_division(config, where)
        return Opened(found.root, to_indexes(found, [photo.split for photo in found.photos], where), found.notes)
    if "train" not in present and None not in present:
        raise UserError(f"{where} has {' and '.join(map(str, present))} images, but no train images. Add some.")
    known = read_division(copy) if copy is not None else None
    if known is not None:
        return _as_before(found, known, shown_place(copy or Path()), where)
    return _divided(found, config, roots, where, report, tell)


def read_roots(config: DataConfig, roots: Sequence[Path]) -> Collection | Opened:
    """The photos of all roots; `Opened` for the usual folder with train and val, which needs nothing more.

    Raises:
        UserError: as `open_roots`.
    """
    if len(roots) == 1:
        return _read_one(roots[0], config)
    _require_apart(roots)
    return join([_read_collection(root, config) for root in roots])


def _read_one(root: Path, config: DataConfig) -> Collection | Opened:
    if config.label_pattern is None and root.is_dir() and has_split(root, "train") and has_split(root, "val"):
        tables = _tables_of_splits(root)
        if tables:
            return read_tables_of_splits(tables, root, config)
        try:
            splits = index_data_set(root)
        except UserError:
            metadata = find_metadata(root)
            if metadata is None:
                raise
            return read_photos(metadata, config)
        return Opened(root, splits, set_notes(root, splits))
    if root.is_dir() and split_of_folder(root.name) and has_split(root.absolute().parent, "val"):
        raise UserError(f"{root} is the folder of one split. Give the folder above, {root.absolute().parent}.")
    found = _read_collection(root, config)
    if root.is_dir() and config.label_pattern is None and {"train", "val"} <= set(found.splits()):
        inner = _folder_with_splits(found)
        if inner is not None:  # the usual folder lies one folder down
            splits = index_data_set(inner)
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


def _refuse_division(config: DataConfig, where: str) -> None:
    """Refuse settings of a division where there is nothing to divide."""
    given = {
        "data.split": config.split,
        "data.group_pattern": config.group_pattern,
        "data.columns.group": config.columns.group,
    }
    unused = [name for name, value in given.items() if value is not None]
    if unused:
        raise UserError(
            f"{unused[0]} divides images that are not split, and {where} has train and val images. Delete {unused[0]}, "
            f"or give the images without splits."
        )


def _as_before(found: Collection, known: Mapping[str, str], place: str, where: str) -> Opened:
    """The splits of a run that has begun."""
    split_of = [photo.split if photo.split in ("val", "test") else known.get(photo.known_as) for photo in found.photos]
    if not any(split_of):
        raise UserError(f"none of the images of {place} is in {where}. Give their place with data.root=FOLDER")
    notes = [f"divided as when the run began ({place})"]
    num_new = split_of.count(None)
    if num_new:
        words = "image was" if num_new == 1 else "images were"
        notes.append(f"{num_new:,} {words} added since, and not used by this run; a new run takes all")
    splits = to_indexes(found, split_of, where)
    used = {photo.known_as: known[photo.known_as] for photo in found.photos if photo.known_as in known}
    if len(used) < len(known):
        notes.append(f"{len(known) - len(used):,} images of the run are gone")
    return Opened(found.root, splits, (*found.notes, *notes), used)


def _divided(
    found: Collection,
    config: DataConfig,
    roots: Sequence[Path],
    where: str,
    report: Report | None,
    tell: Callable[[str], None] | None,
) -> Opened:
    shares = choose_shares(config.split, has_test="test" in found.splits())
    photos = {photo.known_as: photo for photo in found.photos if photo.split in (None, "train")}
    classes = {name: photo.class_name for name, photo in photos.items()}
    if len(set(classes.values())) < 2:
        only = printable(next(iter(classes.values())))
        raise UserError(f"{where}: all images are of the single class {only!r}. A classifier needs two or more.")
    groups = {name: photo.group for name, photo in photos.items() if photo.group is not None} or None
    _require_outside(Path(config.split_folder), roots)
    facts = {
        "shares": shares,
        "seed": config.split_seed,
        "group": [config.group_pattern, config.columns.group],
        "label": [config.label_pattern, config.columns.label],
    }
    path = file_of(Path(config.split_folder), roots, facts)
    num_known = num_copies = 0

    def decide(known: Mapping[str, str]) -> Mapping[str, str]:
        nonlocal num_known, num_copies
        num_known = len(known.keys() & photos.keys())
        copies = _copies(found.root, photos, known, report)
        num_copies = sum(len(copied) - 1 for copied in copies)
        chosen = divide(make_units(classes, groups, copies), shares, config.split_seed, known)
        _require_val(chosen, where, is_grouped=groups is not None)
        return chosen

    division = agree(path, list(photos), decide, tell=tell)
    splits = to_indexes(found, [division.get(photo.known_as, photo.split) for photo in found.photos], where)
    notes = [division_line(Counter(division.values()), shares, config.split_seed, groups, shown_place(path))]
    num_new = len(division) - num_known
    if num_known and num_new > 0:
        words = "image is" if num_new == 1 else "images are"
        notes.append(f"{num_new:,} {words} new in {path.name}; the others stay where they were")
    if num_copies:
        words = "copy of an image stays" if num_copies == 1 else "copies of images stay"
        notes.append(f"{num_copies:,} {words} on the side of the original")
    return Opened(found.root, splits, (*notes, *few_notes(splits, shares), *found.notes), division)


def _require_outside(folder: Path, roots: Sequence[Path]) -> None:
    """Refuse a folder for divisions among the photos: what runs write beside it would be classes next time."""
    for root in roots:
        if root.is_dir() and root.resolve() in folder.resolve().parents:
            raise UserError(
                f"data.split_folder={folder} lies in data.root={root}, where it would be taken for a class. Start the "
                f"command in another folder, or give data.split_folder, data.cache and --run-dir outside {root}."
            )


def choose_shares(given: Sequence[float] | None, *, has_test: bool) -> dict[str, float]:
    """The share of each split. Where the data have test images, train is divided into train and val alone."""
    shares = dict(zip(("train", "val", "test"), given or DEFAULT_SHARES, strict=False))
    if not has_test:
        return shares
    both = shares["train"] + shares["val"]
    return {split: shares[split] / both for split in ("train", "val")}


def division_line(
    counts: Mapping[str, int], shares: Mapping[str, float], seed: int, groups: Mapping[str, str] | None, place: str
) -> str:
    """What a run says of its division, in one line."""
    total = sum(counts.values())
    real = ", ".join(f"{split} {100 * counts.get(split, 0) / total:.1f} %" for split in shares)
    if groups is None:
        return f"divided: {real} of the images, each class by itself, by data.split_seed={seed}; written in {place}"
    wanted = "/".join(f"{100 * share:g}" for share in shares.values())
    num_groups = len(set(groups.values()))
    return (
        f"divided: {num_groups:,} groups, each on one side, by data.split_seed={seed}: {real} of the images ({wanted} "
        f"wanted); written in {place}"
    )


def few_notes(splits: Mapping[str, ImageIndex], shares: Mapping[str, float]) -> list[str]:
    """Which classes val or test lack after a division, and why."""
    notes = []
    for split in ("val", "test"):
        if split not in shares:
            continue
        if split not in splits:
            notes.append(f"{split} has no images: there are too few to divide. Without test: data.split=[0.8, 0.2]")
            continue
        lacking = [name for name, count in splits[split].count_per_class().items() if not count]
        if lacking:
            which = "class" if len(lacking) == 1 else f"{len(lacking):,} classes:"
            reason = ", too few different images or groups of it" if split == "val" else ""
            notes.append(f"{split} has no image of {which} {listed(lacking)}{reason}")
    return notes


def _require_val(chosen: Mapping[str, str], where: str, *, is_grouped: bool) -> None:
    if "val" in chosen.values():
        return
    if is_grouped:
        raise UserError(
            f"{where}: no group can be val, because each has a class that no other group has. Images of a class must "
            f"be in two groups or more. Choose other groups with data.group_pattern or data.columns.group, or none."
        )
    raise UserError(f"{where}: no class has two different images, one of them for val. Add images.")


def _copies(root: Path, photos: Mapping[str, Photo], known: Mapping[str, str], report: Report | None) -> Copies:
    """Groups of names with the same content, of which one at least is not divided yet."""
    sizes: dict[str, int] = {}
    for name, photo in photos.items():
        try:
            sizes[name] = (root / photo.path).stat().st_size
        except OSError:  # a link to nothing, which is named when it is read
            continue
    wanted = {size for name, size in sizes.items() if name not in known}
    name_of = {photos[name].path: name for name, size in sizes.items() if size in wanted}
    files = [SourceFile(path, sizes[name], "") for path, name in name_of.items()]
    on_progress = None if report is None else lambda done, total: report("comparing files", done, total)
    found = find_copies(root, files, on_progress)
    return tuple(tuple(name_of[path] for path in paths) for paths in found)
