"""Data sets that are no folders of images: a reader of the user's own, or tar shards."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from signs_dist.config.settings import DataConfig
from signs_dist.data.folder import ImageIndex
from signs_dist.data.own_reader import index_own_reader, list_own_reader
from signs_dist.data.shards.opening import find_shards, index_shards
from signs_dist.data.sources.dividing import Report
from signs_dist.data.sources.folders import with_groups
from signs_dist.data.sources.opening import refuse_division, split_collection
from signs_dist.errors import UserError


@dataclasses.dataclass(frozen=True)
class OtherSource:
    """An indexed data set.

    Attributes:
        name: for people.
        root: what the paths of its images are shown below.
        splits: the index of each split.
        notes: what a user should know of it, a line each.
        division: name → split of the images that were divided; None where the data say their splits.
    """

    name: str
    root: Path
    splits: Mapping[str, ImageIndex]
    notes: tuple[str, ...] = ()
    division: Mapping[str, str] | None = None


def open_other_source(
    config: DataConfig,
    roots: Sequence[Path],
    *,
    copy: Path | None = None,
    report: Report | None = None,
    tell: Callable[[str], None] | None = None,
) -> OtherSource | None:
    """The images of `data.reader`, or of the shards in the single folder of `roots`; None where there are neither.

    Args:
        config: the data section.
        roots: what `data.root` is.
        copy: as in `open_roots`.
        report: called with the progress.
        tell: gets a line when this waits long for another process.

    Raises:
        UserError: there are, and they are no data set, or cannot be divided.
    """
    if config.reader is not None:
        return _open_reader(config, config.reader, copy, report, tell)
    if len(roots) != 1 or not (shards := find_shards(roots[0])):
        return None
    (root,) = roots
    refuse_division(config, str(root))
    splits = index_shards(root, shards, cache=Path(config.cache), label_key=config.columns.label)
    return OtherSource(str(root), root, splits, _notes(splits))


def _open_reader(
    config: DataConfig,
    name: str,
    copy: Path | None,
    report: Report | None,
    tell: Callable[[str], None] | None,
) -> OtherSource:
    reader, found = list_own_reader(name, config.reader_args)
    present = found.splits()
    if None in present and len(present) > 1:
        raise UserError(
            f"{reader.what}: images() gives no split (None) for some images, and {present[1]} for others. Give a split "
            f"for all, or for none: they are then divided."
        )
    if None not in present:
        refuse_division(config, name)
        splits = index_own_reader(reader, found)
        return OtherSource(name, Path(name), splits, _notes(splits))
    if config.columns.group is not None:
        raise UserError(f"data.columns.group is for tables, and {name} is a reader. Type data.group_pattern instead.")
    divided = split_collection(with_groups(found, config), config, [Path(name)], copy=copy, report=report, tell=tell)
    splits = {split: dataclasses.replace(index, source=reader) for split, index in divided.splits.items()}
    return OtherSource(name, Path(name), splits, divided.notes, divided.division)


def _notes(splits: Mapping[str, ImageIndex]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(note for index in splits.values() for note in index.remarks()))
