"""The lines that open a photo, against how training opens it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from signs_dist.data.images import load_rgb
from signs_dist.exporting.photo_lines import OPEN_PHOTO

COLOUR = (200, 30, 90)
TURNED = Image.Exif()
TURNED[0x0112] = 6


def with_holes(mode: str) -> Image.Image:
    """A wide picture whose left half is transparent; the colour below is black."""
    image = Image.new("RGBA", (12, 8), (*COLOUR, 255))
    image.paste((0, 0, 0, 0), (0, 0, 6, 8))
    return image.convert(mode)


@pytest.mark.parametrize(
    ("image", "suffix", "options"),
    [
        (with_holes("RGBA"), "png", {}),
        (with_holes("LA"), "png", {}),
        (with_holes("P"), "png", {}),
        (with_holes("RGBA"), "webp", {"lossless": True}),
        (Image.new("RGB", (12, 8), COLOUR), "png", {"transparency": COLOUR}),
        (Image.new("L", (12, 8), 40), "png", {"transparency": 40}),
        (Image.new("RGB", (12, 8), COLOUR), "jpg", {}),
        (Image.new("L", (12, 8), 77), "png", {}),
        (Image.new("1", (12, 8), 1), "png", {}),
        (Image.new("CMYK", (16, 8), (10, 200, 30, 40)), "jpg", {}),
        (Image.linear_gradient("L").resize((16, 8)), "jpg", {"exif": TURNED}),
    ],
)
def test_a_photo_is_opened_as_in_training(
    image: Image.Image, suffix: str, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    image.save(f"photo.{suffix}", **options)
    names: dict[str, Any] = {}
    exec("\n".join(OPEN_PHOTO).replace("photo.jpg", f"photo.{suffix}"), names)  # noqa: S102 as a reader of the card does
    expected = load_rgb(Path(f"photo.{suffix}"), name="photo", size=None)
    np.testing.assert_array_equal(np.asarray(names["photo"]), np.asarray(expected))
