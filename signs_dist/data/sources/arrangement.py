"""A table as a source of a build or an audit: its images, in class folders."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from signs_dist.data.names import SPLITS, printable
from signs_dist.data.photos.archive import SourceFile
from signs_dist.data.photos.sources import Arrangement, SourceImage, arrange, list_source, source_file
from signs_dist.data.sources.table import read_photos
from signs_dist.data.sources.table_file import is_table_name
from signs_dist.errors import UserError


def read_source(path: Path) -> tuple[Sequence[SourceFile], Arrangement]:
    """The files of a source, and what they are: of a zip, a folder or a table.

    Raises:
        UserError: the source cannot be read, or cannot be meant so.
    """
    if path.is_file() and is_table_name(path):
        return arrange_table(path)
    from signs_dist.data.shards.opening import find_shards  # NumPy: not for --help

    if path.is_dir() and find_shards(path):
        raise UserError(
            f"{path} holds tar shards. Training reads them where they lie: python -m signs_dist.train "
            f"data.root={shlex.quote(str(path))}. To build from their images, unpack them into class folders first."
        )
    files = list_source(path)
    return files, arrange(files, path)


def arrange_table(path: Path) -> tuple[Sequence[SourceFile], Arrangement]:
    """The images of a table, each in the folder of its class.

    Raises:
        UserError: as `read_photos`; also a class that is no name of a folder.
    """
    from signs_dist.config.settings import DataConfig  # pydantic: not for --help

    found = read_photos(path, DataConfig())
    for name in sorted({photo.class_name for photo in found.photos}):
        if "/" in name or name.startswith("."):
            raise UserError(
                f"{path}: class {printable(name)} is no name of a folder, which a built data set has for each class. "
                f"Rename it, or train on the table itself: data.root={path}"
            )
    images = [
        SourceImage(
            photo.split,
            photo.class_name,
            f"{photo.class_name}/{photo.path.removeprefix(f'{photo.class_name}/')}",
            source_file(found.root, photo.path),
        )
        for photo in found.photos
    ]
    order = {split: number for number, split in enumerate((None, *SPLITS))}
    images.sort(key=lambda image: (order[image.split], image.name))
    arrangement = Arrangement("class_folders", tuple(images), (), (), notes=found.notes, root=found.root)
    return [image.file for image in images], arrangement
