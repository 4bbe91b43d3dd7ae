"""Small photos, folders and zips of them for tests."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy
from PIL import Image


def photo(seed: int, side: int = 40) -> Image.Image:
    """A smooth coloured picture, another for each seed."""
    coarse = numpy.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=numpy.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


def jpeg(seed: int, side: int = 40) -> bytes:
    return encoded(photo(seed, side), "JPEG", quality=92)


def encoded(image: Image.Image, image_format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, image_format, **options)
    return stream.getvalue()


def signs_files(num_train: int = 60, num_test: int = 12, *, top: str = "SIGNS/", side: int = 40) -> dict[str, bytes]:
    """File name → bytes of a data set with the labels 0 to 2, as SIGNS is published."""
    train = {f"{top}train_signs/{i % 3}_IMG_{5000 + i}.jpg": jpeg(i, side) for i in range(num_train)}
    return train | {f"{top}test_signs/{i % 3}_IMG_{7000 + i}.jpg": jpeg(1000 + i, side) for i in range(num_test)}


def write_files(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def write_zip(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def content_of(folder: Path) -> dict[str, bytes]:
    """All files below a folder, hidden ones included."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
