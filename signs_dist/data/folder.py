"""List the images in a data set's folder, with their labels. It reads names, no pixels.

Two layouts are supported. Flat, as SIGNS is published: `train_signs/3_IMG_5942.jpg`, with the label before the first
underscore. Class folders, as torchvision's ImageFolder reads them: `train/cat/anything/photo.png`.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from signs_dist.data.images import is_image_name
from signs_dist.errors import UserError

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

SPLIT_FOLDERS: dict[str, tuple[str, ...]] = {
    "train": ("train_signs", "train"),
    "val": ("val_signs", "val", "validation"),
    "test": ("test_signs", "test"),
}
"""The names that a split's folder may have."""

_LABEL = re.compile(r"([0-9]+)_")
_NUM_NAMED = 5


@dataclass(frozen=True, eq=False)
class ImageIndex:
    """The images of one split, sorted by path."""

    root: Path
    """The data set's folder."""
    split: str
    """train, val or test."""
    classes: tuple[str, ...]
    """Class names; a label is an index into them. Numbers sort as numbers, folder names as text."""
    paths: tuple[str, ...]
    """Paths relative to `root`, with forward slashes, sorted."""
    labels: NDArray[numpy.int64]
    """One label for each path."""

    def __len__(self) -> int:
        return len(self.paths)

    def count_per_class(self) -> dict[str, int]:
        """Number of images of each class, in the order of `classes`."""
        import numpy

        counts = numpy.bincount(self.labels, minlength=len(self.classes))
        return {name: int(count) for name, count in zip(self.classes, counts, strict=True)}


def label_of_name(name: str) -> str | None:
    """The label in a SIGNS file name: `"3"` for `3_IMG_5942.jpg`, None if it has no label."""
    match = _LABEL.match(name)
    return str(int(match[1])) if match else None


def sorted_classes(names: Sequence[str] | set[str]) -> tuple[str, ...]:
    """Class names in the order of their labels: sorted as numbers if all are numbers, else as text."""
    unique = set(names)
    if all(re.fullmatch("[0-9]+", name) for name in unique):
        return tuple(sorted(unique, key=lambda name: (int(name), name)))
    return tuple(sorted(unique))


def has_split(root: Path, split: str) -> bool:
    """Whether the data set has a folder for this split."""
    return bool(_split_folders(root, split))


def index_split(root: Path, split: str, *, classes: Sequence[str] | None = None) -> ImageIndex:
    """List one split of a data set.

    Args:
        root: folder that holds the splits' folders.
        split: train, val or test.
        classes: the legal classes in the order of their labels (from train, or from a trained model). None: all found.

    Raises:
        UserError: no such folder, no images in it, an image without a label, or a label outside `classes`.
    """
    folder = _split_folder(root, split)
    names = _image_names(folder)
    if not names:
        raise UserError(
            f"{folder} holds no images (such as 3_IMG_5942.jpg, or cat/photo.png). "
            f"Put images there, or {_build_hint(root)}."
        )
    found = _class_names(folder, names)
    legal = tuple(classes) if classes is not None else sorted_classes(set(found))
    number_of = {name: number for number, name in enumerate(legal)}
    unknown = [path for path, name in zip(names, found, strict=True) if name not in number_of]
    if unknown:
        unknown_classes = sorted_classes({name for name in found if name not in number_of})
        raise UserError(
            f"{folder}: class {_listed(unknown_classes)} is not among the classes {_listed(legal)} "
            f"({len(unknown)} images, such as {unknown[0]}). Move these images, or add the class to train."
        )
    import numpy

    return ImageIndex(
        root=root,
        split=split,
        classes=legal,
        paths=tuple(f"{folder.name}/{path}" for path in names),
        labels=numpy.array([number_of[name] for name in found], dtype=numpy.int64),
    )


def index_data_set(root: Path) -> dict[str, ImageIndex]:
    """List train, val and, if it exists, test. All have the classes of train.

    Raises:
        UserError: as `index_split`; also no train or val split, fewer than two classes, or a class without val images.
    """
    train = index_split(root, "train")
    if len(train.classes) < 2:
        raise UserError(
            f"{root}: train has the single class {train.classes[0]!r}. A classifier needs images of two or more."
        )
    splits = {"train": train}
    for split in ("val", "test"):
        if split == "val" or has_split(root, split):
            splits[split] = index_split(root, split, classes=train.classes)
    missing = [name for name, count in splits["val"].count_per_class().items() if count == 0]
    if missing:
        raise UserError(
            f"{_split_folder(root, 'val')} has no image of class {_listed(missing)}, which train has. "
            f"Move some images of it from train to val, or remove the class from train."
        )
    return splits


def _split_folders(root: Path, split: str) -> list[Path]:
    if split not in SPLIT_FOLDERS:
        raise UserError(f"there is no split {split!r}. Choose one of {', '.join(SPLIT_FOLDERS)}.")
    return [root / name for name in SPLIT_FOLDERS[split] if (root / name).is_dir()]


def _split_folder(root: Path, split: str) -> Path:
    _check_root(root)
    folders = _split_folders(root, split)
    if len(folders) > 1:
        raise UserError(f"{root} has both {folders[0].name}/ and {folders[1].name}/ for {split}. Keep one of them.")
    if folders:
        return folders[0]
    wanted = " or ".join(f"{name}/" for name in SPLIT_FOLDERS[split])
    if split != "train" and _split_folders(root, "train"):
        raise UserError(f"{root} has no {split} images (folder {wanted}). Make that folder, or {_build_hint(root)}.")
    for inner in _subfolders(root):
        if _split_folders(inner, split):
            raise UserError(
                f"{root} has no folder {wanted}, but {inner} has one. Give {inner}, or {_build_hint(inner)}."
            )
    raise UserError(f"{root} has no {split} images (folder {wanted}){_what_it_looks_like(root)}")


def _check_root(root: Path) -> None:
    if root.is_dir():
        return
    if root.is_file() and root.suffix.lower() == ".zip":
        raise UserError(f"{root} is a zip, not a folder of images. To make a folder of it, {_build_hint(root)}.")
    if root.exists():
        raise UserError(f"{root} is not a folder. Give the folder that holds train_signs/ and val_signs/.")
    raise UserError(
        f"there is no folder {root}. Give the folder that holds train_signs/ and val_signs/, or make it from the "
        f"photos: python -m signs_dist.data.build --source SIGNS.zip --out {shlex.quote(str(root))}."
    )


def _what_it_looks_like(root: Path) -> str:
    if any(_folder_holds_images(folder) for folder in _subfolders(root)):
        return f". It looks like class folders that are not split yet: {_build_hint(root)}."
    if _folder_holds_images(root):
        return f". It looks like photos that are not split yet: {_build_hint(root)}."
    zips = sorted(path for path in root.iterdir() if path.suffix.lower() == ".zip")
    if zips:
        return f". It has a zip: {_build_hint(zips[0])}."
    return ". Give the folder that holds train_signs/ and val_signs/, or train/ and val/."


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _folder_holds_images(folder: Path) -> bool:
    return any(is_image_name(path.name) for path in folder.iterdir())


def _image_names(folder: Path) -> list[str]:
    """Paths of all images below `folder`, relative to it, sorted. Hidden files and folders are skipped."""
    try:
        return sorted(_walk(folder, "", {folder_identity(folder)}))
    except OSError as error:
        raise UserError(f"cannot read {error.filename or folder}: {error.strerror}.") from error


def _walk(folder: Path, prefix: str, parents: set[tuple[int, int]]) -> list[str]:
    names: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                identity = folder_identity(folder / entry.name)
                if identity not in parents:  # a link to a parent folder would recurse for ever
                    names += _walk(folder / entry.name, f"{prefix}{entry.name}/", parents | {identity})
            elif is_image_name(entry.name):
                names.append(prefix + entry.name)
    return names


def folder_identity(folder: Path) -> tuple[int, int]:
    """(device, inode): the same for a folder and for a link to it."""
    status = folder.stat()
    return status.st_dev, status.st_ino


def _class_names(folder: Path, names: list[str]) -> list[str]:
    nested = [name for name in names if "/" in name]
    if not nested:
        return _labels_of_flat(folder, names)
    if len(nested) < len(names):
        beside = next(name for name in names if "/" not in name)
        raise UserError(
            f"{folder} holds images ({beside}) and class folders with images ({nested[0]}). "
            f"Use one layout: all images as LABEL_NAME.jpg, or one folder for each class."
        )
    return [name.split("/", 1)[0] for name in names]


def _labels_of_flat(folder: Path, names: list[str]) -> list[str]:
    labels = [label_of_name(name) for name in names]
    unlabelled = [name for name, label in zip(names, labels, strict=True) if label is None]
    if unlabelled:
        raise UserError(
            f"{folder}: no label in the name of {_listed(unlabelled)}. A name starts with its label and an underscore, "
            f"such as 3_IMG_5942.jpg. Rename or remove these files, or use a folder for each class."
        )
    return [label for label in labels if label is not None]


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_NUM_NAMED])
    return shown if len(names) <= _NUM_NAMED else f"{shown} and {len(names) - _NUM_NAMED} more"


def _build_hint(source: Path) -> str:
    return f"build a data set: python -m signs_dist.data.build --source {shlex.quote(str(source))}"
