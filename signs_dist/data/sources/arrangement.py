"""A table or tar shards as a source of a build: their images, in class folders."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from signs_dist.data.names import SPLITS, printable
from signs_dist.data.photos.archive import SourceFile
from signs_dist.data.photos.sources import Arrangement, SourceImage, arrange, list_source, source_file
from signs_dist.data.sources.table import read_photos
from signs_dist.data.sources.table_file import is_table_name
from signs_dist.errors import UserError


def read_source(path: Path) -> tuple[Sequence[SourceFile], Arrangement]:
    """The files of a source, and what they are: of a zip, a folder, a table or tar shards.

    Raises:
        UserError: the source cannot be read, or cannot be meant so.
    """
    if path.is_file() and is_table_name(path):
        return arrange_table(path)
    from signs_dist.data.shards.opening import find_shards  # NumPy: not for --help

    if path.is_dir() and (shards := find_shards(path)):
        return _arrange_shards(path, shards)
    files = list_source(path)
    return files, arrange(files, path)


def arrange_table(path: Path) -> tuple[Sequence[SourceFile], Arrangement]:
    """The images of a table, each in the folder of its class.

    Raises:
        UserError: as `read_photos`; also a class that is no name of a folder.
    """
    from signs_dist.config.settings import DataConfig  # pydantic: not for --help

    found = read_photos(path, DataConfig())
    _require_names_of_folders({photo.class_name for photo in found.photos}, path, "the table itself")
    images = [
        SourceImage(
            photo.split,
            photo.class_name,
            f"{photo.class_name}/{photo.path.removeprefix(f'{photo.class_name}/')}",
            source_file(found.root, photo.path),
        )
        for photo in found.photos
    ]
    arrangement = _in_class_folders(images, found.notes, found.root)
    return [image.file for image in arrangement.images], arrangement


def _arrange_shards(path: Path, shards: Mapping[str, Sequence[Path]]) -> tuple[Sequence[SourceFile], Arrangement]:
    """The images of tar shards, each in the folder of its class, under the name that its member has."""
    from signs_dist.config.settings import DataConfig  # pydantic: not for --help
    from signs_dist.data.shards.opening import index_shards

    splits = index_shards(path, shards, cache=Path(DataConfig().cache))
    _require_names_of_folders(set(splits["train"].classes), path, "the shards themselves")
    images = []
    for split, index in splits.items():
        names = [name.partition(".tar/")[2].removeprefix("./") for name in index.paths]
        are_different = len(set(names)) == len(names)
        for image, name, label in zip(index.paths, names, index.labels.tolist(), strict=True):
            class_name = index.classes[label]
            below = name.removeprefix(f"{class_name}/") if are_different else image.replace(".tar/", "/", 1)
            file = SourceFile(image, *index.reader.stamp(image))
            images.append(SourceImage(split, class_name, f"{class_name}/{below}", file))
    notes = tuple(dict.fromkeys(note for index in splits.values() for note in index.remarks()))
    arrangement = _in_class_folders(images, notes, None)
    return [image.file for image in arrangement.images], arrangement


def _require_names_of_folders(classes: Iterable[str], path: Path, itself: str) -> None:
    for name in sorted(classes):
        if "/" in name or name.startswith("."):
            raise UserError(
                f"{path}: class {printable(name)} is no name of a folder, which a built data set has for each class. "
                f"Rename it, or train on {itself}: data.root={path}"
            )


def _in_class_folders(images: list[SourceImage], notes: tuple[str, ...], root: Path | None) -> Arrangement:
    order = {split: number for number, split in enumerate((None, *SPLITS))}
    images.sort(key=lambda image: (order[image.split], image.name))
    return Arrangement("class_folders", tuple(images), (), (), notes=notes, root=root)
