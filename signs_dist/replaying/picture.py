"""The images of steps as they went into the network, in one labelled picture."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from signs_dist.files import written_aside

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont

SIDE = 128
"""Of an image in the picture, in pixels: smaller ones are enlarged, larger ones are reduced."""
GAP = 10
LINE = 16
"""Height of a line of text."""
TEXT_SIZE = 13
MOST_IMAGES = 1024
"""More than these are left out."""
BACKGROUND, INK, WRONG, FRAME = (255, 255, 255), (20, 20, 20), (190, 20, 20), (210, 210, 210)
NOT_FINITE = (255, 0, 255)
"""Pixels that are NaN or infinite."""


@dataclasses.dataclass(frozen=True)
class Tile:
    """An image of the picture.

    Attributes:
        pixels: uint8 [H, W, 3].
        lines: the text below it.
        is_wrong: whether the text is red: the image's class was not predicted, or its loss is not finite.
    """

    pixels: Tensor
    lines: tuple[str, ...]
    is_wrong: bool = False


@dataclasses.dataclass(frozen=True)
class Section:
    """A heading with the images below it."""

    heading: str
    tiles: Sequence[Tile]


def to_pixels(images: Tensor, factor: Tensor, offset: Tensor) -> Tensor:
    """Prepared images as pixels, without their normalisation.

    Args:
        images: float32 [B, 3, H, W].
        factor, offset: those of the run's `ImagePreparer`, float32 [1, 3, 1, 1] on the CPU.

    Returns:
        uint8 [B, SIDE or less, SIDE or less, 3]. Values that are not finite have the colour NOT_FINITE.
    """
    plain = (images.float() - offset) / factor
    is_bad = ~torch.isfinite(plain).all(dim=1, keepdim=True)
    plain = torch.where(is_bad, torch.tensor(NOT_FINITE).reshape(1, 3, 1, 1) / 255, plain.nan_to_num())
    largest = max(plain.shape[2:])
    if largest > SIDE:
        plain = F.interpolate(plain, scale_factor=SIDE / largest, mode="area", recompute_scale_factor=True)
    elif largest * 2 <= SIDE:
        plain = F.interpolate(plain, scale_factor=float(SIDE // largest), mode="nearest")
    return (plain.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def choose_columns(num_images: int) -> int:
    """How many images lie side by side: 8, or up to 16 where there are many."""
    return min(16, max(1, num_images), max(8, round(math.sqrt(num_images * 1.4))))


def draw_picture(title: str, sections: Sequence[Section]) -> Image.Image:
    """The picture: a title, and below it the sections one after the other."""
    from PIL import Image, ImageDraw

    sections, num_left_out = _cut(sections)
    columns = choose_columns(max([1, *(len(section.tiles) for section in sections)]))
    font, bold = _font(TEXT_SIZE), _font(TEXT_SIZE + 3)
    if num_left_out:
        title = f"{title} · {num_left_out:,} more images are left out"
    width = max(GAP + columns * (SIDE + GAP), 2 * GAP + int(bold.getlength(title)) + 1)
    width = max([width, *(2 * GAP + int(bold.getlength(section.heading)) + 1 for section in sections)])
    tile_height = SIDE + LINE * max([1, *(len(tile.lines) for section in sections for tile in section.tiles)]) + GAP
    heights = [2 * LINE + -(-len(section.tiles) // columns) * tile_height for section in sections]
    picture = Image.new("RGB", (width, 2 * GAP + LINE + sum(heights)), BACKGROUND)
    draw = ImageDraw.Draw(picture)
    draw.text((GAP, GAP), title, INK, bold)
    top = 2 * GAP + LINE
    for section, height in zip(sections, heights, strict=True):
        draw.text((GAP, top + 4), section.heading, INK, bold)
        for number, tile in enumerate(section.tiles):
            left = GAP + number % columns * (SIDE + GAP)
            _draw_tile(picture, draw, tile, (left, top + 2 * LINE - 4 + number // columns * tile_height), font)
        top += height
    return picture


def write_picture(path: Path, title: str, sections: Sequence[Section]) -> None:
    """Write the picture as PNG, whole or not at all. Raises `UserError` if it cannot be written."""
    picture = draw_picture(title, sections)
    with written_aside(path) as aside, aside.open("wb") as stream:
        picture.save(stream, format="PNG")


def shorten(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """The text with its middle left out where it is wider than `width` pixels: both ends of a file's name tell it."""
    if font.getlength(text) <= width:
        return text
    kept = len(text) - 1
    while kept > 2 and font.getlength(_without_middle(text, kept)) > width:
        kept -= 1
    return _without_middle(text, kept)


def _without_middle(text: str, kept: int) -> str:
    return f"{text[: kept // 2]}…{text[len(text) - (kept - kept // 2) :]}"


def _draw_tile(
    picture: Image.Image,
    draw: ImageDraw.ImageDraw,
    tile: Tile,
    place: tuple[int, int],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    from PIL import Image

    left, top = place
    image = Image.fromarray(tile.pixels.numpy())
    at = (left + (SIDE - image.width) // 2, top + (SIDE - image.height) // 2)
    picture.paste(image, at)
    frame = WRONG if tile.is_wrong else FRAME
    draw.rectangle((at[0] - 1, at[1] - 1, at[0] + image.width, at[1] + image.height), outline=frame)
    for number, line in enumerate(tile.lines):
        colour = WRONG if tile.is_wrong else INK
        draw.text((left, top + SIDE + 1 + number * LINE), shorten(line, SIDE, font), colour, font)


def _cut(sections: Sequence[Section]) -> tuple[list[Section], int]:
    """The sections with at most MOST_IMAGES images, and how many were left out."""
    kept, left = [], MOST_IMAGES
    for section in sections:
        if left:
            kept.append(dataclasses.replace(section, tiles=section.tiles[:left]))
            left -= len(kept[-1].tiles)
    return kept, sum(len(section.tiles) for section in sections) - sum(len(section.tiles) for section in kept)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    from PIL import ImageFont, features

    # Without FreeType there is one size.
    return ImageFont.load_default(size if features.check("freetype2") else None)
