from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from signs_dist.data.images import BadImageError, load_rgb
from signs_dist.data.jpeg_end import ends_grey, with_more_data
from tests.data.photo_files import encoded, photo

GREY = (128, 128, 128)
END = b"\xff\xd9"
KINDS: dict[str, dict[str, Any]] = {
    "one scan": {},
    "no subsampling": {"subsampling": 0},
    "progressive": {"progressive": True},
    "restart markers": {"restart_marker_blocks": 4},
    "optimized": {"optimize": True},
}


def picture(mode: str = "RGB", *, has_grey_corner: bool = True) -> Image.Image:
    """160 x 160 pixels; with a corner at the end that is as grey as what a decoder leaves where it has no data."""
    image = photo(5, 160)
    if has_grey_corner:
        image.paste(GREY, (32, 48, 160, 160))
    return image.convert(mode)


def cut(jpeg: bytes, share: float) -> bytes:
    """The first `share` of a JPEG, with an end marker."""
    return jpeg[: int(len(jpeg) * share)].rstrip(b"\xff") + END


@pytest.mark.parametrize("size", [None, 16])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_whole_jpegs_with_a_grey_corner_are_read(mode: str, kind: str, size: int | None) -> None:
    data = encoded(picture(mode), "JPEG", quality=90, **KINDS[kind])
    for whole in (data, data + b"after the end", data[:-2] + b"\xff" + END):
        load_rgb(whole, name="a.jpg", size=size)


@pytest.mark.parametrize("size", [None, 16])
@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"progressive"}))
@pytest.mark.parametrize("has_grey_corner", [False, True])
def test_jpegs_whose_data_stops_early_are_refused(has_grey_corner: bool, kind: str, size: int | None) -> None:
    data = encoded(picture(has_grey_corner=has_grey_corner), "JPEG", quality=90, **KINDS[kind])
    for broken in (cut(data, 0.7), cut(data, 0.7) + b"x" * 100, cut(data, 0.7) + data[len(data) // 2 :]):
        with pytest.raises(BadImageError, match=r"truncated \(its data stops before the last pixels\)"):
            load_rgb(broken, name="a.jpg", size=size)


def test_a_progressive_jpeg_without_the_end_of_its_first_scan_is_refused() -> None:
    data = encoded(picture(), "JPEG", quality=90, progressive=True)
    first_scan = data.index(b"\xff\xda")
    with pytest.raises(BadImageError, match="its data stops"):
        load_rgb(data[: first_scan + 60].rstrip(b"\xff") + END, name="a.jpg", size=None)


def test_a_thumbnail_in_the_header_is_not_taken_for_the_image(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = encoded(picture(), "JPEG").decode("latin-1")  # a JPEG with its own markers within a segment
    whole = encoded(picture(), "JPEG", quality=90, exif=exif)
    load_rgb(whole, name="a.jpg", size=None)
    with pytest.raises(BadImageError, match="its data stops"):
        load_rgb(cut(whole, 0.9), name="a.jpg", size=None)


@pytest.mark.parametrize(
    "data", [b"", b"\xff", b"\xff\xd8", b"\xff\xd8\xff\xda", b"\xff\xd8\xff\xda\x00\x02abc\xff", b"no JPEG"]
)
def test_a_file_without_a_scan_and_its_end_is_left_to_the_decoder(data: bytes) -> None:
    assert with_more_data(data) is None


@pytest.mark.parametrize(
    ("mode", "colour", "is_grey"),
    [
        ("RGB", GREY, True),
        ("RGB", (128, 128, 90), False),
        ("L", 128, True),
        ("L", 9, False),
        ("CMYK", (127,) * 4, True),
    ],
)
def test_which_last_pixel_is_grey(mode: str, colour: Any, is_grey: bool) -> None:
    assert ends_grey(Image.new(mode, (9, 7), colour)) is is_grey


def test_only_a_jpeg_with_a_grey_corner_is_decoded_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Image.Image] = []
    pillow_open = Image.open

    def keep(*arguments: Any, **named: Any) -> Image.Image:
        opened.append(pillow_open(*arguments, **named))
        return opened[-1]

    monkeypatch.setattr(Image, "open", keep)
    load_rgb(encoded(photo(5), "JPEG"), name="a.jpg", size=None)
    assert len(opened) == 1
    load_rgb(encoded(picture(), "JPEG"), name="a.jpg", size=None)
    assert len(opened) == 3
    load_rgb(encoded(picture(), "PNG"), name="a.jpg", size=None)
    assert len(opened) == 4
