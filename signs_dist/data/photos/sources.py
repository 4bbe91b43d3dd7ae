"""Find the splits, classes and files of a zip or folder of photos, by names alone."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import unicodedata
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from signs_dist.data.folder import SPLIT_FOLDERS, folder_identity, label_of_name
from signs_dist.data.images import is_image_name
from signs_dist.data.photos.archive import SourceFile, is_side_file, list_zip, open_zip, read_member
from signs_dist.errors import UserError

Layout = Literal["flat", "class_folders"]

_SPLIT_OF_FOLDER = {folder: split for split, folders in SPLIT_FOLDERS.items() for folder in folders}


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

    def splits(self) -> tuple[str | None, ...]:
        """The splits that the source has, in the order train, val, test."""
        present = {image.split for image in self.images}
        return tuple(split for split in (None, *SPLIT_FOLDERS) if split in present)


class SourceReader:
    """Reads the files of a source. Each worker process makes its own."""

    def __init__(self, path: Path):
        self.path = path
        self._archive: zipfile.ZipFile | None = open_zip(path) if path.is_file() else None

    def __enter__(self) -> SourceReader:
        return self

    def __exit__(self, *_: object) -> None:
        if self._archive is not None:
            self._archive.close()

    def read(self, name: str) -> Path | bytes:
        """The path of a file in a folder, or the bytes of a file in a zip. Raises BadImageError if it is damaged."""
        return self.path / name if self._archive is None else read_member(self._archive, name)


def list_source(path: Path) -> list[SourceFile]:
    """All image files of a zip or folder.

    Raises:
        UserError: the path is neither, cannot be read, or the zip is refused (see `archive.list_zip`).
    """
    if path.is_dir():
        return _list_folder(path)
    if path.is_file():
        return list_zip(path)
    raise UserError(
        f"there is no zip or folder {path}. Give SIGNS.zip (python -m signs_dist.data.download gets it), "
        f"or a folder with train_signs/ and test_signs/, or one with a folder for each class."
    )


def source_fingerprint(files: Sequence[SourceFile]) -> str:
    """A digest of names, sizes and stamps. It changes when the source changes."""
    rows = sorted((file.path, file.num_bytes, file.stamp) for file in files)
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def arrange(files: Sequence[SourceFile], where: Path) -> Arrangement:
    """Find splits and classes in the names of files. Pure; `where` is for messages.

    Splits lie at the top or one folder down (SIGNS/train_signs/...). Without splits, the images lie in class folders,
    or have flat SIGNS names, again at the top or one folder down.

    Raises:
        UserError: no images, no train split, two folders for one split, or both layouts at once.
    """
    if not files:
        raise UserError(
            f"{where} holds no images. Give a zip or folder with train_signs/ and test_signs/, or with class folders."
        )
    ordered = sorted(files, key=lambda file: file.path)
    prefix, is_split = _find_prefix([file.path for file in ordered], where)
    placed: list[tuple[str | None, str, SourceFile]] = []
    outside: list[str] = []
    folder_of_split: dict[str, str] = {}
    for file in ordered:
        inner = file.path[len(prefix) :] if file.path.startswith(prefix) else ""
        folder, slash, name = inner.partition("/")
        if not inner or (is_split and not (slash and folder in _SPLIT_OF_FOLDER)):
            outside.append(file.path)
        elif is_split:
            split = _SPLIT_OF_FOLDER[folder]
            if folder_of_split.setdefault(split, folder) != folder:
                raise UserError(
                    f"{where} has both {prefix}{folder_of_split[split]}/ and {prefix}{folder}/ for {split}. Keep one."
                )
            placed.append((split, name, file))
        else:
            placed.append((None, inner, file))
    if is_split and "train" not in folder_of_split:
        raise UserError(
            f"{where} has {prefix}{next(iter(folder_of_split.values()))}/ but no training images. "
            f"Add a folder {' or '.join(SPLIT_FOLDERS['train'])} beside it."
        )
    layout = _layout_of(placed, where)
    images, bad_names = _labelled(placed, layout)
    return Arrangement(layout, tuple(images), tuple(bad_names), tuple(outside))


def _labelled(
    placed: list[tuple[str | None, str, SourceFile]], layout: Layout
) -> tuple[list[SourceImage], list[tuple[str, str]]]:
    images: list[SourceImage] = []
    bad_names: list[tuple[str, str]] = []
    for split, name, file in placed:
        class_name = label_of_name(name) if layout == "flat" else name.partition("/")[0]
        if class_name is None:
            bad_names.append((file.path, "no label in its name, such as the 3 of 3_IMG_5942.jpg"))
        elif not _can_be_written(file.path):
            bad_names.append((printable(file.path), "its name has control characters or is not UTF-8; rename it"))
        else:
            images.append(SourceImage(split, class_name, name, file))
    order = {split: number for number, split in enumerate((None, *SPLIT_FOLDERS))}
    images.sort(key=lambda image: (order[image.split], image.name))
    return images, bad_names


def printable(name: str) -> str:
    """A file name that any terminal and any JSON file can hold."""
    return name if _can_be_written(name) else ascii(name)[1:-1]


def _can_be_written(name: str) -> bool:
    # Refuses control characters and bytes that are not UTF-8, but not the narrow space in macOS screenshots.
    return not any(unicodedata.category(character) in ("Cc", "Cs") for character in name)


def _find_prefix(paths: list[str], where: Path) -> tuple[str, bool]:
    """(folder that holds the data set, with its slash or empty; whether it has split folders)."""
    if any(path.split("/")[0] in _SPLIT_OF_FOLDER for path in paths if "/" in path):
        return "", True
    deep = [path.split("/") for path in paths if path.count("/") >= 2]
    tops = sorted({parts[0] for parts in deep if parts[1] in _SPLIT_OF_FOLDER})
    if len(tops) > 1:
        raise UserError(f"{where} holds several data sets: {', '.join(tops)}. Give one of them as --source.")
    if tops:
        return f"{tops[0]}/", True
    single = {path.split("/")[0] for path in paths}
    if len(single) == 1 and all("/" in path for path in paths):
        top = single.pop()
        inner = [path[len(top) + 1 :] for path in paths]
        if any("/" in path or label_of_name(path) is not None for path in inner):
            return f"{top}/", False
    return "", False


def _layout_of(placed: list[tuple[str | None, str, SourceFile]], where: Path) -> Layout:
    flat = [file.path for _, name, file in placed if "/" not in name]
    nested = [file.path for _, name, file in placed if "/" in name]
    if flat and nested:
        raise UserError(
            f"{where} has images with a class folder ({printable(nested[0])}) and images without "
            f"({printable(flat[0])}). Use one layout: a folder for each class, or all named LABEL_NAME.jpg."
        )
    return "flat" if flat else "class_folders"


def _list_folder(root: Path) -> list[SourceFile]:
    files: list[SourceFile] = []

    def refuse(error: OSError) -> None:
        raise UserError(f"cannot read {error.filename}: {error.strerror}. Check its permissions.") from error

    # Links to folders are followed, as in torchvision, but not to a parent folder: that would recurse for ever.
    parents: dict[str, frozenset[tuple[int, int]]] = {str(root): frozenset([folder_identity(root)])}
    for folder, subfolders, names in os.walk(root, onerror=refuse, followlinks=True):
        kept = []
        for subfolder in sorted(subfolders):
            identity = folder_identity(Path(folder, subfolder))
            if not is_side_file(subfolder) and identity not in parents[folder]:
                parents[str(Path(folder, subfolder))] = parents[folder] | {identity}
                kept.append(subfolder)
        subfolders[:] = kept
        for name in names:
            if is_image_name(name) and not is_side_file(name):
                files.append(_source_file(root, Path(folder, name)))
    return files


def _source_file(root: Path, path: Path) -> SourceFile:
    relative = path.relative_to(root).as_posix()
    try:
        status = path.stat()
    except OSError as error:  # a dangling link: reading it reports a bad image
        return SourceFile(relative, 0, f"unreadable: {error.strerror}")
    kind = "" if stat.S_ISREG(status.st_mode) else " not a regular file"
    return SourceFile(relative, status.st_size, f"mtime {status.st_mtime_ns}{kind}")
