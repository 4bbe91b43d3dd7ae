"""Look at all photos of a source, and compare them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from signs_dist.data.class_counts import UNSPLIT, count_classes, missing_classes
from signs_dist.data.duplicates import Duplicates, find_duplicates, sort_groups
from signs_dist.data.folder import sorted_classes
from signs_dist.data.images import MAX_MEGAPIXELS
from signs_dist.data.inspection.listed import Listed, ListedPhoto, list_photos
from signs_dist.data.inspection.looking import PhotoFacts, look_at
from signs_dist.data.problems import BadFile

if TYPE_CHECKING:
    from signs_dist.config.settings import DataConfig

Progress = Callable[[str, int, int], None]
"""Called with (the work in progress, photos done, photos in all)."""


@dataclass(frozen=True)
class Inspection:
    """What was found in a source."""

    listed: Listed
    facts: Mapping[str, PhotoFacts]
    """Path → facts of the photos that can be used."""
    bad: tuple[BadFile, ...]
    """Photos that cannot be used, sorted by path; those without a class are among them."""
    counts: Mapping[str, Mapping[str, int]]
    """Split → class → photos that can be used. A source without splits has the one split `all`."""
    missing: tuple[tuple[str, str], ...]
    """(split, class) pairs without a photo."""
    single: tuple[str, ...]
    """Classes of one photo, copies counted once, of a source without val photos: train and val each need one."""
    duplicates: Duplicates
    """Photos with equal pixels."""
    near: Duplicates
    """Groups with photos that are nearly, and not only exactly, equal. Empty if they were not looked for."""

    @property
    def photos(self) -> list[ListedPhoto]:
        """The photos that can be used."""
        return [photo for photo in self.listed.photos if photo.path in self.facts]

    def class_counts(self) -> dict[str, int]:
        """Class → its photos in all splits."""
        totals: dict[str, int] = {}
        for row in self.counts.values():
            for name, count in row.items():
                totals[name] = totals.get(name, 0) + count
        return totals


def inspect_photos(
    source: Path,
    config: DataConfig | None = None,
    *,
    processes: int | None = None,
    max_megapixels: float = MAX_MEGAPIXELS,
    has_near: bool = True,
    on_progress: Progress = lambda what, done, total: None,
) -> Inspection:
    """Decode all photos of a source, and compare them.

    Args:
        source: a folder, a zip or a table.
        config: the data section, which may say how classes and groups are read. None: the defaults.
        processes: worker processes. None: all usable cores.
        max_megapixels: larger photos cannot be used.
        has_near: whether to look for near copies as well.
        on_progress: called with the progress.

    Raises:
        UserError: the source holds no photos in a known layout.
    """
    listed = list_photos(source, config)
    looked = look_at(
        listed.open_reader,
        [photo.path for photo in listed.photos],
        processes=processes,
        max_megapixels=max_megapixels,
        on_progress=lambda done, total: on_progress("reading images", done, total),
    )
    return judge(listed, looked, has_near=has_near)


def judge(listed: Listed, looked: Sequence[PhotoFacts], *, has_near: bool = True) -> Inspection:
    """Compare photos that were looked at."""
    facts = {each.path: each for each in looked if each.reason is None}
    bad = [BadFile(path, reason) for path, reason in listed.bad_names]
    bad += [BadFile(each.path, each.reason) for each in looked if each.reason is not None]
    usable = [photo for photo in listed.photos if photo.path in facts]
    counts = count_classes((photo.split, photo.class_name) for photo in usable)
    splits = {photo.path: photo.split or UNSPLIT for photo in usable}
    classes = {photo.path: photo.class_name for photo in usable}
    return Inspection(
        listed=listed,
        facts=facts,
        bad=tuple(sorted(bad, key=lambda file: file.path)),
        counts=counts,
        missing=missing_classes(counts),
        single=() if "val" in counts else _single_classes(usable, facts),
        duplicates=find_duplicates({path: (splits[path], each.digest) for path, each in facts.items()}, classes),
        near=sort_groups(near_groups(facts), splits, classes) if has_near else Duplicates((), ()),
    )


def near_groups(facts: Mapping[str, PhotoFacts]) -> list[tuple[str, ...]]:
    """Groups of photos that are near copies of each other, with those of equal pixels among them."""
    import numpy

    from signs_dist.data.inspection.near_copies import join_pairs, near_pairs

    paths_of: dict[str, list[str]] = {}
    for path, each in facts.items():
        paths_of.setdefault(each.digest, []).append(path)
    different = [facts[paths[0]] for paths in paths_of.values()]
    if len(different) < 2:
        return []
    hashes = numpy.array([each.difference_hash for each in different], dtype=numpy.uint64)
    thumbs = numpy.frombuffer(b"".join(each.thumb for each in different), numpy.uint8).reshape(len(different), -1)
    groups = join_pairs(near_pairs(hashes, thumbs))
    return [tuple(sorted(path for number in group for path in paths_of[different[number].digest])) for group in groups]


def _single_classes(photos: Sequence[ListedPhoto], facts: Mapping[str, PhotoFacts]) -> tuple[str, ...]:
    """The classes of which all training photos are one."""
    digests: dict[str, set[str]] = {}
    for photo in photos:
        if photo.split != "test":
            digests.setdefault(photo.class_name, set()).add(facts[photo.path].digest)
    return sorted_classes({name for name, found in digests.items() if len(found) == 1})
