"""A folder of photos as people have it: 1,200 files of 10 classes, in many sizes and formats, some of them broken.

What is odd in it is written down in the value that `write_odd_photos` returns, so that tests can ask for it by name.
"""

from __future__ import annotations

import colorsys
import csv
import dataclasses
import io
import shutil
from pathlib import Path

import numpy as np
from PIL import Image, features

CLASSES = (
    *("Äpfel", "blue jay", "crème brûlée", "fire engine", "marmot", "naïve art", "red fox", "señal", "teapot", "zebra"),
)
"""With spaces and accents."""
SMALL_CLASS = "zebra"
NUM_SMALL_CLASS = 4
NUM_BROKEN = 9
NUM_COPIES = 12
SIZES = ((64, 48), (48, 64), (56, 56), (120, 90), (40, 40), (96, 32))
"""(width, height) in pixels of the photos, in turn."""
LITTER = (".DS_Store", "@eaDir/thumb.jpg", "__MACOSX/._a.jpg", "Thumbs.db", "notes.txt", ".cache/a.jpg")
"""Files that other programs and people leave among photos. No command reads them as photos."""


@dataclasses.dataclass(frozen=True)
class OddPhotos:
    """The folder, and what is odd in it. Paths are relative to the folder, with forward slashes."""

    root: Path
    files: tuple[str, ...]
    """All image files, the broken ones and the copies included, sorted."""
    broken: tuple[str, ...]
    copies: tuple[tuple[str, str], ...]
    """(photo, copy of its bytes): in one class, so that a division of the class may part them."""
    counts: dict[str, int]
    """Class → its photos that can be read, copies included."""
    formats: dict[str, str]
    """Path → the format of a photo that is not broken, as Pillow calls it."""
    grey: tuple[str, ...]
    turned: tuple[str, ...]
    """To be turned upright by their EXIF orientation."""
    transparent: tuple[str, ...]
    animated: tuple[str, ...]


def write_odd_photos(root: Path, *, num_files: int = 1200, has_heic: bool = False) -> OddPhotos:
    """Write class folders below `root`, which are not split: `red fox/IMG 0012.jpg`.

    Args:
        root: the folder to make.
        num_files: image files in all, the broken ones and the copies included; at least 200.
        has_heic: whether a few photos are HEIC, as iPhones write them. Needs pillow-heif.
    """
    assert num_files >= 200
    generator = np.random.default_rng(20)
    found = _Written(root, has_heic)
    num_plain = num_files - NUM_BROKEN - NUM_COPIES - NUM_SMALL_CLASS
    for number in range(num_plain):
        found.add_photo(number % (len(CLASSES) - 1), number, generator)
    for number in range(num_plain, num_plain + NUM_SMALL_CLASS):
        found.add_photo(CLASSES.index(SMALL_CLASS), number, generator)
    large = [path for path in found.formats if not path.startswith(SMALL_CLASS)]
    copies = []
    for number in range(NUM_COPIES):
        original = large[11 * number + 3]
        copies.append((original, _copy(root, original)))
    for number, data in enumerate(_broken_files()):
        (root / f"{CLASSES[number]}/broken {number}.jpg").write_bytes(data)
    for name in LITTER:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    broken = tuple(f"{CLASSES[number]}/broken {number}.jpg" for number in range(NUM_BROKEN))
    formats = found.formats | {copy: found.formats[original] for original, copy in copies}
    return OddPhotos(
        root=root,
        files=tuple(sorted([*formats, *broken])),
        broken=broken,
        copies=tuple(copies),
        counts={name: sum(path.startswith(f"{name}/") for path in formats) for name in CLASSES},
        formats=formats,
        **{kind: tuple(sorted(paths)) for kind, paths in found.odd_with_copies(copies).items()},
    )


def write_table(photos: OddPhotos, path: Path) -> Path:
    """A CSV with the columns path and label, which lists all files of the folder where they lie."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["path", "label"])
        for name in photos.files:
            writer.writerow([str(photos.root / name), name.split("/")[0]])
    return path


def odd_photo(label: int, generator: np.random.Generator, size: tuple[int, int] = (64, 48)) -> Image.Image:
    """A picture whose hue gives the class away, with light and dark places of its own, and noise."""
    hue = np.array(colorsys.hsv_to_rgb(label / len(CLASSES), 0.75, 1.0))
    coarse = Image.fromarray(generator.integers(40, 256, (6, 6), dtype=np.uint8))
    light = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC), np.float32)[..., None]
    noise = generator.normal(0, 12, (size[1], size[0], 3))
    return Image.fromarray((light * hue + noise).clip(0, 255).astype(np.uint8))


class _Written:
    def __init__(self, root: Path, has_heic: bool) -> None:
        self.root = root
        self.has_heic = has_heic
        self.formats: dict[str, str] = {}
        self.odd: dict[str, list[str]] = {"grey": [], "turned": [], "transparent": [], "animated": []}

    def add_photo(self, label: int, number: int, generator: np.random.Generator) -> None:
        picture = odd_photo(label, generator, SIZES[number % len(SIZES)])
        data, suffix, image_format, kind = _encoded(picture, number // len(CLASSES), self.has_heic)
        path = f"{CLASSES[label]}/IMG {number:04d}{suffix}"
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_bytes(data)
        self.formats[path] = image_format
        if kind:
            self.odd[kind].append(path)

    def odd_with_copies(self, copies: list[tuple[str, str]]) -> dict[str, list[str]]:
        return {
            kind: [*paths, *(copy for original, copy in copies if original in paths)]
            for kind, paths in self.odd.items()
        }


def _encoded(picture: Image.Image, turn: int, has_heic: bool) -> tuple[bytes, str, str, str]:
    """(bytes, suffix, format, what is odd) of a picture. Nearly half are plain JPEGs; other kinds take turns."""
    kind = turn % 23
    if kind == 1:
        return _saved(picture, "PNG"), ".png", "PNG", ""
    if kind == 3:
        return _saved(picture, "WEBP", quality=90), ".webp", "WEBP", ""
    if kind == 5:
        return _saved(picture, "BMP"), ".BMP", "BMP", ""
    if kind == 7:
        return _saved(picture, "TIFF"), ".tif", "TIFF", ""
    if kind == 9:
        second = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return _saved(picture, "GIF", save_all=True, append_images=[second]), ".gif", "GIF", "animated"
    if kind == 11:
        return _saved(picture, "JPEG", quality=92, progressive=True), ".jfif", "JPEG", ""
    if kind == 13:
        return _saved(picture.convert("CMYK"), "JPEG", quality=92), ".jpeg", "JPEG", ""
    if kind == 15:
        return _saved(picture, "JPEG", quality=92), "", "JPEG", ""  # no suffix
    if kind == 17 and features.check("avif"):
        return _saved(picture, "AVIF", quality=85, speed=10), ".avif", "AVIF", ""
    if kind == 19:
        whole = picture.convert("RGBA")
        whole.paste((0, 0, 0, 0), (0, 0, 5, 5))
        return _saved(whole, "PNG"), ".png", "PNG", "transparent"
    if kind == 21:
        exif = Image.Exif()
        exif[0x0112] = 6
        stored = picture.transpose(Image.Transpose.ROTATE_90)
        return _saved(stored, "JPEG", quality=92, exif=exif), ".JPG", "JPEG", "turned"
    if kind == 22 and turn % 46 == 22:
        return _saved(picture.convert("L"), "JPEG", quality=92), ".jpg", "JPEG", "grey"
    if kind == 14 and has_heic:
        import pillow_heif

        stream = io.BytesIO()
        pillow_heif.from_pillow(picture).save(stream, quality=90)
        return stream.getvalue(), ".heic", "HEIF", ""
    return _saved(picture, "JPEG", quality=92), ".jpg", "JPEG", ""


def _saved(image: Image.Image, image_format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, image_format, **options)
    return stream.getvalue()


def _copy(root: Path, original: str) -> str:
    folder, _, name = original.partition("/")
    stem, dot, suffix = name.rpartition(".")
    copy = f"{folder}/{stem} (1).{suffix}" if dot else f"{folder}/{name} (1)"
    shutil.copyfile(root / original, root / copy)
    return copy


def _broken_files() -> tuple[bytes, ...]:
    whole = _saved(odd_photo(3, np.random.default_rng(9), (120, 90)), "JPEG", quality=92)
    png = _saved(odd_photo(4, np.random.default_rng(10), (120, 90)), "PNG")
    return (
        *(b"", b"hello, this is no image" * 10, whole[: len(whole) // 2], png[: len(png) // 2]),
        *(b"<!doctype html><html>404 not found</html>", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n"),
        *(bytes(3000), whole[:20], b"\xff\xd8\xff\xe0" + bytes(200)),
    )
