"""Divide the photos of a collection, once and for all: what is known stays, what is new is added to the file."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from signs_dist.config.data_settings import DEFAULT_SHARES
from signs_dist.config.settings import DataConfig
from signs_dist.data.folder import ImageIndex
from signs_dist.data.names import listed, printable
from signs_dist.data.photos.archive import SourceFile
from signs_dist.data.photos.copies import Copies, find_copies
from signs_dist.data.sources.collection import Collection, Photo, to_indexes
from signs_dist.data.sources.division import divide, make_units
from signs_dist.data.sources.division_file import agree, file_of, shown_place
from signs_dist.errors import UserError

Report = Callable[[str, int, int], None]
"""Called with (the work in progress, images done, images in all)."""


@dataclasses.dataclass(frozen=True)
class Opened:
    """The splits of `data.root`.

    Attributes:
        root: the folder that all paths begin at.
        splits: the index of each split.
        notes: what a user should know, a line each.
        division: name → split of the images that were divided; None where the data say all splits.
    """

    root: Path
    splits: Mapping[str, ImageIndex]
    notes: tuple[str, ...] = ()
    division: Mapping[str, str] | None = None


def as_before(found: Collection, known: Mapping[str, str], place: str, where: str) -> Opened:
    """The splits of a run that has begun.

    Args:
        found: the photos that are there now.
        known: name → split in the run's own division.
        place: the file of that division, for messages.
        where: what `data.root` is, for messages.

    Raises:
        UserError: none of the run's photos is there.
    """
    split_of = [photo.split if photo.split in ("val", "test") else known.get(photo.known_as) for photo in found.photos]
    if not any(split_of):
        raise UserError(f"none of the images of {place} is in {where}. Give their place with data.root=FOLDER")
    notes = [f"divided as when the run began ({place})"]
    num_new = split_of.count(None)
    if num_new:
        words = "image was" if num_new == 1 else "images were"
        notes.append(f"{num_new:,} {words} added since, and not used by this run; a new run takes all")
    splits = to_indexes(found, split_of, where)
    used = {photo.known_as: known[photo.known_as] for photo in found.photos if photo.known_as in known}
    if len(used) < len(known):
        notes.append(f"{len(known) - len(used):,} images of the run are gone")
    return Opened(found.root, splits, (*found.notes, *notes), used)


def divide_collection(
    found: Collection,
    config: DataConfig,
    roots: Sequence[Path],
    where: str,
    report: Report | None,
    tell: Callable[[str], None] | None,
) -> Opened:
    """Divide photos that are not split, or train into train and val, as the written division says.

    Args:
        found: the photos.
        config: the data section.
        roots: what `data.root` is.
        where: the same for messages.
        report: called with the progress.
        tell: gets a line when this waits long for another process.

    Raises:
        UserError: the photos cannot be divided, or the division cannot be written.
    """
    shares = choose_shares(config.split, has_test="test" in found.splits())
    photos = {photo.known_as: photo for photo in found.photos if photo.split in (None, "train")}
    classes = {name: photo.class_name for name, photo in photos.items()}
    if len(set(classes.values())) < 2:
        only = printable(next(iter(classes.values())))
        raise UserError(f"{where}: all images are of the single class {only!r}. A classifier needs two or more.")
    groups = {name: photo.group for name, photo in photos.items() if photo.group is not None} or None
    _require_outside(Path(config.split_folder), roots)
    facts = {
        "shares": shares,
        "seed": config.split_seed,
        "group": [config.group_pattern, config.columns.group],
        "label": [config.label_pattern, config.columns.label],
        # Without arguments as it ever was: the file of a division keeps its name.
        **({"reader_args": config.reader_args} if config.reader_args else {}),
    }
    path = file_of(Path(config.split_folder), roots, facts)
    num_known = num_copies = 0

    def decide(known: Mapping[str, str]) -> Mapping[str, str]:
        nonlocal num_known, num_copies
        num_known = len(known.keys() & photos.keys())
        copies = _copies(found.root, photos, known, report)
        num_copies = sum(len(copied) - 1 for copied in copies)
        chosen = divide(make_units(classes, groups, copies), shares, config.split_seed, known)
        _require_val(chosen, where, is_grouped=groups is not None)
        return chosen

    division = agree(path, list(photos), decide, tell=tell)
    splits = to_indexes(found, [division.get(photo.known_as, photo.split) for photo in found.photos], where)
    notes = [division_line(Counter(division.values()), shares, config.split_seed, groups, shown_place(path))]
    num_new = len(division) - num_known
    if num_known and num_new > 0:
        words = "image is" if num_new == 1 else "images are"
        notes.append(f"{num_new:,} {words} new in {path.name}; the others stay where they were")
    if num_copies:
        words = "copy of an image stays" if num_copies == 1 else "copies of images stay"
        notes.append(f"{num_copies:,} {words} on the side of the original")
    if "test" in shares and "test" not in splits:
        notes.append("test has no images: there are too few to divide. Without test: data.split=[0.8, 0.2]")
    reason = ", too few different images or groups of it"
    return Opened(found.root, splits, (*notes, *lacking_notes(splits, reason), *found.notes), division)


def _require_outside(folder: Path, roots: Sequence[Path]) -> None:
    """Refuse a folder for divisions among the photos: what runs write beside it would be classes next time."""
    for root in roots:
        if root.is_dir() and root.resolve() in folder.resolve().parents:
            raise UserError(
                f"data.split_folder={folder} lies in data.root={root}, where it would be taken for a class. Start the "
                f"command in another folder, or give data.split_folder, data.cache and --run-dir outside {root}."
            )


def choose_shares(given: Sequence[float] | None, *, has_test: bool) -> dict[str, float]:
    """The share of each split. Where the data have test images, train is divided into train and val alone."""
    shares = dict(zip(("train", "val", "test"), given or DEFAULT_SHARES, strict=False))
    if not has_test:
        return shares
    both = shares["train"] + shares["val"]
    return {split: shares[split] / both for split in ("train", "val")}


def division_line(
    counts: Mapping[str, int], shares: Mapping[str, float], seed: int, groups: Mapping[str, str] | None, place: str
) -> str:
    """What a run says of its division, in one line."""
    total = sum(counts.values())
    real = ", ".join(f"{split} {100 * counts.get(split, 0) / total:.1f} %" for split in shares)
    if groups is None:
        return f"divided: {real} of the images, each class by itself, by data.split_seed={seed}; written in {place}"
    wanted = "/".join(f"{100 * share:g}" for share in shares.values())
    num_images = Counter(groups.values())
    num_single = sum(number == 1 for number in num_images.values())
    num_groups = len(num_images) - num_single
    named = "1 group" if num_groups == 1 else f"{num_groups:,} groups"
    # Where copies are grouped, most images are a group of their own, and nobody counts those.
    singles = f" of 2 or more images, and {num_single:,} single image{'' if num_single == 1 else 's'}"
    return (
        f"divided: {named}{singles if num_single else ''}, each on one side, by data.split_seed={seed}: {real} of the "
        f"images ({wanted} wanted); written in {place}"
    )


def lacking_notes(splits: Mapping[str, ImageIndex], reason: str = "") -> list[str]:
    """Which classes of train val and test lack; of val also the reason."""
    notes = []
    for split in ("val", "test"):
        counts = splits[split].count_per_class() if split in splits else {}
        lacking = [name for name, count in counts.items() if not count]
        if lacking:
            which = "class" if len(lacking) == 1 else f"{len(lacking):,} classes:"
            notes.append(f"{split} has no image of {which} {listed(lacking)}{reason if split == 'val' else ''}")
    return notes


def _require_val(chosen: Mapping[str, str], where: str, *, is_grouped: bool) -> None:
    if "val" in chosen.values():
        return
    if is_grouped:
        raise UserError(
            f"{where}: no group can be val, because each has a class that no other group has. Images of a class must "
            f"be in two groups or more. Choose other groups with data.group_pattern or data.columns.group, or none."
        )
    raise UserError(f"{where}: no class has two different images, one of them for val. Add images.")


def _copies(root: Path, photos: Mapping[str, Photo], known: Mapping[str, str], report: Report | None) -> Copies:
    """Groups of names with the same content, of which one at least is not divided yet."""
    sizes: dict[str, int] = {}
    for name, photo in photos.items():
        try:
            sizes[name] = (root / photo.path).stat().st_size
        except OSError:  # a link to nothing, which is named when it is read
            continue
    wanted = {size for name, size in sizes.items() if name not in known}
    name_of = {photos[name].path: name for name, size in sizes.items() if size in wanted}
    files = [SourceFile(path, sizes[name], "") for path, name in name_of.items()]
    on_progress = None if report is None else lambda done, total: report("comparing files", done, total)
    found = find_copies(root, files, on_progress)
    return tuple(tuple(name_of[path] for path in paths) for paths in found)
