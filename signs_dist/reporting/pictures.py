"""Photos as small pictures inside the page."""

from __future__ import annotations

import base64
import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

SIDE = 112
"""Longest side of a small picture, in pixels."""
PAGE_SIDE = 1024
"""The same of the picture of training images."""
MOST_PIXELS = 170_000_000
"""A larger picture is not read."""
MOST_BYTES = 64 * 2**20


def small_picture(path: Path, side: int = SIDE) -> Image.Image | None:
    """The picture in a file, upright and in RGB; None if there is no readable picture.

    Args:
        path: a photo in a format that Pillow reads.
        side: a larger picture is made smaller, so that its longest side is this, in pixels.
    """
    from PIL import Image, ImageOps

    try:
        if not path.is_file() or path.stat().st_size > MOST_BYTES:
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # MOST_PIXELS is the limit here
            image = Image.open(path)
        with image:
            if image.width * image.height > MOST_PIXELS:
                return None
            image.draft("RGB", (side, side))
            small = ImageOps.exif_transpose(image).convert("RGB")
            small.thumbnail((side, side))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    return small


def as_data_uri(path: Path, side: int = SIDE, quality: int = 80) -> str | None:
    """The picture in a file as a JPEG within a `data:` address; None if there is no readable picture.

    Args:
        path: a photo in a format that Pillow reads.
        side: as in `small_picture`.
        quality: of the JPEG, 1..95.
    """
    small = small_picture(path, side)
    return None if small is None else as_jpeg_uri(small, quality)


def as_jpeg_uri(image: Image.Image, quality: int = 80) -> str:
    """A picture in RGB as a JPEG within a `data:` address."""
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
