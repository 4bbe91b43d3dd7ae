"""The request for a build, and the output file of each image. Pure functions on names; no pixels are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from signs_dist.data.audit import count_classes, missing_classes
from signs_dist.data.images import is_image_name
from signs_dist.data.photos.archive import SourceFile
from signs_dist.data.photos.sources import Arrangement, SourceImage
from signs_dist.data.photos.split import PUBLISHED_SEED, PUBLISHED_VAL_SHARE, published_split
from signs_dist.errors import UserError

BadImages = Literal["stop", "skip", "quarantine"]

_FLAT_FOLDERS = {"train": "train_signs", "val": "val_signs", "test": "test_signs"}


@dataclass(frozen=True)
class BuildRequest:
    """What to build, and how."""

    source: Path
    """A zip or a folder."""
    out: Path | None = None
    """Folder to make. None: see `default_out`."""
    size: int = 64
    """Side of the output images in pixels."""
    val_share: float = PUBLISHED_VAL_SHARE
    """Share of the training images that become val images, where the source has no val split."""
    seed: int = PUBLISHED_SEED
    """Seed of that division."""
    bad_images: BadImages = "stop"
    """stop: make no data set; skip: omit them; quarantine: omit them and copy them to OUT.quarantine."""
    quality: int = 95
    """JPEG quality, 1 to 100."""
    processes: int | None = None
    """Worker processes. None: all usable cores."""

    def check(self) -> None:
        """Raise UserError for a value out of its range."""
        limits: list[tuple[str, float, float, float]] = [
            ("--size", self.size, 8, 4096),
            ("--quality", self.quality, 1, 100),
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


def default_out(source: Path, size: int, arrangement: Arrangement) -> Path:
    """data/64x64_SIGNS for photos of hands with the labels 0 to 5, data/64x64_NAME for a source called NAME."""
    is_signs = arrangement.layout == "flat" and {image.class_name for image in arrangement.images} <= set("012345")
    name = "SIGNS" if is_signs else source.resolve().name.removesuffix(".zip")
    return Path("data") / f"{size}x{size}_{name}"


def plan_images(arrangement: Arrangement, *, seed: int, val_share: float) -> list[PlannedImage]:
    """Choose the output file of each image of a source. If it has no val split, train is divided.

    Bad images are divided too, so that omitting one moves no other image to another split.

    Raises:
        UserError: two images would become the same file.
    """
    split_of = {image.file.path: image.split or "train" for image in arrangement.images}
    if "val" not in split_of.values():
        of_name = {image.name: image.file.path for image in arrangement.images if split_of[image.file.path] == "train"}
        _, val = published_split(list(of_name), seed=seed, val_share=val_share)
        split_of.update({of_name[name]: "val" for name in val})
    planned: dict[str, PlannedImage] = {}
    for image in arrangement.images:
        split = split_of[image.file.path]
        folder = _FLAT_FOLDERS[split] if arrangement.layout == "flat" else split
        output = f"{folder}/{jpeg_name(image.name)}"
        # Some file systems treat A.jpg and a.jpg as one file; the data set must fit on all.
        if output.lower() in planned:
            raise UserError(
                f"{planned[output.lower()].source.path} and {image.file.path} would both become {output}. Rename one."
            )
        planned[output.lower()] = PlannedImage(image.file, split, image.class_name, output)
    return sorted(planned.values(), key=lambda image: image.output)


def jpeg_name(name: str) -> str:
    """The name of an image's JPEG: the suffix of an image is replaced, any other end of the name is kept."""
    folder, slash, file = name.rpartition("/")
    stem = file.rpartition(".")[0] if is_image_name(file) else file
    return f"{folder}{slash}{stem}.jpg"


def check_classes(counts: dict[str, dict[str, int]], where: Path) -> None:
    """Refuse counts per split and class that cannot be trained on.

    Raises:
        UserError: there is one class only, train lacks a class of val or test, or val lacks a class of train.
    """
    names = list(next(iter(counts.values()), {}))
    if not names:
        raise UserError(f"{where}: no image can be used. A name starts with its label, as 3_IMG_5942.jpg does.")
    if len(names) == 1:
        raise UserError(
            f"{where}: all images are of the single class {names[0]}. A classifier needs images of two or more: "
            f"names that start with a label, as 3_IMG_5942.jpg does, or a folder for each class."
        )
    for split, name in missing_classes(counts):
        if split == "train":
            raise UserError(
                f"{where}: no training image of class {name}, which another split has. "
                f"Add some, remove the class, or, if train was divided just now, choose another --seed."
            )
        if split == "val":
            raise UserError(
                f"{where}: no val image of class {name} ({counts['train'][name]} are in train). "
                f"Add images of it, choose another --seed, or a larger --val-share."
            )
    for split in ("train", "val"):
        if split not in counts:
            raise UserError(f"{where}: no images for {split}. Add images, or choose another --val-share.")


def planned_counts(plan: Sequence[PlannedImage]) -> dict[str, dict[str, int]]:
    """Number of images of each class, for each split."""
    return count_classes([SourceImage(image.split, image.class_name, image.output, image.source) for image in plan])
