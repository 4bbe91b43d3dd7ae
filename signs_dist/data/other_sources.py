"""Data sets that are no folders of images: a reader of the user's own, or tar shards."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from signs_dist.config.settings import DataConfig
from signs_dist.data.folder import ImageIndex
from signs_dist.data.own_reader import index_own_reader
from signs_dist.data.shards.opening import find_shards, index_shards


@dataclasses.dataclass(frozen=True)
class OtherSource:
    """An indexed data set.

    Attributes:
        name: for people.
        root: what the paths of its images are shown below.
        splits: the index of each split.
        notes: what a user should know of it, a line each.
    """

    name: str
    root: Path
    splits: Mapping[str, ImageIndex]
    notes: tuple[str, ...] = ()


def open_other_source(config: DataConfig, roots: Sequence[Path]) -> OtherSource | None:
    """The images of `data.reader`, or of the shards in the single folder of `roots`; None where there are neither.

    Raises:
        UserError: there are, and they are no data set.
    """
    if config.reader is not None:
        splits = index_own_reader(config.reader, config.reader_args)
        return OtherSource(config.reader, Path(config.reader), splits, _notes(splits))
    if len(roots) != 1 or not (shards := find_shards(roots[0])):
        return None
    (root,) = roots
    splits = index_shards(root, shards, cache=Path(config.cache))
    return OtherSource(str(root), root, splits, _notes(splits))


def _notes(splits: Mapping[str, ImageIndex]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(note for index in splits.values() for note in index.remarks()))
