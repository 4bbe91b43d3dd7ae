"""Find the splits, classes and files of a zip or folder of photos, by names alone."""

from __future__ import annotations

import hashlib
import json
import shlex
import stat
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from signs_dist.data.listing import folders_without_images, list_images
from signs_dist.data.names import (
    SPLITS,
    check_class_names,
    class_notes,
    empty_folders_note,
    is_printable,
    is_unlabelled,
    label_of_name,
    listed,
    printable,
    same_class,
    split_of_folder,
    unlabelled_note,
    unreadable_folders_message,
)
from signs_dist.data.photos.archive import SourceFile, SourceListing, list_zip, member_path, open_zip, read_member
from signs_dist.data.photos.places import Place, PlacedFile, check_not_splits, check_splits, find_place
from signs_dist.errors import UserError

if TYPE_CHECKING:
    from signs_dist.data.shards.reading import ShardReader

Layout = Literal["flat", "class_folders"]

ARCHIVE_SUFFIXES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
"""Suffixes of archives within a source: they are not looked into."""


@dataclass(frozen=True)
class SourceImage:
    """An image with a label."""

    split: str | None
    """train, val or test, as the source has it. None: the source is not split."""
    class_name: str
    name: str
    """Path below the split's folder."""
    file: SourceFile


@dataclass(frozen=True)
class Arrangement:
    """The layout, the labelled images and the other files of a source."""

    layout: Layout
    images: tuple[SourceImage, ...]
    """Sorted by split, then name."""
    bad_names: tuple[tuple[str, str], ...]
    """(path, reason) of images whose names give no class."""
    outside: tuple[str, ...]
    """Images that lie outside the split folders: not part of the data set."""
    notes: tuple[str, ...] = ()
    """What a user should know: what was passed over, empty class folders, names that look alike. A line each."""
    problems: tuple[str, ...] = ()
    """Why the source must not be built as it is: class folders without an image that can be read. A line each."""
    root: Path | None = None
    """The folder that the images' paths begin at, where that is not the source: that of a table."""

    def splits(self) -> tuple[str | None, ...]:
        """The splits that the source has, in the order train, val, test."""
        present = {image.split for image in self.images}
        return tuple(split for split in (None, *SPLITS) if split in present)


def _advice_on_archives(listing: SourceListing) -> str:
    archives = [name for name in listing.passed_over.not_images.examples if name.endswith(ARCHIVE_SUFFIXES)]
    return f" Unpack {archives[0]} and give what is in it." if archives else ""


@dataclass(frozen=True)
class _Remarks:
    notes: list[str]
    problems: list[str]

    def add(self, kind: str, above: str, empty: Iterable[str], unreadable: Iterable[str], where: Path) -> None:
        """Add what there is to say on folders without images, of splits or of classes."""
        if names := [above + name for name in empty]:
            self.notes.append(empty_folders_note(names, kind))
        if names := [above + name for name in unreadable]:
            self.problems.append(unreadable_folders_message(where, names, kind))


class SourceReader:
    """Reads the files of a source. Each worker process makes its own."""

    def __init__(self, path: Path):
        self.path = path
        self._archive: zipfile.ZipFile | None = open_zip(path) if path.is_file() else None
        members = self._archive.infolist() if self._archive is not None else []
        self._members = {member_path(member): member for member in members}
        self._shards: ShardReader | None = None

    def __enter__(self) -> SourceReader:
        return self

    def __exit__(self, *_: object) -> None:
        if self._archive is not None:
            self._archive.close()

    def read(self, name: str) -> Path | bytes:
        """The path of a file in a folder, or the bytes of one in a zip or a shard. Raises BadImageError."""
        if self._archive is not None:
            return read_member(self._archive, self._members[name])
        if not _is_in_shard(self.path, name):
            return self.path / name
        if self._shards is None:
            self._shards = _open_shards(self.path)
        return self._shards.read(name)


def _is_in_shard(folder: Path, name: str) -> bool:
    """Whether a name is that of a member of a tar. Beside images there may be tars that nobody asked for."""
    shard, inside, _ = name.partition(".tar/")
    return bool(inside) and (folder / f"{shard}.tar").is_file()


def _open_shards(path: Path) -> ShardReader:
    """Reads the tar shards in a folder."""
    from signs_dist.config.data_settings import DataConfig
    from signs_dist.data.shards.opening import find_shards, index_shards  # NumPy: not for --help

    reader = index_shards(path, find_shards(path), cache=Path(DataConfig().cache))["train"].reader
    return cast("ShardReader", reader)


def list_source(path: Path) -> SourceListing:
    """All image files of a zip or folder.

    Raises:
        UserError: the path is neither, cannot be read, or the zip is refused (see `archive.list_zip`).
    """
    if path.is_dir():
        listing = list_images(path, scope=_split_in_path)
        files = tuple(source_file(path, name) for name in listing.images)
        return SourceListing(files, listing.passed_over, listing.num_others)
    if path.is_file():
        return list_zip(path)
    if path.exists():
        raise UserError(f"{path} is neither a zip nor a folder. Give a zip or a folder of photos.")
    raise UserError(
        f"there is no zip or folder {path}. Give a folder with a folder for each class, one with train/ and val/, a "
        f"zip of either, or SIGNS.zip (python -m signs_dist.data.download gets it)."
    )


def source_fingerprint(files: Sequence[SourceFile]) -> str:
    """A digest of names, sizes and stamps. It changes when the source changes."""
    rows = sorted((file.path, file.num_bytes, file.stamp) for file in files)
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def arrange(files: Sequence[SourceFile], where: Path) -> Arrangement:
    """Find splits and classes in the names of files. Pure; `where` is for messages.

    Splits lie at the top or some folders down (SIGNS/train_signs/...). Without splits, the images lie in class folders,
    or have flat SIGNS names, again at the top or some folders down.

    Args:
        files: from `list_source`.
        where: the zip or folder.

    Raises:
        UserError: no images, no train split, two folders for one split, both layouts at once, class folders that look
            like splits, or a class name that files cannot have.
    """
    listing = files if isinstance(files, SourceListing) else SourceListing(tuple(files))
    if not listing.files:
        raise UserError(
            f"{where} holds no images. Give a zip or folder with a folder for each class, or with train/ and val/."
            f"{listing.passed_over.sentence()}{_advice_on_archives(listing)}"
        )
    ordered = sorted(listing.files, key=lambda file: file.path)
    place = find_place([file.path for file in ordered], where)
    placed: list[PlacedFile] = []
    outside: list[str] = []
    for file in ordered:
        found = place.of(file)
        if found is None:
            outside.append(file.path)
        else:
            placed.append(found)
    placed, unlabelled = _without_unlabelled_test(placed, place)
    if place.tops:
        check_splits(placed, place, outside, where)
    layout = _layout_of(placed, where)
    remarks = _Remarks([], [])
    if layout == "class_folders":
        check_class_names({found.name.partition("/")[0] for found in placed}, where)
        if not place.tops:
            check_not_splits(placed, place.prefix, where)
        remarks = _about_folders(listing, placed, place, where)
    images, bad_names = _labelled(placed, layout)
    return Arrangement(
        layout,
        tuple(images),
        tuple(bad_names),
        tuple(outside),
        notes=(*listing.passed_over.notes(), *listing.notes, *remarks.notes, *unlabelled),
        problems=tuple(remarks.problems),
    )


def _without_unlabelled_test(placed: list[PlacedFile], place: Place) -> tuple[list[PlacedFile], list[str]]:
    """The files without those of a test split that has no labels, as competitions have it; and a note about it."""
    others = [found for found in placed if found.split != "test"]
    test = [found for found in placed if found.split == "test"]
    train = [found.name for found in placed if found.split == "train"]
    if not train or is_unlabelled(train) or not is_unlabelled([found.name for found in test]):
        return placed, []
    folder = next(top for top, split in place.tops.items() if split == "test")
    return others, [unlabelled_note(place.prefix + folder, len(test))]


def require_usable(arrangement: Arrangement, where: Path) -> None:
    """Refuse a source from which no data set can be built as it is.

    Raises:
        UserError: a class folder has files but no image, or no image has a label.
    """
    if arrangement.problems:
        raise UserError("\n".join(arrangement.problems))
    if not arrangement.images and arrangement.layout == "flat":
        names = [path for path, _ in arrangement.bad_names]
        above = ""
        if where.is_dir() and not any("/" in name for name in names):
            parent = shlex.quote(str(where.resolve().parent))
            above = f" If these are photos of one class, give the folder of all class folders: --source {parent}."
        raise UserError(
            f"{where}: no image can be used: none of {len(names):,} has a label in its name ({listed(names, 3)}), or "
            f"lies in a class folder.{above} Sort the photos into a folder for each class, such as cat/1.jpg, or let "
            f"each name begin with its label, as 3_IMG_5942.jpg does."
        )


def _about_folders(listing: SourceListing, placed: Sequence[PlacedFile], place: Place, where: Path) -> _Remarks:
    """What there is to say on the folders of splits and classes."""
    remarks = _Remarks(class_notes({found.name.partition("/")[0] for found in placed}), [])
    paths = [file.path for file in listing.files]
    if place.tops:
        empty, unreadable = folders_without_images(paths, listing.num_others, place.prefix)
        remarks.add("split", place.prefix, filter(split_of_folder, empty), filter(split_of_folder, unreadable), where)
    for top in place.tops or [""]:
        above = place.prefix + top
        remarks.add("class", above, *folders_without_images(paths, listing.num_others, above), where)
    return remarks


def _labelled(placed: Sequence[PlacedFile], layout: Layout) -> tuple[list[SourceImage], list[tuple[str, str]]]:
    images: list[SourceImage] = []
    bad_names: list[tuple[str, str]] = []
    class_of = same_class({found.name.partition("/")[0] for found in placed})
    for found in placed:
        folder, slash, rest = found.name.partition("/")
        class_name = label_of_name(folder) if layout == "flat" else class_of[folder]
        if class_name is None:
            bad_names.append((found.file.path, "no label in its name, such as the 3 of 3_IMG_5942.jpg"))
        elif not is_printable(found.file.path):
            bad_names.append((printable(found.file.path), "its name has control characters or is not UTF-8; rename it"))
        else:
            name = found.name if layout == "flat" else f"{class_name}{slash}{rest}"
            images.append(SourceImage(found.split, class_name, name, found.file))
    order = {split: number for number, split in enumerate((None, *SPLITS))}
    images.sort(key=lambda image: (order[image.split], image.name))
    return images, bad_names


def _layout_of(placed: list[PlacedFile], where: Path) -> Layout:
    flat = [found.file.path for found in placed if "/" not in found.name]
    nested = [found.file.path for found in placed if "/" in found.name]
    with_classes = {found.split or "" for found in placed if "/" in found.name}
    without = {found.split or "" for found in placed if "/" not in found.name}
    if flat and nested and not with_classes & without:
        raise UserError(
            f"{where} has class folders for {' and '.join(sorted(with_classes))} ({printable(nested[0])}), but none "
            f"for {' and '.join(sorted(without))} ({printable(flat[0])}). Sort these photos into class folders too, or "
            f"move their folder out of {where}."
        )
    if flat and nested:
        raise UserError(
            f"{where} has images with a class folder ({printable(nested[0])}) and images without "
            f"({printable(flat[0])}). Use one layout: a folder for each class, or all named LABEL_NAME.jpg."
        )
    return "flat" if flat else "class_folders"


def _split_in_path(path: str) -> str:
    return next((split for part in path.split("/") if (split := split_of_folder(part)) is not None), "")


def source_file(root: Path, relative: str) -> SourceFile:
    """A file below a folder, with its size and a stamp that changes when the file does."""
    try:
        status = (root / relative).stat()
    except OSError as error:  # a link to nothing: reading it reports a bad image
        return SourceFile(relative, 0, f"unreadable: {error.strerror}")
    kind = "" if stat.S_ISREG(status.st_mode) else " not a regular file"
    return SourceFile(relative, status.st_size, f"mtime {status.st_mtime_ns}{kind}")
