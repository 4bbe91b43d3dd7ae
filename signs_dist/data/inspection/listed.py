"""What a folder, a zip or a table lists, by names alone: photos, classes and splits, and the layout in words."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from signs_dist.data.inspection.looking import OpenReader, Reader
from signs_dist.data.litter import is_litter_file, is_litter_folder
from signs_dist.data.names import class_notes, listed
from signs_dist.data.photos.sources import Arrangement, SourceReader, arrange, list_source
from signs_dist.data.readers import FolderReader
from signs_dist.data.sources.table_file import is_table_name
from signs_dist.errors import UserError

if TYPE_CHECKING:
    from signs_dist.config.settings import DataConfig

Kind = Literal["folder", "zip", "table", "shards"]


@dataclass(frozen=True)
class ListedPhoto:
    """A photo with a class."""

    path: str
    """As the reader takes it."""
    class_name: str
    split: str | None
    """train, val or test; None: the source is not split."""
    group: str | None = None
    """Photos of one group are to stay on one side of a division. None: photos are not grouped."""


@dataclass(frozen=True)
class Listed:
    """All that names say."""

    source: Path
    kind: Kind
    layout: str
    """How the photos lie, in words."""
    photos: tuple[ListedPhoto, ...]
    root: Path
    """The folder that the photos' paths begin at; for a zip, the zip."""
    open_reader: OpenReader
    bad_names: tuple[tuple[str, str], ...] = ()
    """(path, reason) of photos without a class."""
    outside: tuple[str, ...] = ()
    """Photos outside the split folders."""
    notes: tuple[str, ...] = ()
    """What was passed over, and what else a user should know. A line each."""
    problems: tuple[str, ...] = ()
    """What must be mended before a training. A line each."""
    name_notes: tuple[str, ...] = ()
    """Names of classes that look alike. A line each."""
    tables: tuple[str, ...] = ()
    """Tables that lie beside the photos, by their paths below the source."""

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that the source has, in the order train, val, test; empty if it is not split."""
        present = {photo.split for photo in self.photos}
        return tuple(split for split in ("train", "val", "test") if split in present)


def list_photos(source: Path, config: DataConfig | None = None) -> Listed:
    """List the photos of a folder, a zip, a table or tar shards.

    Args:
        source: where they are.
        config: the data section, which may say how classes and groups are read. None: the defaults.

    Raises:
        UserError: the source cannot be read, or holds no photos in a known layout. The message names tables beside the
            photos, which may hold their labels.
    """
    from signs_dist.data.shards.opening import find_shards
    from signs_dist.data.sources.opening import is_usual_folder, refuse_columns
    from signs_dist.data.sources.table_file import OTHER_TABLES, TABLE_SUFFIXES

    if config is None:
        from signs_dist.config.settings import DataConfig

        config = DataConfig()
    if source.is_dir() and (shards := find_shards(source)):
        refuse_columns(config, str(source), has_label=True)
        return _list_shards(source, shards, Path(config.cache), config.columns.label)
    is_table = source.is_file() and source.suffix.lower() in (*TABLE_SUFFIXES, *OTHER_TABLES)
    has_settings = config.group_pattern is not None or config.label_pattern is not None
    if is_table or (source.is_dir() and (has_settings or not is_usual_folder(source, config))):
        return _list_collection(source, config, is_table=is_table)
    refuse_columns(config, str(source))
    return _list_usual(source)


def _list_shards(source: Path, shards: Mapping[str, Sequence[Path]], cache: Path, label_key: str | None) -> Listed:
    """The photos of tar shards."""
    from signs_dist.data.shards.opening import index_shards

    splits = index_shards(source, shards, cache=cache, label_key=label_key)
    classes = splits["train"].classes
    alike = class_notes(classes)
    notes = dict.fromkeys(note for index in splits.values() for note in index.remarks() if note not in alike)
    num_shards = sum(map(len, shards.values()))
    return Listed(
        source=source,
        kind="shards",
        layout=f"{num_shards:,} tar shard{'' if num_shards == 1 else 's'}, with {', '.join(splits)}",
        photos=tuple(
            ListedPhoto(path, classes[label], split)
            for split, index in splits.items()
            for path, label in zip(index.paths, index.labels.tolist(), strict=True)
        ),
        root=source,
        open_reader=functools.partial(_as_it_is, splits["train"].reader),
        notes=tuple(notes),
        name_notes=tuple(alike),
    )


def _list_usual(source: Path) -> Listed:
    """The photos of a folder or a zip that tells classes by folders, or by the names of files."""
    tables = tables_beside(source)
    try:
        arrangement = arrange(list_source(source), source)
    except UserError as error:
        if not tables:
            raise
        raise UserError(f"{error} {_about_tables(source, tables)}") from error
    alike = class_notes({image.class_name for image in arrangement.images})
    return Listed(
        source=source,
        kind="zip" if source.is_file() else "folder",
        layout=describe_layout(arrangement),
        photos=tuple(ListedPhoto(image.file.path, image.class_name, image.split) for image in arrangement.images),
        root=source,
        open_reader=functools.partial(SourceReader, source),
        bad_names=arrangement.bad_names,
        outside=arrangement.outside,
        notes=tuple(note for note in arrangement.notes if note not in alike),
        problems=arrangement.problems,
        name_notes=tuple(alike),
        tables=tuple(tables),
    )


def _list_collection(source: Path, config: DataConfig, *, is_table: bool) -> Listed:
    """The photos of a table, of a folder with tables, or of one whose classes a setting tells."""
    from signs_dist.data.sources.collection import Collection
    from signs_dist.data.sources.opening import read_roots, refuse_columns

    collection = read_roots(config, [source])
    if not isinstance(collection, Collection) or not collection.is_from_table:
        refuse_columns(config, str(source))
    if not isinstance(collection, Collection):  # class folders with train and val, which need no table
        return _list_usual(source)
    alike = class_notes({photo.class_name for photo in collection.photos})
    how = "a table of paths and classes" if is_table else "classes from a table in it"
    if config.label_pattern is not None:
        how = "classes from data.label_pattern"
    splits = [split for split in collection.splits() if split is not None]
    return Listed(
        source=source,
        kind="table" if is_table else "folder",
        layout=f"{how}, {'with ' + ', '.join(splits) if splits else 'not split'}",
        photos=tuple(
            ListedPhoto(photo.path, photo.class_name, photo.split, photo.group) for photo in collection.photos
        ),
        root=collection.root,
        open_reader=functools.partial(_open_files, collection.root),
        notes=tuple(note for note in collection.notes if note not in alike),
        name_notes=tuple(alike),
    )


def _open_files(root: Path) -> contextlib.AbstractContextManager[Reader]:
    return contextlib.nullcontext(FolderReader(root))


def _as_it_is(reader: Reader) -> contextlib.AbstractContextManager[Reader]:
    return contextlib.nullcontext(reader)


def describe_layout(arrangement: Arrangement) -> str:
    """The layout in words, with the names of the folders of splits."""
    if arrangement.layout == "flat":
        example = next((image.file.path for image in arrangement.images), "3_IMG_5942.jpg").rpartition("/")[2]
        how = f"labels in names such as {example}"
    else:
        how = "a folder for each class"
    folders: dict[str, str] = {}
    for image in arrangement.images:
        if image.split is not None and image.split not in folders:
            folders[image.split] = image.file.path[: len(image.file.path) - len(image.name)]
    if not folders:
        return f"{how}, not split"
    return f"{how} in " + ", ".join(
        folder if folder.strip("/").rpartition("/")[2] == split else f"{folder} ({split})"
        for split, folder in folders.items()
    )


def tables_beside(source: Path) -> list[str]:
    """Tables in a folder and in the folders directly in it, by their paths below it: likely ones with classes first."""
    if not source.is_dir():
        return []
    found = []
    try:
        for name in sorted(os.listdir(source)):  # noqa: PTH208 - names are what is wanted
            if _is_table(name):
                found.append(name)
            elif not is_litter_folder(name) and (source / name).is_dir():
                found += [f"{name}/{inner}" for inner in sorted(os.listdir(source / name)) if _is_table(inner)]  # noqa: PTH208
    except OSError:  # the walk that follows says what cannot be read
        return []
    return sorted(found, key=_unlikeliness)


def _unlikeliness(table: str) -> int:
    """How unlikely a table holds the classes of photos, by its name: competitions have train.csv beside others."""
    words = re.split(r"[^a-z]+", Path(table).stem.lower())
    if not {"sample", "submission", "samplesubmission", "test", "example"}.isdisjoint(words):
        return 2
    return 0 if not {"train", "training", "labels", "label"}.isdisjoint(words) else 1


def _is_table(name: str) -> bool:
    return is_table_name(Path(name)) and not is_litter_file(name)


def _about_tables(source: Path, tables: Sequence[str]) -> str:
    return (
        f"{source} has tables ({listed(tables)}). If {tables[0]} holds the classes, type: python -m signs_dist.inspect "
        f"{shlex.quote(str(source / tables[0]))}"
    )
