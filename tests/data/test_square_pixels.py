from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from PIL.JpegImagePlugin import JpegImageFile

from signs_dist.data.images import BadImageError, load_rgb
from signs_dist.data.square_pixels import Box, choose_reduction, load_square
from tests.data.photo_files import encoded, jpeg, photo


def detailed(width: int, height: int) -> Image.Image:
    """Shades and noise."""
    noise = np.random.default_rng(0).integers(-20, 20, (height, width, 3))
    smooth = np.asarray(photo(1).resize((width, height), Image.Resampling.BICUBIC))
    return Image.fromarray((smooth + noise).clip(0, 255).astype(np.uint8))


def part_of(data: bytes, box: Box, size: int) -> np.ndarray:
    return load_square(data, name="x", size=size, draw_part=lambda width, height: box).astype(int)


@pytest.mark.parametrize("image_format", ["JPEG", "PNG"])
@pytest.mark.parametrize("size", [32, 64, 200])
def test_a_whole_photo_is_that_of_pillow_within_a_level(image_format: str, size: int) -> None:
    data = encoded(detailed(150, 100), image_format)
    difference = load_square(data, name="x", size=size).astype(int) - np.asarray(load_rgb(data, name="x", size=size))
    assert abs(difference).max() <= 1
    assert (difference != 0).mean() < 0.02


def test_a_photo_of_the_right_size_is_not_touched() -> None:
    data = jpeg(3, 64)
    assert np.array_equal(load_square(data, name="x", size=64), np.asarray(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize("box", [(0, 0, 150, 100), (10, 20, 60, 95), (100, 1, 149, 40), (0, 70, 20, 100), (3, 4, 4, 5)])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": "4:4:4"}])
def test_a_part_is_what_torchvision_makes_of_it(box: Box, options: dict[str, object]) -> None:
    data = encoded(detailed(150, 100), "JPEG", quality=90, **options)
    left, top, right, bottom = box
    whole = torch.from_numpy(np.array(Image.open(io.BytesIO(data)))).permute(2, 0, 1)[None]
    part = whole[..., top:bottom, left:right]
    expected = F.interpolate(part.float(), size=(64, 64), mode="bilinear", antialias=True)[0].permute(1, 2, 0)
    assert abs(part_of(data, box, 64) - expected.numpy()).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "TIFF"])
def test_a_part_is_one_of_the_upright_photo(image_format: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(detailed(150, 100), image_format, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    box = (10, 30, 70, 90)
    expected = part_of(encoded(upright, "PNG"), box, 32)
    seen = []

    def draw(width: int, height: int) -> Box:
        seen.append((width, height))
        return box

    found = load_square(data, name="x", size=32, draw_part=draw)
    assert seen == [upright.size]
    assert abs(found - expected).max() <= 1
    whole = np.asarray(load_rgb(data, name="x", size=32)).astype(int)
    assert abs(load_square(data, name="x", size=32) - whole).max() <= 1


@pytest.mark.parametrize(
    ("width", "height", "needed", "reduction"),
    [(223, 900, 224, 1), (448, 448, 224, 2), (4000, 3000, 224, 8), (4000, 3000, 672, 4), (100, 100, 100, 1)],
)
def test_a_reduced_part_keeps_the_pixels_that_are_needed(width: int, height: int, needed: int, reduction: int) -> None:
    assert choose_reduction(width, height, needed) == reduction


def test_a_large_part_is_decoded_at_a_smaller_size(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    draft = JpegImageFile.draft

    def watched(self: JpegImageFile, mode: str | None, size: tuple[int, int]) -> object:
        sizes.append((self.size, size))
        return draft(self, mode, size)

    monkeypatch.setattr(JpegImageFile, "draft", watched)
    data = encoded(photo(1).resize((800, 600), Image.Resampling.BICUBIC), "JPEG", quality=95)
    box = (104, 40, 504, 440)  # whole pixels at an eighth of the size
    found = part_of(data, box, 50)
    assert sizes == [((800, 440 + 3 * 8), (100, 58))]
    full = part_of(encoded(Image.open(io.BytesIO(data)), "PNG"), box, 50)
    assert abs(found - full).mean() < 0.5


def test_grey_cmyk_and_transparent_photos_have_the_colours_of_load_rgb() -> None:
    for mode, image_format in (("L", "JPEG"), ("CMYK", "JPEG"), ("RGBA", "PNG"), ("P", "PNG")):
        data = encoded(photo(2, 60).convert(mode), image_format)
        expected = np.asarray(load_rgb(data, name="x", size=None)).astype(int)
        assert np.array_equal(part_of(data, (20, 10, 52, 42), 32), expected[10:42, 20:52]), mode


@pytest.mark.parametrize("draw_part", [None, lambda width, height: (0, 0, width, height // 2)])
def test_broken_files_are_named(draw_part: object, tmp_path: Path) -> None:
    whole = encoded(detailed(300, 300), "JPEG")
    with pytest.raises(BadImageError, match=r"cannot read the image here\.jpg: truncated"):
        load_square(whole[:2000], name="here.jpg", size=32, draw_part=draw_part)  # type: ignore[arg-type]
    stops = whole[: len(whole) // 4] + b"\xff\xd9"
    with pytest.raises(BadImageError, match=r"here\.jpg: truncated \(its data stops before the last pixels\)"):
        load_square(stops, name="here.jpg", size=32, draw_part=draw_part)  # type: ignore[arg-type]
    with pytest.raises(BadImageError, match=r"more than 0\.01 megapixels"):
        load_square(whole, name="here.jpg", size=32, max_megapixels=0.01, draw_part=draw_part)  # type: ignore[arg-type]
    with pytest.raises(BadImageError, match="no such file"):
        load_square(tmp_path / "none.jpg", name="none.jpg", size=32)
