"""A photo, or a part of it, as a small square of pixels, without decoding what the square does not need.

A JPEG is decoded at a half, a quarter or an eighth of its size where that still has the pixels that are needed, and not
below the last row that is needed. The part is then resized in one pass by PyTorch, with the vector instructions of the
CPU: its filters are those of Pillow, in whole numbers, so that the number of threads does not change a bit.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from signs_dist.data.images import (
    MAX_MEGAPIXELS,
    REDUCING_GAP,
    check_end,
    is_jpeg,
    opened_image,
    read_orientation,
)
from signs_dist.data.jpeg_end import ends_grey
from signs_dist.data.jpeg_rows import with_first_rows
from signs_dist.data.pixel_formats import StoredPixels, read_stored_pixels, to_rgb
from signs_dist.data.pixel_memory import pixel_memory

if TYPE_CHECKING:
    from PIL.Image import Image

Box = tuple[int, int, int, int]
"""Left, top, right and bottom edge in pixels."""
DrawPart = Callable[[int, int], Box]
"""Called with the width and height of an upright image; returns the part to take, within it and at least one pixel."""
Pixels = npt.NDArray[np.uint8]

_REDUCTIONS = (8, 4, 2)
_EDGE_ROWS = 2
"""Rows of a decoded image at its lower edge that `with_first_rows` may change."""
_WORTH_CUTTING = 0.95
"""Rows are cut off if no larger share of them is left: a cut copies the file, and reads its header again."""
_TURNS = {
    1: (False, False, False),
    2: (False, True, False),
    3: (False, True, True),
    4: (False, False, True),
    5: (True, False, False),
    6: (True, True, False),
    7: (True, True, True),
    8: (True, False, True),
}
"""By orientation (EXIF 2.32, tag 274): what turns a stored image upright. Rows and columns are exchanged; then left and
right; then top and bottom."""


def load_square(
    source: Path | bytes,
    *,
    name: str,
    size: int,
    draw_part: DrawPart | None = None,
    max_megapixels: float = MAX_MEGAPIXELS,
) -> Pixels:
    """The pixels of a photo or a part of it, upright, resized to a square: uint8 [size, size, 3].

    Colours are those of `load_rgb`.

    Args:
        source: the file, or its bytes.
        name: names the image in errors.
        size: side of the square in pixels. A part that is not square is distorted.
        draw_part: chooses the part, which is resized by an antialiased bilinear filter, as torchvision's
            RandomResizedCrop does. None: the whole, by the antialiased bicubic filter of `load_rgb`.
        max_megapixels: largest width times height, in millions.

    Raises:
        BadImageError: as `load_rgb`. Data that is missing below the part is not noticed in each file.
    """
    with opened_image(source, name=name, max_megapixels=max_megapixels) as (image, stream):
        stored = read_stored_pixels(image)
        if not is_jpeg(image):
            image.load()  # of a TIFF this turns the pixels upright, and changes width, height and orientation
        turn = _TURNS[read_orientation(image)]
        width, height = image.size
        box = (0, 0, width, height)
        if draw_part is not None:
            box = _as_stored(draw_part(*((height, width) if turn[0] else (width, height))), (width, height), turn)
        decoded, reduction = image, 1
        if is_jpeg(image):
            gap = REDUCING_GAP if draw_part is None else 1.0
            decoded, reduction = _decode_jpeg(image, stream, box, size * gap, name)
        box_decoded = tuple(round(edge / reduction) for edge in box)
        square = _square(decoded, stored, box_decoded, size, "bicubic" if draw_part is None else "bilinear")
    return _turned(square, turn)


def _as_stored(box: Box, stored_size: tuple[int, int], turn: tuple[bool, bool, bool]) -> Box:
    """Where a box of an upright image lies in the image as it is stored, of (width, height) `stored_size`."""
    left, top, right, bottom = box
    exchanged, mirrored, upside_down = turn
    width, height = reversed(stored_size) if exchanged else stored_size
    if mirrored:
        left, right = width - right, width - left
    if upside_down:
        top, bottom = height - bottom, height - top
    return (top, left, bottom, right) if exchanged else (left, top, right, bottom)


def _turned(pixels: Pixels, turn: tuple[bool, bool, bool]) -> Pixels:
    exchanged, mirrored, upside_down = turn
    if exchanged:
        pixels = pixels.swapaxes(0, 1)
    return pixels[:: -1 if upside_down else 1, :: -1 if mirrored else 1]


def choose_reduction(width: int, height: int, needed: float) -> int:
    """1, 2, 4 or 8: by how much a part may be reduced and still have `needed` pixels a side."""
    return next((factor for factor in _REDUCTIONS if min(width, height) >= needed * factor), 1)


def _decode_jpeg(image: Image, stream: Any, box: Box, needed: float, name: str) -> tuple[Image, int]:
    """Decode a JPEG down to the last row of a box, reduced. Returns it, and by how much it is reduced."""
    import PIL.Image

    left, top, right, bottom = box
    reduction = choose_reduction(right - left, bottom - top, needed)

    def decode(opened: Image) -> None:
        opened.draft(None, (opened.width // reduction, opened.height // reduction))
        opened.load()

    data = None
    num_rows = bottom + reduction * (_EDGE_ROWS + 1)  # a reduced row at the lower edge may be a part of one
    if num_rows < _WORTH_CUTTING * image.height:
        stream.seek(0)
        data = with_first_rows(stream.read(), num_rows)
    if data is not None:
        image = PIL.Image.open(io.BytesIO(data), formats=("JPEG",))
    decode(image)
    if ends_grey(image):
        if data is None:
            stream.seek(0)
            data = stream.read()
        check_end(image, data, decode, name)
    return image, reduction


def _square(image: Image, stored: StoredPixels, box: tuple[int, ...], size: int, mode: str) -> Pixels:
    """A box of a decoded image, resized: uint8 [size, size, 3]."""
    left, top, right, bottom = box
    left, top = min(left, image.width - 1), min(top, image.height - 1)
    box = (left, top, min(max(right, left + 1), image.width), min(max(bottom, top + 1), image.height))
    with pixel_memory(to_rgb(image, stored), box) as part:
        if part.shape[:2] == (size, size):
            same: Pixels = part[..., :3].copy()
            return same
        images = torch.from_numpy(part).permute(2, 0, 1)[None]  # [1, 4, height, width], channels last
        resized = F.interpolate(images, size=(size, size), mode=mode, antialias=True)
    pixels: Pixels = resized[0].permute(1, 2, 0).numpy()
    return pixels[..., :3]
