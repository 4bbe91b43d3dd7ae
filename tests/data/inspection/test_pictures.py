from __future__ import annotations

import base64
import functools
import io
from pathlib import Path

import numpy
from PIL import Image

from signs_dist.data.inspection.pictures import SIDE, small_pictures
from signs_dist.data.photos.sources import SourceReader
from tests.data.photo_files import encoded, write_files


def test_photos_of_any_format_are_small_and_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    deep = Image.fromarray(numpy.full((300, 300), 0x8000, numpy.uint16))
    files = {
        "turned.jpg": encoded(Image.new("RGB", (400, 200), "red"), "JPEG", exif=exif),
        "deep.png": encoded(deep, "PNG"),
        "small.bmp": encoded(Image.new("RGB", (8, 4), "red"), "BMP"),
        "bad.jpg": b"",
    }
    open_reader = functools.partial(SourceReader, write_files(tmp_path, files))
    found = small_pictures(open_reader, [*files, "deep.png"], processes=1)
    pictures = {
        name: Image.open(io.BytesIO(base64.b64decode(text.removeprefix("data:image/jpeg;base64,"))))
        for name, text in found.items()
    }
    assert {name: picture.size for name, picture in pictures.items()} == {
        "turned.jpg": (SIDE // 2, SIDE),
        "deep.png": (SIDE, SIDE),
        "small.bmp": (8, 4),
    }
    assert pictures["deep.png"].convert("L").getpixel((9, 9)) == 128
