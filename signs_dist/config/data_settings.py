"""The config's section on images: where they lie, how they are divided and read.

The docstrings below the settings are the manual, as in `settings`.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo, model_validator

from signs_dist.config.dotted_names import DottedName
from signs_dist.config.section import Deviation, Section, Triple

DEFAULT_SHARES = (0.8, 0.1, 0.1)
"""Of train, val and test, where images are not split and `data.split` is not set."""


def require_shares(shares: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
    """Refuse shares of train, val and perhaps test that are no division. Raises ValueError."""
    given = f"data.{info.field_name}=[{', '.join(f'{share:g}' for share in shares)}]"
    legal = "Give the shares of train, val and test, such as [0.8, 0.1, 0.1], or of train and val, such as [0.8, 0.2]."
    if len(shares) not in (2, 3):
        raise ValueError(f"{given} has {len(shares)} number{'' if len(shares) == 1 else 's'}. {legal}")
    if abs(sum(shares) - 1) > 1e-6:
        raise ValueError(f"{given} sums to {sum(shares):g}, not to 1. {legal}")
    return shares


def require_pattern(pattern: str, info: ValidationInfo) -> str:
    """Refuse what is no regular expression with exactly one group. Raises ValueError."""
    given = f"data.{info.field_name}='{pattern}'"
    try:
        num_groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(
            f"{given} is not a regular expression: {error}. Backslashes stay whole between single quotes, for the "
            f"shell and for YAML."
        ) from None
    what = "label" if info.field_name == "label_pattern" else "group"
    if num_groups != 1:
        others = ", and write other parentheses as (?:…)" if num_groups else ""
        raise ValueError(
            f"{given} has {num_groups or 'no'} group{'s' if num_groups else ''}. Put the one part of the path that is "
            f"the {what} into parentheses, such as {_EXAMPLES[what]}{others}."
        )
    return pattern


_EXAMPLES = {"group": r"person(\d+)_", "label": r"([a-z]+)\.\d+"}

Text = Annotated[str, Field(min_length=1)]
Roots = Text | Annotated[tuple[Text, ...], Field(strict=False, min_length=1)]
Share = Annotated[float, Field(gt=0, lt=1)]
Shares = Annotated[tuple[Share, ...], Field(strict=False), AfterValidator(require_shares)]
Pattern = Annotated[str, AfterValidator(require_pattern)]


class ColumnsConfig(Section):
    """Columns of a table of images, where their usual names do not tell."""

    path: Text | None = None
    """Column with the images' paths. null: path, file, file_name, filename, image, image_path or a like name."""
    label: Text | None = None
    """Column with the classes; of tar shards, the key in .json. null: label, class, target, category or a like name."""
    split: str | None = None
    """Column with train, val or test. null: split, set, subset or a like name, if there is one. '': none of them."""
    group: Text | None = None
    """Column whose images with one value stay on one side of a division, such as patient_id. null: none."""


DrawnImages = Annotated[int, Field(ge=1, le=10_000_000)]


class SyntheticConfig(Section):
    """The drawn data set, used when there are no photos."""

    train: DrawnImages = 1800
    """Number of drawn training images."""
    val: DrawnImages = 360
    """Number of drawn validation images."""
    test: DrawnImages = 360
    """Number of drawn test images."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of the drawing. It is not the run's seed, so runs with different seeds share one data set."""


class DataConfig(Section):
    """Which images, and how they are read."""

    root: Roots | None = None
    """A folder or table of images, or a list of them. null: data/64x64_SIGNS if it exists, else drawn hands."""
    reader: DottedName | None = None
    """Your own reader of images, as package.module:make, instead of data.root. null: images lie in data.root."""
    reader_args: dict[str, Any] = Field(default={})
    """Arguments of data.reader, such as `path: photos.sqlite`."""
    split: Shares | None = None
    """Shares of train, val and test, or of train and val. null: 0.8, 0.1, 0.1. Only for images that are not split."""
    split_seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of that division. It is not the run's seed, so runs with different seeds have one division."""
    split_folder: Annotated[str, Field(min_length=1)] = "data/splits"
    """Folder where a division is written down, so that it never changes."""
    group_pattern: Pattern | None = None
    """Regular expression with one group on the path below the root. Images where it is equal stay on one side."""
    label_pattern: Pattern | None = None
    """Regular expression with one group, the class, on the path below the root. null: folders, or as in 3_IMG_1.jpg."""
    image_size: Annotated[int, Field(ge=8, le=2048)] = 64
    """Side of the square images in pixels; others are resized when read. Where not given, published weights say."""
    storage: Literal["packed", "device", "files"] = "packed"
    """packed: decoded once, into a memory-mapped file. device: and held on the GPU. files: decoded at each use."""
    resize: Literal["auto", "pillow", "torch"] = "auto"
    """For storage files. pillow: the bits of packed images. torch: faster, other rounding. auto: pillow if exact."""
    cache: Annotated[str, Field(min_length=1)] = "data/cache"
    """Folder for packed images, and for the listings of many files."""
    max_megapixels: Annotated[float, Field(gt=0, le=10_000)] = 250.0
    """Largest width times height of an image, in millions; a larger image is refused. Phones reach 200."""
    mean: Triple = (0.5, 0.5, 0.5)
    """Subtracted from the pixels (scaled to 0..1), per channel. Where not given, published weights say."""
    std: Annotated[tuple[Deviation, Deviation, Deviation], Field(strict=False)] = (0.5, 0.5, 0.5)
    """Divides the pixels after mean is subtracted, per channel. Where not given, published weights say."""
    num_workers: Annotated[int, Field(ge=0, le=256)] | Literal["auto"] = "auto"
    """DataLoader worker processes. auto: 0 for packed images, else the usable cores, minus 1 when training on a CPU."""
    prefetch: Annotated[int, Field(ge=1, le=1024)] = 2
    """Batches that each worker prepares ahead."""
    timeout_seconds: Annotated[float, Field(gt=0, le=1_000_000)] = 1800.0
    """Seconds that one batch may take to be read and decoded before the run ends. A wait of 10 s prints a line."""
    pin_memory: bool | Literal["auto"] = "auto"
    """Use page-locked host memory for faster copies to a GPU. auto: true on a GPU, else false."""
    order: Literal["shuffled", "balanced"] = "shuffled"
    """Order of the training images. balanced, against class imbalance: every class equally often; images repeat."""
    columns: ColumnsConfig = ColumnsConfig()
    synthetic: SyntheticConfig = SyntheticConfig()

    @model_validator(mode="after")
    def _one_kind_of_group(self) -> DataConfig:
        if self.group_pattern is not None and self.columns.group is not None:
            raise ValueError(
                "data.group_pattern and data.columns.group are both set. Keep the one that tells the groups."
            )
        return self

    @model_validator(mode="after")
    def _reader_stands_alone(self) -> DataConfig:
        if self.reader is not None and self.root is not None:
            root = self.root if isinstance(self.root, str) else f"[{', '.join(self.root)}]"
            raise ValueError(
                f"data.reader={self.reader} replaces data.root={root}. Delete one of the two; a folder that the "
                f"reader needs goes into data.reader_args."
            )
        return self
