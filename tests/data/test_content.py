from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from signs_dist.data.content import image_format, kind_of_file, read_first_bytes
from tests.data.photo_files import encoded, jpeg, photo, write_zip

FORMATS = {"JPEG": "JPEG", "PNG": "PNG", "GIF": "GIF", "WEBP": "WebP", "TIFF": "TIFF", "BMP": "BMP", "PPM": "PPM"}


def box(major: bytes, *compatible: bytes) -> bytes:
    """The first box of a HEIC or AVIF file."""
    brands = major + bytes(4) + b"".join(compatible)
    return (8 + len(brands)).to_bytes(4, "big") + b"ftyp" + brands


@pytest.mark.parametrize("pillow_name", FORMATS)
def test_what_pillow_writes_is_recognised(pillow_name: str) -> None:
    assert image_format(encoded(photo(1), pillow_name)) == FORMATS[pillow_name]


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        (encoded(Image.new("1", (8, 8)), "PPM"), "PPM"),
        (encoded(Image.new("I;16", (8, 8)), "TIFF"), "TIFF"),
        (b"P3\n# made by hand\n2 2 255\n", "PPM"),
        (b"MM\0*" + bytes(20), "TIFF"),
        (box(b"avif", b"mif1", b"miaf"), "AVIF"),
        (box(b"mif1", b"mif1", b"avif"), "AVIF"),
        (box(b"heic", b"mif1", b"heic"), "HEIC"),
        (box(b"isom", b"iso2", b"mp41"), None),
        (b"BMI of all patients, in a text without a suffix", None),
        (b"P1 is the first participant", None),
        (b"RIFF\0\0\0\0WAVEfmt ", None),
        (b"hello", None),
        (b"", None),
        (b"\xff\xd8", None),
    ],
)
def test_first_bytes(first: bytes, expected: str | None) -> None:
    assert image_format(first) == expected


def tar_of_one_file() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("cat/1.jpg"), io.BytesIO(b""))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "name", "expected"),
    [
        (tar_of_one_file(), "photos.tar", "a tar archive"),
        (tar_of_one_file(), "photos", "a tar archive"),
        (gzip.compress(b"x", mtime=0), "photos.tar.gz", "a gzip archive"),
        (b"7z\xbc\xaf\x27\x1c\0\x04", "photos.7z", "a 7z archive"),
        (b"Rar!\x1a\x07\x01\0", "photos.rar", "a rar archive"),
        (b"PAR1\x15\x04", "labels.parquet", "a Parquet table"),
        (b"path,label\n1.jpg,cat\n", "labels.CSV", "a CSV table"),
        (b"{}", "labels.json", "a JSON file"),
        (jpeg(1), "cat.jpg", "one JPEG image"),
        (b"??", "x.bin", None),
    ],
)
def test_kinds_of_files(content: bytes, name: str, expected: str | None) -> None:
    assert kind_of_file(content, name) == expected


def test_a_long_file_is_read_at_its_beginning_only(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(jpeg(1, 400))
    first = read_first_bytes(tmp_path / "a")
    assert len(first) == 512
    assert image_format(first) == "JPEG"
    assert image_format(read_first_bytes(write_zip(tmp_path / "a.zip", {"a": b"x"}))) is None
