"""What is noted of a photo by itself."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

import pytest
from PIL import Image

from signs_dist.data.images import load_rgb
from signs_dist.data.inspection.looking import DIGEST_SIDE, PhotoFacts, facts_of, look_at
from signs_dist.data.photos.sources import SourceReader
from tests.data.photo_files import encoded, jpeg, photo, write_files
from tests.odd_photos import write_odd_photos


def exif(orientation: int) -> Image.Exif:
    found = Image.Exif()
    found[0x0112] = orientation
    return found


def frames(image_format: str) -> bytes:
    return encoded(photo(1), image_format, save_all=True, append_images=[photo(2)])


WIDE = photo(1).resize((30, 20))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (encoded(WIDE, "JPEG"), {"width": 30, "height": 20, "image_format": "JPEG"}),
        (encoded(WIDE, "JPEG", exif=exif(6)), {"width": 20, "height": 30, "is_turned": True}),
        (encoded(WIDE, "JPEG", exif=exif(3)), {"width": 30, "height": 20, "is_turned": True}),
        (encoded(WIDE.convert("L"), "PNG"), {"is_grey": True, "image_format": "PNG"}),
        (encoded(WIDE.convert("L").convert("RGB"), "JPEG"), {"is_grey": True}),
        (encoded(WIDE.convert("RGBA"), "PNG"), {"is_transparent": True}),
        (frames("GIF"), {"is_animated": True, "image_format": "GIF"}),
        (frames("WEBP"), {"is_animated": True}),
        (frames("TIFF"), {"is_animated": True}),
        (frames("MPO"), {"is_animated": False, "image_format": "JPEG"}),
        (b"", {"reason": "the file has 0 bytes", "digest": ""}),
    ],
)
def test_facts(tmp_path: Path, data: bytes, expected: dict[str, object]) -> None:
    facts = facts_of(SourceReader(write_files(tmp_path, {"cat/a.x": data})), "cat/a.x")
    assert {name: getattr(facts, name) for name in expected} == expected
    flags = ("is_grey", "is_turned", "is_transparent", "is_animated")
    assert all(not getattr(facts, name) for name in flags if name not in expected)


def test_one_picture_in_two_formats_has_one_digest(tmp_path: Path) -> None:
    reader = SourceReader(write_files(tmp_path, {n: encoded(photo(3), n) for n in ("PNG", "BMP", "TIFF")}))
    assert len({facts_of(reader, name).digest for name in ("PNG", "BMP", "TIFF")}) == 1
    assert facts_of(SourceReader(write_files(tmp_path, {"x": jpeg(4)})), "x").digest != facts_of(reader, "PNG").digest


@pytest.mark.parametrize("image_format", ["GIF", "TIFF", "WEBP", "PNG", "MPO"])
def test_asking_for_frames_changes_no_pixel(tmp_path: Path, image_format: str) -> None:
    data = frames(image_format)
    facts = facts_of(SourceReader(write_files(tmp_path, {"x": data})), "x")
    pixels = load_rgb(data, name="x", size=DIGEST_SIDE).tobytes()
    assert facts.digest == hashlib.sha256(pixels).hexdigest()


def test_all_oddities_of_the_odd_photos_are_seen(tmp_path: Path) -> None:
    photos = write_odd_photos(tmp_path / "odd", num_files=460)
    done: list[int] = []
    looked = look_at(
        functools.partial(SourceReader, photos.root),
        photos.files,
        processes=1,
        on_progress=lambda number, total: done.append(number),
    )
    assert done[-1] == 460
    assert [each.path for each in looked] == list(photos.files)
    assert {each.path for each in looked if each.reason is not None} == set(photos.broken)
    for name in ("grey", "turned", "transparent", "animated"):
        assert {each.path for each in looked if getattr(each, f"is_{name}")} == set(getattr(photos, name)), name
    formats = {each.path: each.image_format for each in looked if each.reason is None}
    assert formats == photos.formats


def test_a_photo_that_cannot_be_read_has_a_reason_only() -> None:
    assert PhotoFacts("a.jpg", "truncated").digest == ""
