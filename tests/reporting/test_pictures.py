"""Photos as small pictures inside the page."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import pytest
from PIL import Image

from signs_dist.reporting.pictures import as_data_uri


def picture_of(address: str) -> Image.Image:
    head, content = address.split(",", 1)
    assert head == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(content)))


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "I;16"])
def test_a_photo_becomes_a_small_jpeg(tmp_path: Path, mode: str) -> None:
    Image.new("RGB" if mode == "P" else mode, (400, 200)).convert(mode).save(tmp_path / "a.png")
    small = picture_of(as_data_uri(tmp_path / "a.png", 100) or "")
    assert (small.size, small.mode) == ((100, 50), "RGB")


def test_a_small_photo_keeps_its_size_and_an_upright_one_stands(tmp_path: Path) -> None:
    photo = Image.new("RGB", (40, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    photo.save(tmp_path / "a.jpg", exif=exif)
    assert picture_of(as_data_uri(tmp_path / "a.jpg") or "").size == (20, 40)


def test_what_is_no_picture_gives_none(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no picture")
    Image.new("RGB", (400, 400)).save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:300])
    for name in ("text.jpg", "missing.jpg", "cut.jpg", ".", "bad\0name"):
        assert as_data_uri(tmp_path / name) is None, name


def test_a_huge_picture_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (400, 300)).save(tmp_path / "a.png")
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 100_000)  # Pillow warns of it, and warnings are errors here
    assert as_data_uri(tmp_path / "a.png") is not None
    monkeypatch.setattr("signs_dist.reporting.pictures.MOST_PIXELS", 100_000)
    assert as_data_uri(tmp_path / "a.png") is None
