"""What to type after a build."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from signs_dist.data.few_photos import as_typed, settings_for_few

_LARGEST_IMAGE_SIZE = 2048
"""As `data.image_size` allows. Larger images are resized when they are read."""


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
        settings["data.image_size"] = min(size, _LARGEST_IMAGE_SIZE)
    for_few = settings_for_few(num_train, config)
    lines = []
    if for_few:
        photos = "1 photo" if num_train == 1 else f"{num_train:,} photos"
        lines.append(f"few photos: from {photos} the default settings learn little, so the next line has others")
    return [*lines, f"train on it: python -m signs_dist.train {as_typed(settings | for_few)}"]
