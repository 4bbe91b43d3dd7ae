"""List the images in a data set's folder, with their labels. It reads names, and no pixels.

Two layouts are supported. Flat, as SIGNS is published: `train_signs/3_IMG_5942.jpg`, with the label before the first
underscore. Class folders, as torchvision's ImageFolder reads them: `train/cat/anything/photo.png`.
"""

from __future__ import annotations

import difflib
import os
import re
import shlex
import unicodedata
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from signs_dist.data.content import describe_file
from signs_dist.data.images import is_image_name
from signs_dist.data.listing import Listing, PassedOver, folders_without_images, is_folder, list_images
from signs_dist.data.litter import is_litter_file, is_litter_folder
from signs_dist.data.names import (
    SPLITS,
    check_class_names,
    class_notes,
    empty_folders_note,
    is_unlabelled,
    listed,
    named_like_split_message,
    printable,
    split_of_folder,
    unlabelled_note,
    unreadable_folders_message,
)
from signs_dist.data.paths import Paths
from signs_dist.data.readers import FolderReader, ImageReader, file_stamp
from signs_dist.data.split_classes import (
    FoundClasses,
    classes_of_folders,
    classes_of_names,
    has_class_names,
    images_outside_folders,
    inner_folder,
)
from signs_dist.errors import UserError
from signs_dist.files import explained

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

    from signs_dist.data.kept_listing import KeptListings

_MAX_ENTRIES_BESIDE = 10_000
"""So many entries of a folder beside the splits are looked at for an image."""


@dataclass(frozen=True, eq=False)
class ImageIndex:
    """The images of one split, sorted by path."""

    root: Path
    """The data set: its folder, or the file that lists it."""
    split: str
    """train, val or test."""
    classes: tuple[str, ...]
    """Class names; a label is an index into them. Numbers sort as numbers, folder names as text."""
    paths: Sequence[str]
    """Paths relative to `root`, with forward slashes, sorted."""
    labels: NDArray[numpy.int64]
    """One label for each path."""
    passed_over: PassedOver = field(default_factory=PassedOver)
    """What lies in the split's folder and is no image of it."""
    notes: tuple[str, ...] = ()
    """What else a user should know of the split: empty class folders, names of classes that look alike."""
    source: ImageReader | None = None
    """Reads the images. None: they are files below `root`."""
    stamps: NDArray[numpy.int64] | None = None
    """[N, 3] as in `Listing`. None: the files were not looked at."""

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def reader(self) -> ImageReader:
        """Reads the images by their paths."""
        return FolderReader(self.root) if self.source is None else self.source

    def full_name(self, path: str) -> str:
        """The name of an image in messages: `root` and its path."""
        return str(self.root / path)

    def all_stamps(self) -> Iterator[tuple[int, str]]:
        """`ImageReader.stamp` of each image, in their order; files that were looked at are not looked at again."""
        if self.stamps is None:
            yield from map(self.reader.stamp, self.paths)
            return
        for path, row in zip(self.paths, self.stamps, strict=True):
            num_bytes, mtime_ns, ctime_ns = row.tolist()
            # A file that could not be looked at is looked at again, for the error.
            yield (num_bytes, file_stamp(mtime_ns, ctime_ns)) if num_bytes >= 0 else self.reader.stamp(path)

    def count_per_class(self) -> dict[str, int]:
        """Number of images of each class, in the order of `classes`."""
        import numpy

        counts = numpy.bincount(self.labels, minlength=len(self.classes))
        return {name: int(count) for name, count in zip(self.classes, counts, strict=True)}

    def remarks(self) -> list[str]:
        """All that a user should know of the split, a line each."""
        return [*self.passed_over.notes(), *self.notes]


def sorted_classes(names: Sequence[str] | set[str]) -> tuple[str, ...]:
    """Class names in the order of their labels: sorted as numbers if all are numbers, else as text."""
    unique = set(names)
    if all(re.fullmatch("[0-9]+", name) for name in unique):
        return tuple(sorted(unique, key=lambda name: (int(name), name)))
    return tuple(sorted(unique))


def labels_of_classes(names: Iterable[str], classes: Sequence[str]) -> dict[str, int | None]:
    """Each class name → its label, which is its index in `classes`; None if it is not there.

    A name in another spelling (Unicode's composed or decomposed form) is the same class.
    """
    number_of = {unicodedata.normalize("NFC", name): number for number, name in enumerate(classes)}
    number_of |= {name: number for number, name in enumerate(classes)}
    return {name: number_of.get(name, number_of.get(unicodedata.normalize("NFC", name))) for name in names}


def has_split(root: Path, split: str) -> bool:
    """Whether the data set has a folder for this split."""
    return bool(_split_folders(root, split))


def index_split(
    root: Path, split: str, *, classes: Sequence[str] | None = None, keep: KeptListings | None = None
) -> ImageIndex:
    """List one split of a data set.

    Args:
        root: folder that holds the splits' folders.
        split: train, val or test.
        classes: the legal classes in the order of their labels (from train, or from a trained model). None: all found.
        keep: keeps the listing of many images for other processes and later runs, and looks at sizes and times. None:
            nothing is kept.

    Raises:
        UserError: no such folder, no images in it, an image without a label, or a label outside `classes`.
    """
    folder = split_folder(root, split)
    listing = list_images(folder) if keep is None else keep.listing(folder)
    if not listing.images:
        raise UserError(
            f"{folder} holds no images (such as 3_IMG_5942.jpg, or cat/photo.png). "
            f"Put images there, or {_build_hint(root)}.{listing.passed_over.sentence()}"
        )
    top = inner_folder(listing, split, classes)
    found = _class_names(root, folder, listing, top)
    notes: list[str] = []
    if has_class_names(listing, top):
        notes = _check_class_folders(folder, listing, top, found)
    labels, legal = _numbered(folder, listing, top, found, classes)
    paths, stamps = listing.images, listing.stamps
    if found.has_other_spellings:
        order = found.order_of_one_spelling(paths, top)
        paths, labels = Paths.of(paths[number] for number in order), labels[order]
        stamps = None if stamps is None else stamps[order]
    return ImageIndex(
        root=root,
        split=split,
        classes=legal,
        paths=paths.below(f"{folder.name}/"),
        labels=labels,
        passed_over=listing.passed_over.below(f"{folder.name}/"),
        notes=tuple(notes),
        stamps=stamps,
    )


def index_data_set(root: Path, *, keep: KeptListings | None = None) -> dict[str, ImageIndex]:
    """List train, val and, if it exists and has labels, test. All have the classes of train. `keep`: as `index_split`.

    Raises:
        UserError: as `index_split`; also no train or val split, fewer than two classes, or a class without val images.
    """
    train = index_split(root, "train", keep=keep)
    if len(train.classes) < 2:
        raise UserError(
            f"{root}: train has the single class {train.classes[0]!r}. A classifier needs images of two or more."
        )
    splits = {"train": train}
    for split in ("val", "test"):
        if split == "val" or has_split(root, split):
            try:
                splits[split] = index_split(root, split, classes=train.classes, keep=keep)
            except UserError:
                if split == "val" or not _num_unlabelled(split_folder(root, split)):
                    raise
    missing = [name for name, count in splits["val"].count_per_class().items() if count == 0]
    if missing:
        raise UserError(
            f"{split_folder(root, 'val')} has no image of class {listed(missing)}, which train has. "
            f"Move some images of it from train to val, or remove the class from train."
        )
    return splits


def set_notes(root: Path, splits: Mapping[str, ImageIndex]) -> tuple[str, ...]:
    """What a user should know of an indexed data set: what was passed over, and what lies beside the splits."""
    passed_over = PassedOver()
    for index in splits.values():
        passed_over = passed_over.plus(index.passed_over)
    others = {index.paths[0].partition("/")[0] for index in splits.values()}
    unused = [folder for folder in _subfolders(root) if folder.name not in others and _holds_an_image(folder)]
    unlabelled = [folder for folder in unused if split_of_folder(folder.name) == "test"]
    beside = [f"{folder.name}/" for folder in unused if folder not in unlabelled]
    if _holds_an_image(root, is_deep=False):
        beside.append("photos that lie in no folder")
    outside = [f"outside the splits, and not used: {listed(beside)}"] if beside else []
    notes = [note for index in splits.values() for note in index.notes]
    outside += [unlabelled_note(f"{folder.name}/", _num_unlabelled(folder)) for folder in unlabelled]
    return (*passed_over.notes(), *outside, *dict.fromkeys(notes))


def _num_unlabelled(folder: Path) -> int:
    """The number of images in the folder of a split whose names tell no class at all; 0 if one name does."""
    names = list_images(folder).images
    return len(names) if is_unlabelled(names) else 0


def _split_folders(root: Path, split: str) -> list[Path]:
    if split not in SPLITS:
        raise UserError(f"there is no split {split!r}. Choose one of {', '.join(SPLITS)}.")
    return [folder for folder in _subfolders(root) if split_of_folder(folder.name) == split]


def split_folder(root: Path, split: str) -> Path:
    """The folder of a split. Raises `UserError` if there is none, or two."""
    check_root(root)
    folders = _split_folders(root, split)
    if len(folders) > 1:
        raise UserError(
            f"{root} has both {folders[0].name}/ and {folders[1].name}/ for {split}. "
            f"Keep one: rename or move the other."
        )
    if folders:
        return folders[0]
    wanted = f"{split}_signs/ or {split}/"
    if split != "train" and _split_folders(root, "train"):
        raise UserError(f"{root} has no {split} images (folder {wanted}). Make that folder, or {_build_hint(root)}.")
    inner = [folder for folder in _subfolders(root) if _split_folders(folder, split)]
    if len(inner) == 1:
        raise UserError(
            f"{root} has no folder {wanted}, but {inner[0]} has one. Give {inner[0]}, or {_build_hint(inner[0])}."
        )
    if inner:
        names = listed([folder.name for folder in inner])
        raise UserError(
            f"{root} has no folder {wanted}, but {names} have one. Give one of them, or {_build_hint(root)}."
        )
    if split_of_folder(root.name) and _split_folders(root.absolute().parent, split):
        raise UserError(f"{root} is the folder of one split. Give the folder above, {root.absolute().parent}.")
    raise UserError(f"{root} has no {split} images (folder {wanted}){_what_it_looks_like(root)}")


def check_root(root: Path) -> None:
    """Refuse what is no folder of images. Raises `UserError`, which says what it is, and what to type."""
    try:
        root.stat()
    except PermissionError as error:  # a folder above it may not be entered
        raise explained(error, root, "open") from error
    except OSError:  # such as a missing folder: told below
        pass
    if root.is_dir():
        return
    if root.is_file():
        if root.suffix.lower() == ".zip" or zipfile.is_zipfile(root):
            raise UserError(f"{root} is a zip, not a folder of images. To make a folder of it, {_build_hint(root)}.")
        legal = "Give a folder of images, or a table of them as .csv, .tsv, .jsonl or .parquet."
        raise UserError(f"{root} is {describe_file(root)}, not a folder of images. {legal}")
    if root.exists():
        raise UserError(f"{root} is not a folder. Give the folder that holds train/ and val/.")
    similar = difflib.get_close_matches(root.name, _folders_beside(root), n=1)
    meant = f" Did you mean {root.parent / similar[0]}?" if similar else ""
    source = "SIGNS.zip" if root.name.endswith("SIGNS") else "PHOTOS"
    raise UserError(
        f"there is no folder {root}.{meant} Give the folder that holds train_signs/ and val_signs/, or train/ and "
        f"val/. Or make it from photos, in a folder or a zip: "
        f"python -m signs_dist.data.build --source {source} --out {shlex.quote(str(root))}."
    )


def _folders_beside(root: Path) -> list[str]:
    try:
        return [folder.name for folder in _subfolders(root.parent)]
    except UserError:  # the folder that is missing is told, not the one above
        return []


def has_class_folders(folder: Path) -> bool:
    """Whether images lie in folders of a folder."""
    return any(_holds_an_image(inner) for inner in _subfolders(folder))


def _what_it_looks_like(root: Path) -> str:
    if has_class_folders(root) or _holds_an_image(root, is_deep=False):
        kind, given = "class folders" if has_class_folders(root) else "photos", shlex.quote(str(root))
        divides = f"Training divides them: python -m signs_dist.train data.root={given}"
        return f". It looks like {kind} that are not split. {divides}"
    zips = sorted(path for path in root.iterdir() if path.suffix.lower() == ".zip")
    if zips:
        return f". It has a zip: {_build_hint(zips[0])}."
    return ". Give the folder that holds train_signs/ and val_signs/, or train/ and val/."


def _subfolders(folder: Path) -> list[Path]:
    """The folders in a folder that the user made, sorted; none if it is missing."""
    if not folder.is_dir():
        return []
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if is_folder(entry) and not is_litter_folder(entry.name)]
    except OSError as error:
        raise UserError(f"cannot read {folder}: {error.strerror}. Check its permissions.") from error
    return sorted(folder / name for name in names)


def _holds_an_image(folder: Path, *, is_deep: bool = True) -> bool:
    """Whether a folder holds a file with an image's suffix, as far as its first `_MAX_ENTRIES_BESIDE` entries tell."""
    num_left = _MAX_ENTRIES_BESIDE
    for _, subfolders, names in os.walk(folder):
        if any(is_image_name(name) and not is_litter_file(name) for name in names):
            return True
        num_left -= len(names) + len(subfolders)
        if num_left < 0 or not is_deep:
            return False
        subfolders[:] = sorted(name for name in subfolders if not is_litter_folder(name))
    return False


def _check_class_folders(folder: Path, listing: Listing, top: str, found: FoundClasses) -> list[str]:
    """Refuse class folders that cannot be meant so, and return what a user should know of the others."""
    check_class_names(found.names, folder)
    empty, unreadable = folders_without_images([f"{each}/" for each in listing.folders], listing.num_others, top)
    if unreadable:
        raise UserError(unreadable_folders_message(folder, [f"{top}{name}/" for name in unreadable]))
    notes = class_notes(found.names)
    return [*notes, empty_folders_note([f"{folder.name}/{top}{name}" for name in empty])] if empty else notes


def _numbered(
    folder: Path, listing: Listing, top: str, found: FoundClasses, classes: Sequence[str] | None
) -> tuple[NDArray[numpy.int64], tuple[str, ...]]:
    """(the label of each image, the legal classes)."""
    legal = tuple(classes) if classes is not None else sorted_classes(set(found.class_of.values()))
    numbers = labels_of_classes(set(found.class_of.values()), legal)
    unknown = {name for name, number in numbers.items() if number is None}
    if unknown:
        count, first = found.count_of(unknown)
        raise UserError(
            f"{folder}: class {listed(sorted_classes(unknown))} is not among the classes {listed(legal)} "
            f"({count} images, such as {printable(listing.images[first][len(top) :])}). Move these images, or add the "
            f"class to train."
        )
    return found.labels({name: number for name, number in numbers.items() if number is not None}), legal


def _class_names(root: Path, folder: Path, listing: Listing, top: str) -> FoundClasses:
    flat = images_outside_folders(listing, top)
    if not len(flat):
        return classes_of_folders(listing, top)
    if len(flat) < len(listing.images):
        nested = next(path for path in listing.images if "/" in path[len(top) :])
        raise UserError(
            f"{folder} holds images ({printable(listing.images[int(flat[0])][len(top) :])}) and class folders with "
            f"images ({printable(nested[len(top) :])}). "
            f"Use one layout: all images as LABEL_NAME.jpg, or one folder for each class."
        )
    found, unlabelled = classes_of_names(listing, top)
    if not unlabelled:
        return found
    is_train = split_of_folder(folder.name) == "train"
    others = [other for other in _subfolders(root) if split_of_folder(other.name) is None and _holds_an_image(other)]
    if is_train and others and len(unlabelled) == len(listing.images):
        raise UserError(named_like_split_message(root, folder.name, [other.name for other in others]))
    raise UserError(
        f"{folder}: no label in the name of {listed(unlabelled)}. A name starts with its label and an underscore, "
        f"such as 3_IMG_5942.jpg. Rename or remove these files, or use a folder for each class."
    )


def _build_hint(source: Path) -> str:
    return f"build a data set: python -m signs_dist.data.build --source {shlex.quote(str(source))}"
