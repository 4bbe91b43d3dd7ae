"""Find the shards in a folder, and index their images."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from signs_dist.data.folder import ImageIndex
from signs_dist.data.images import is_image_name
from signs_dist.data.listed_images import ListedImage, index_listed
from signs_dist.data.litter import is_litter_file, is_litter_folder
from signs_dist.data.locks import locked
from signs_dist.data.names import listed, split_of_folder
from signs_dist.data.shards.labels import Label
from signs_dist.data.shards.reading import ShardReader
from signs_dist.data.shards.tar_index import (
    INDEX_SUFFIX,
    TarIndex,
    is_index_of,
    packed_message,
    read_index,
    scan,
    write_index,
)
from signs_dist.errors import UserError

CLASSES_FILES = ("classes.txt", "classes.json")
"""Files beside the shards with the names of the classes, in the order of their numbers."""
_PACKED_SUFFIXES = {".tar.gz": "gzip", ".tgz": "gzip", ".tar.bz2": "bzip2", ".tar.xz": "xz", ".tar.zst": "zstd"}
_NUMBER = re.compile(r"[-_.]?\d+(?:-of-\d+)?$")


def find_shards(root: Path) -> dict[str, list[Path]]:
    """The shards of each split in a folder; empty if it holds none.

    They are called after their split, as `train-000000.tar`, or lie in a folder of its name, as `train/shard-0.tar`,
    that holds no images.

    Raises:
        UserError: they are packed, or the names of all tars in a folder without folders tell no split.
    """
    try:
        entries = sorted(root.iterdir()) if root.is_dir() else []
    except OSError:
        return {}  # told where the folder is read as one of images
    found: dict[str, list[Path]] = {}
    folders = [entry for entry in entries if entry.is_dir() and not is_litter_folder(entry.name)]
    for folder in folders:
        split = split_of_folder(folder.name)
        if split is None:
            continue
        files = _files_if_no_image(folder)
        if files is None:
            return {}
        tars = _tars(files)
        if tars:
            found.setdefault(split, []).extend(tars)
    at_top = _tars([entry for entry in entries if entry.is_file()], is_top=bool(found) or bool(folders))
    unknown = [path.name for path in at_top if split_of_shard(path.name) is None]
    for path in at_top:
        split = split_of_shard(path.name)
        if split is not None:
            found.setdefault(split, []).append(path)
    has_images = any(is_image_name(entry.name) for entry in entries)
    if unknown and not found and not folders and not has_images:
        raise UserError(
            f"{root}: the names of {listed(unknown, 3)} tell no split. Call shards train-000000.tar and "
            f"val-000000.tar, or put them into folders train/ and val/."
        )
    return found


def split_of_shard(name: str) -> str | None:
    """The split in the name of a shard: `train` for train-000000.tar and imagenet-train-0001.tar; None without one."""
    stem = _NUMBER.sub("", name.removesuffix(".tar"))
    if split := split_of_folder(stem):
        return split
    splits = {split for word in re.split(r"[-_. ]+", stem) if (split := split_of_folder(word))}
    return splits.pop() if len(splits) == 1 else None


def _files_if_no_image(folder: Path) -> list[Path] | None:
    """The files in a folder, sorted; None if it holds an image or a folder: the first one ends the search."""
    files = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if is_litter_file(entry.name) or is_litter_folder(entry.name):
                    continue
                if is_image_name(entry.name) or entry.is_dir():
                    return None
                files.append(folder / entry.name)
    except OSError:
        return None
    return sorted(files)


def _tars(paths: Sequence[Path], *, is_top: bool = False) -> list[Path]:
    """The tars among files. Packed ones are refused; at the top of other folders they are passed over."""
    tars = [path for path in paths if path.name.endswith(".tar") and not is_litter_file(path.name)]
    for path in paths:
        kind = next((kind for suffix, kind in _PACKED_SUFFIXES.items() if path.name.lower().endswith(suffix)), None)
        stem = path.name.partition(".")[0]
        if kind is not None and not is_top and (tars or split_of_shard(f"{stem}.tar") is not None):
            raise UserError(packed_message(path, kind))
    return tars


def index_shards(
    root: Path,
    shards: Mapping[str, Sequence[Path]],
    *,
    cache: Path,
    label_key: str | None = None,
    tell: Callable[[str], None] | None = None,
) -> dict[str, ImageIndex]:
    """The index of each split, in the order of the shards' names and of their members.

    Args:
        root: the folder.
        shards: of each split, from `find_shards`.
        cache: keeps the indexes of shards whose folder cannot be written.
        label_key: as in `scan`: data.columns.label.
        tell: gets a line when this waits long for another process; None: standard error.

    Raises:
        UserError: a shard is broken, a class has no name, or what they hold is no data set.
    """
    paths = [path for split in shards for path in sorted(shards[split])]
    splits = [split for split in shards for _ in shards[split]]
    indexes = read_or_scan(paths, root, cache, label_key, tell)
    names = [path.relative_to(root).as_posix() for path in paths]
    reader = ShardReader(root, names, indexes)
    labels = {image.label for index in indexes for image in index.images}
    numbers = {label for label in labels if isinstance(label, int)}
    classes = read_classes(root) or next((found for path in paths if (found := read_classes(path.parent))), None)
    if classes is not None and (unknown := sorted(number for number in numbers if number >= len(classes))):
        raise UserError(
            f"{root}: the shards have images of class {listed(list(map(str, unknown)))}, and the file of classes has "
            f"{len(classes)} names, for the classes 0 to {len(classes) - 1}. Add the missing names."
        )
    images = [
        ListedImage(f"{name}/{image.name}", _class_name(image.label, classes), split)
        for name, split, index in zip(names, splits, indexes, strict=True)
        for image in index.images
    ]
    named = {label for label in labels if isinstance(label, str)}
    used = [name for number, name in enumerate(classes) if number in numbers or name in named] if classes else None
    if used is not None and not named <= set(used):
        used = None  # the members name the classes themselves
    splits_found = index_listed(images, root, reader, str(root), classes=used)
    unused = [name for name in classes or () if name not in splits_found["train"].classes]
    notes = [f"classes without an image in the shards, and not used: {listed(unused)}"] if unused else []
    notes += _passed_over(indexes)
    return splits_found | {
        "train": dataclasses.replace(splits_found["train"], notes=(*splits_found["train"].notes, *notes))
    }


def _class_name(label: Label, classes: Sequence[str] | None) -> str:
    if isinstance(label, str):
        return label
    return classes[label] if classes else str(label)


def _passed_over(indexes: Sequence[TarIndex]) -> list[str]:
    others: collections.Counter[str] = collections.Counter()
    for index in indexes:
        others.update(index.others)
    told = ", ".join(f"{number:,} {suffix}" for suffix, number in sorted(others.items()))
    return [f"passed over in the shards: {told}"] if others else []


def read_classes(folder: Path) -> list[str] | None:
    """The names of the classes beside the shards, by their numbers; None without a file of them.

    classes.txt has a name in each line; classes.json a list of names, or number → name, or name → number.

    Raises:
        UserError: the file is broken, or a name is given twice.
    """
    file = next((folder / name for name in CLASSES_FILES if (folder / name).is_file()), None)
    if file is None:
        return None
    try:
        text = file.read_text(encoding="utf-8-sig")
        names = (
            _names_of_json(json.loads(text)) if file.suffix == ".json" else [name.strip() for name in text.splitlines()]
        )
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the names of classes in {file}: {error}.") from error
    while names and not names[-1].strip():
        names.pop()
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not all(names):
        what = f"{listed(twice)} is there twice" if twice else f"line {names.index('') + 1} is empty"
        raise UserError(f"{file} must have the name of each class once, in the order of their numbers: {what}.")
    return names


def _names_of_json(value: object) -> list[str]:
    if isinstance(value, dict):
        pairs = value.items()
        number_of = (
            {int(number): str(name) for name, number in pairs}
            if all(isinstance(number, int) for number in value.values())
            else {int(number): str(name) for number, name in pairs}
        )
        if sorted(number_of) != list(range(len(number_of))):
            raise ValueError("its numbers are not 0, 1, 2 and so on")
        return [number_of[number] for number in range(len(number_of))]
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return list(value)
    raise ValueError("it is neither a list of names nor a mapping from number to name")


def read_or_scan(
    shards: Sequence[Path],
    root: Path,
    cache: Path,
    label_key: str | None = None,
    tell: Callable[[str], None] | None = None,
) -> list[TarIndex]:
    """The index of each shard: from the file beside it or in the cache, else by reading the shard's headers, once."""
    known = [_read(shard, cache, label_key) for shard in shards]
    if all(known):
        return [index for index in known if index is not None]
    with _one_at_a_time(root, cache, tell):
        return [_read(shard, cache, label_key) or _scan_and_keep(shard, cache, label_key) for shard in shards]


def _read(shard: Path, cache: Path, label_key: str | None) -> TarIndex | None:
    try:
        for path in _index_paths(shard, cache):
            if is_index_of(index := read_index(path), shard, label_key):
                return index
    except OSError as error:
        raise UserError(f"cannot read {shard}: {error.strerror}.") from error
    return None


def _scan_and_keep(shard: Path, cache: Path, label_key: str | None) -> TarIndex:
    index = scan(shard, label_key)
    for path in _index_paths(shard, cache):
        if write_index(path, index):
            break
    return index


def _index_paths(shard: Path, cache: Path) -> tuple[Path, Path]:
    """Where the index of a shard may lie: beside it, or where that folder cannot be written, in the cache."""
    name = f"{shard.name}{INDEX_SUFFIX}"
    return shard.with_name(name), cache / "shards" / f"{_key(shard)}-{name}"


def _key(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:16]


@contextlib.contextmanager
def _one_at_a_time(root: Path, cache: Path, tell: Callable[[str], None] | None) -> Iterator[None]:
    """Let one process read the headers. Where no lock can be made, each process reads them."""
    folder = cache / "shards"
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            lock = locked(folder / f"{_key(root)}.lock", "reads the headers of these shards", tell=tell)
            stack.enter_context(lock)
        yield
