"""What to type after a data set is made, and the size of the images that it holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from signs_dist.data.few_photos import as_typed, settings_for_few

LARGEST_IMAGE_SIZE = 2048
"""As `data.image_size` allows. Larger images are resized when they are read."""
_RECORDS = {"build.json": "size", "synthetic.json": "image_size"}
"""File that a command leaves in the data sets that it makes → its entry for the side of the images."""


def next_lines(out: Path, size: int, num_train: int) -> list[str]:
    """The command that trains on a new data set, at the size of its images, and with settings for few photos.

    Args:
        out: the data set's folder.
        size: side of its images in pixels.
        num_train: its training images.
    """
    from signs_dist.config.settings import Config  # pydantic: not for --help

    config = Config()
    settings: dict[str, Any] = {"data.root": str(out)}
    if size != config.data.image_size:
        settings["data.image_size"] = min(size, LARGEST_IMAGE_SIZE)
    for_few = settings_for_few(num_train, config)
    lines = []
    if for_few:
        photos = "1 photo" if num_train == 1 else f"{num_train:,} photos"
        lines.append(f"few photos: from {photos} the default settings learn little, so the next line has others")
    return [*lines, f"train on it: python -m signs_dist.train {as_typed(settings | for_few)}"]


def find_stored_size(root: Path) -> int | None:
    """Side in pixels of the images of a data set that was built or drawn; None for another folder."""
    for name, entry in _RECORDS.items():
        try:
            size = json.loads((root / name).read_text(encoding="utf-8"))[entry]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if isinstance(size, int):
            return size
    return None
