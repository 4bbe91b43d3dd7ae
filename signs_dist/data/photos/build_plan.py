"""The request for a build, and the output file of each image. Pure functions on names; no pixels are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from signs_dist.data.class_counts import count_classes
from signs_dist.data.folder import sorted_classes
from signs_dist.data.images import MAX_MEGAPIXELS, is_image_name
from signs_dist.data.photos.archive import SourceFile
from signs_dist.data.photos.copies import Copies
from signs_dist.data.photos.sources import Arrangement, SourceImage
from signs_dist.data.photos.split import (
    PUBLISHED_SEED,
    PUBLISHED_VAL_SHARE,
    Division,
    published_split,
    stratified_val,
)
from signs_dist.data.problems import listed
from signs_dist.errors import UserError
from signs_dist.monitoring.plain_text import one_line

BadImages = Literal["stop", "skip", "quarantine"]
SmallClasses = Literal["stop", "skip"]

_DIVIDE_EACH_CLASS = (
    "The published split draws from the photos of all classes together. To divide each class by itself, add --split "
    "stratified."
)
_FLAT_FOLDERS = {"train": "train_signs", "val": "val_signs", "test": "test_signs"}


@dataclass(frozen=True)
class BuildRequest:
    """What to build, and how."""

    source: Path
    """A zip, a folder of photos or of tar shards, or a table."""
    out: Path | None = None
    """Folder to make. None: see `default_out`."""
    size: int = 64
    """Side of the output images in pixels."""
    val_share: float = PUBLISHED_VAL_SHARE
    """Share of the training images that become val images, where the source has no val split."""
    seed: int = PUBLISHED_SEED
    """Seed of that division."""
    split: Division | None = None
    """How train is divided. None: published for names such as 3_IMG_5942.jpg, stratified for class folders."""
    small_classes: SmallClasses = "stop"
    """At a class without an image for train or for val. stop: make no data set; skip: omit the class."""
    bad_images: BadImages = "stop"
    """stop: make no data set; skip: omit them; quarantine: omit them and copy them to OUT.quarantine."""
    quality: int = 95
    """JPEG quality, 1 to 100."""
    processes: int | None = None
    """Worker processes. None: all usable cores."""
    max_megapixels: float = MAX_MEGAPIXELS
    """Larger images are bad images."""
    shards: bool = False
    """Whether to write tar shards instead of a file for each image."""
    shard_megabytes: int = 256
    """Largest size of a shard, in millions of bytes."""

    def check(self) -> None:
        """Raise UserError for a value out of its range."""
        limits: list[tuple[str, float, float, float]] = [
            ("--size", self.size, 8, 4096),
            ("--quality", self.quality, 1, 100),
            ("--shard-megabytes", self.shard_megabytes, 1, 1_000_000),
            ("--processes", self.processes if self.processes is not None else 1, 1, 1024),
        ]
        for flag, value, low, high in limits:
            if not low <= value <= high:
                raise UserError(f"{flag} {value:g} is not between {low:g} and {high:g}.")
        if not 0 < self.val_share < 1:
            raise UserError(f"--val-share {self.val_share:g} is not between 0 and 1. The published share is 0.2.")


@dataclass(frozen=True)
class PlannedImage:
    """One image to make."""

    source: SourceFile
    split: str
    class_name: str
    output: str
    """Path below the output folder."""


def default_out(source: Path, size: int, arrangement: Arrangement, *, shards: bool = False) -> Path:
    """data/64x64_SIGNS for photos of hands with the labels 0 to 5, data/64x64_NAME for a source called NAME.

    With `shards`, `_shards` is appended.
    """
    is_signs = arrangement.layout == "flat" and {image.class_name for image in arrangement.images} <= set("012345")
    whole = source.resolve()
    name = "SIGNS" if is_signs else whole.stem if arrangement.root is not None else whole.name.removesuffix(".zip")
    return Path("data") / f"{size}x{size}_{name}{'_shards' if shards else ''}"


def choose_division(request: BuildRequest, arrangement: Arrangement) -> Division | None:
    """How train is divided into train and val; None for a source that has val images of its own.

    Raises:
        UserError: `--split` is given for such a source.
    """
    if "val" in arrangement.splits():
        if request.split is not None:
            raise UserError(
                f"{request.source} has val images of its own, so --split {request.split} has nothing to divide. "
                f"Leave --split out, or remove the val folder."
            )
        return None
    return request.split or ("published" if arrangement.layout == "flat" else "stratified")


def plan_images(
    arrangement: Arrangement, division: Division | None, *, seed: int, val_share: float, copies: Copies = ()
) -> list[PlannedImage]:
    """Choose the output file of each image of a source.

    Bad images are divided too, so that omitting one moves no other image to another split.

    Args:
        arrangement: the images.
        division: from `choose_division`.
        seed: of the division.
        val_share: share of train that becomes val.
        copies: files with the same content, which a stratified division keeps on one side.

    Raises:
        UserError: two images would become the same file.
    """
    split_of = {image.file.path: image.split or "train" for image in arrangement.images}
    if division is not None:
        to_divide = [image for image in arrangement.images if split_of[image.file.path] == "train"]
        # Names, not paths: a zip with a folder around the photos gives the same split as the folder.
        of_name = {image.name: image.file.path for image in to_divide}
        if division == "published":
            _, val = published_split(list(of_name), seed=seed, val_share=val_share)
        else:
            val = _stratified(to_divide, copies, seed=seed, val_share=val_share)
        split_of.update({of_name[name]: "val" for name in val})
    planned: dict[str, PlannedImage] = {}
    for image in arrangement.images:
        split = split_of[image.file.path]
        folder = _FLAT_FOLDERS[split] if arrangement.layout == "flat" else split
        output = f"{folder}/{jpeg_name(image.name)}"
        # Some file systems treat A.jpg and a.jpg as one file; the data set must fit on all.
        if output.lower() in planned:
            raise UserError(_about_one_output(planned[output.lower()], image, output))
        planned[output.lower()] = PlannedImage(image.file, split, image.class_name, output)
    return sorted(planned.values(), key=lambda image: image.output)


def _about_one_output(first: PlannedImage, second: SourceImage, output: str) -> str:
    where = "" if first.output == output else " on file systems that do not tell large letters from small ones"
    both = f"{first.source.path} and {second.file.path} would both become {output}{where}."
    if first.class_name == second.class_name:
        return f"{both} Rename one."
    return f"{both} Rename the folder of class {first.class_name} or {second.class_name}, or put both into one folder."


def jpeg_name(name: str) -> str:
    """The name of an image's JPEG: the suffix of an image is replaced, any other end of the name is kept."""
    folder, slash, file = name.rpartition("/")
    stem = file.rpartition(".")[0] if is_image_name(file) else file
    return f"{folder}{slash}{stem}.jpg"


def _stratified(images: Sequence[SourceImage], copies: Copies, *, seed: int, val_share: float) -> list[str]:
    """The names of the images that become val."""
    name_of = {image.file.path: image.name for image in images}
    classes: dict[str, list[str]] = {}
    for image in images:
        classes.setdefault(image.class_name, []).append(image.name)
    copied = [[name_of[path] for path in paths if path in name_of] for paths in copies]
    return sorted(stratified_val(classes, copied, seed=seed, val_share=val_share))


def without_small_classes(
    images: list[PlannedImage], request: BuildRequest
) -> tuple[list[PlannedImage], dict[str, int]]:
    """With `small_classes="skip"`, omit the classes that train or val lacks.

    Returns:
        (the other images, the number of images of each class that is omitted)
    """
    counts = planned_counts(images)
    small = set(lacking_classes(counts)) if request.small_classes == "skip" else set()
    omitted = {name: sum(row[name] for row in counts.values()) for name in sorted_classes(small)}
    return [image for image in images if image.class_name not in small], omitted


def lacking_classes(counts: dict[str, dict[str, int]]) -> dict[str, list[str]]:
    """The classes without an image in train or in val, and where they lack it."""
    lacking: dict[str, list[str]] = {}
    for split in ("train", "val"):
        for name, count in counts.get(split, {}).items():
            if count == 0:
                lacking.setdefault(name, []).append(split)
    return lacking


def check_classes(counts: dict[str, dict[str, int]], where: Path, division: Division | None) -> None:
    """Refuse counts per split and class that cannot be trained on.

    Args:
        counts: split → class → images.
        where: the source, for messages.
        division: how train was divided; None if the source has its own val images.

    Raises:
        UserError: there is one class only, train lacks a class of val or test, or val lacks a class of train.
    """
    names = list(next(iter(counts.values()), {}))
    if not names:
        raise UserError(f"{where}: no image can be used. A name starts with its label, as 3_IMG_5942.jpg does.")
    if len(names) == 1:
        raise UserError(
            f"{where}: all images are of the single class {one_line(names[0])}. A classifier needs images of two or "
            f"more: names that start with a label, as 3_IMG_5942.jpg does, or a folder for each class."
        )
    if division is not None:
        counts = {"val": dict.fromkeys(names, 0), **counts}
    lacking = lacking_classes(counts)
    no_train = [name for name, splits in lacking.items() if "train" in splits]
    if no_train and division == "published" and any(counts["val"][name] > 1 for name in no_train):
        raise UserError(f"{where}: no training image of class {listed(no_train)}. {_DIVIDE_EACH_CLASS}")
    if no_train:
        raise UserError(
            f"{where}: no training image of class {listed(no_train)}, which another split has. Add some, or omit "
            f"{'this class' if len(no_train) == 1 else 'these classes'} with --small-classes skip."
        )
    if lacking:
        raise UserError(_about_classes_without_val(counts["train"], list(lacking), where, division))
    for split in ("train", "val"):
        if split not in counts:
            raise UserError(f"{where}: no images for {split}. Add images, or choose another --val-share.")


def _about_classes_without_val(
    train: dict[str, int], lacking: list[str], where: Path, division: Division | None
) -> str:
    number = {name: f"{name} ({train[name]} {'is' if train[name] == 1 else 'are'} in train)" for name in lacking}
    start = f"{where}: no val image of class {listed(list(number.values()))}."
    these = "this class" if len(lacking) == 1 else "these classes"
    skip = f"omit {these} with --small-classes skip"
    if division == "published" and max(train[name] for name in lacking) > 1:
        return f"{start} {_DIVIDE_EACH_CLASS}"
    if division is not None:
        return (
            f"{start} A class needs two different photos or more that are in no other class, one of them for val: add "
            f"some, or {skip}."
        )
    return f"{start} Add images of {these} to val, or {skip}."


def planned_counts(plan: Sequence[PlannedImage]) -> dict[str, dict[str, int]]:
    """Number of images of each class, for each split."""
    return count_classes((image.split, image.class_name) for image in plan)
