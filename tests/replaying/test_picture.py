"""The picture of images: their pixels, their places, their labels."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from signs_dist.replaying.picture import (
    MOST_IMAGES,
    NOT_FINITE,
    SIDE,
    Section,
    Tile,
    choose_columns,
    draw_picture,
    shorten,
    to_pixels,
    write_picture,
)

FACTOR, OFFSET = torch.full((1, 3, 1, 1), 2.0), torch.full((1, 3, 1, 1), -1.0)


@pytest.mark.parametrize(("side", "shown"), [(16, 128), (64, 128), (96, 96), (128, 128), (224, 128)])
def test_images_are_shown_without_their_normalisation(side: int, shown: int) -> None:
    pixels = to_pixels(torch.full((2, 3, side, side), 0.6), FACTOR, OFFSET)
    assert pixels.shape == (2, shown, shown, 3)
    assert (pixels == 204).all()  # (0.6 + 1) / 2 · 255


def test_pixels_that_are_not_finite_are_seen() -> None:
    images = torch.zeros(1, 3, 100, 100)
    images[0, 1, 5, 7], images[0, 0, 6, 7] = math.nan, math.inf
    pixels = to_pixels(images, FACTOR, OFFSET)
    assert tuple(pixels[0, 5, 7].tolist()) == tuple(pixels[0, 6, 7].tolist()) == NOT_FINITE
    assert (pixels[0, 0, 0] == 128).all()


@pytest.mark.parametrize(("num_images", "columns"), [(1, 1), (4, 4), (8, 8), (32, 8), (256, 16), (1000, 16)])
def test_columns(num_images: int, columns: int) -> None:
    assert choose_columns(num_images) == columns


def make_tile(colour: int, *, is_wrong: bool = False) -> Tile:
    lines = ("a_photo_with_a_very_long_name_0123456789.jpg", "class three", "predicted two", "loss 1.5")
    return Tile(torch.full((SIDE, SIDE, 3), colour, dtype=torch.uint8), lines, is_wrong)


def test_each_image_is_in_the_picture(tmp_path: Path) -> None:
    tiles = [make_tile(10 * number, is_wrong=number == 3) for number in range(12)]
    write_picture(tmp_path / "p.png", "run: step 3", [Section("micro-batch 0", tiles[:9]), Section("1", tiles[9:])])
    pixels = np.asarray(Image.open(tmp_path / "p.png"))
    counts = [int((pixels == 10 * number).all(axis=2).sum()) for number in range(12)]
    assert all(count >= SIDE * SIDE for count in counts)


def test_more_images_than_a_picture_holds_are_told() -> None:
    tile = Tile(torch.zeros(1, 1, 3, dtype=torch.uint8), ())
    few = draw_picture("run", [Section("a", [tile] * 16)])
    many = draw_picture("run", [Section("a", [tile] * MOST_IMAGES), Section("b", [tile] * 5), Section("c", [tile])])
    assert many.height < few.height * (MOST_IMAGES / 16)


def test_a_name_that_is_too_long_keeps_both_ends() -> None:
    from PIL import ImageFont

    font = ImageFont.load_default(13)
    assert shorten("short.jpg", SIDE, font) == "short.jpg"
    cut = shorten("a_photo_with_a_very_long_name_0123456789.jpg", SIDE, font)
    assert font.getlength(cut) <= SIDE
    assert cut.startswith("a_photo")
    assert cut.endswith("789.jpg")
