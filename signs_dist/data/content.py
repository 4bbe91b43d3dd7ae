"""Tell by a file's first bytes what it holds: an image, an archive, a table. No image is decoded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

NUM_FIRST_BYTES = 512
"""As many bytes as the functions here look at: a tar has its name at byte 257."""

_AVIF_BRANDS = (b"avif", b"avis")
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_BMP_HEADER_SIZES = (12, 16, 40, 52, 56, 64, 108, 124)


def image_format(first: bytes) -> str | None:
    """The format of an image file by its first bytes, such as `JPEG`; None if it is no image that is looked for.

    HEIC is among the formats although it needs an extra: without it such a photo is named, not passed over.

    Args:
        first: the first `NUM_FIRST_BYTES` of the file, or all bytes of a shorter one.
    """
    for name, is_of_format in _IMAGE_FORMATS.items():
        if is_of_format(first):
            return name
    return None


def kind_of_file(first: bytes, name: str) -> str | None:
    """What a file that is no zip is, in words such as `a tar archive` or `a CSV table`; None if that is not known."""
    for start, words in _OTHER_SIGNATURES.items():
        if first.startswith(start):
            return words
    if first[257:262] == b"ustar":
        return "a tar archive"
    image = image_format(first)
    if image is not None:
        return f"one {image} image"
    return _KINDS_BY_SUFFIX.get(Path(name).suffix.lower())


def read_first_bytes(path: Path) -> bytes:
    """The first `NUM_FIRST_BYTES` of a regular file. Raises OSError."""
    with path.open("rb", buffering=0) as stream:
        return stream.read(NUM_FIRST_BYTES)


def _is_webp(first: bytes) -> bool:
    return first[:4] == b"RIFF" and first[8:12] == b"WEBP"


def _is_bmp(first: bytes) -> bool:
    # Text may begin with BM; the size of the header that follows is one of few.
    return first[:2] == b"BM" and int.from_bytes(first[14:18], "little") in _BMP_HEADER_SIZES


def _is_portable_pixmap(first: bytes) -> bool:
    # P1 to P6, white space, then a number or a comment: text may begin with "P1 " as well.
    rest = first[2:].lstrip(b" \t\r\n")
    return first[:1] == b"P" and first[1:2] in b"123456" and rest != first[2:] and rest[:1] in b"0123456789#"


def _brands(first: bytes) -> list[bytes]:
    """The brands in the first box of a file in the ISO base media format (ISO/IEC 14496-12, section 4.3)."""
    if first[4:8] != b"ftyp":
        return []
    end = min(int.from_bytes(first[:4], "big"), len(first))
    return [first[8:12], *(first[start : start + 4] for start in range(16, end, 4))]


def _is_avif(first: bytes) -> bool:
    return any(brand in _AVIF_BRANDS for brand in _brands(first))


def _is_heif(first: bytes) -> bool:
    return any(brand in _HEIF_BRANDS for brand in _brands(first)[:1])


_IMAGE_FORMATS: dict[str, Callable[[bytes], bool]] = {
    "JPEG": lambda first: first.startswith(b"\xff\xd8\xff"),
    "PNG": lambda first: first.startswith(b"\x89PNG\r\n\x1a\n"),
    "GIF": lambda first: first.startswith((b"GIF87a", b"GIF89a")),
    "WebP": _is_webp,
    "TIFF": lambda first: first.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    "BMP": _is_bmp,
    "PPM": _is_portable_pixmap,
    "AVIF": _is_avif,
    "HEIC": _is_heif,
}

_OTHER_SIGNATURES = {
    b"\x1f\x8b": "a gzip archive",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ\0": "an xz archive",
    b"\x28\xb5\x2f\xfd": "a zstd archive",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!\x1a\x07": "a rar archive",
    b"PAR1": "a Parquet table",
    b"%PDF": "a PDF document",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file",
    b"SQLite format 3\0": "an SQLite database",
    b"\x93NUMPY": "a NumPy array",
}

_KINDS_BY_SUFFIX = {
    ".csv": "a CSV table",
    ".tsv": "a table of text",
    ".txt": "a text file",
    ".md": "a text file",
    ".json": "a JSON file",
    ".jsonl": "a JSON file",
    ".yaml": "a YAML file",
    ".yml": "a YAML file",
    ".xml": "an XML file",
    ".html": "a web page",
    ".pkl": "a Python pickle",
    ".tar": "a tar archive",
}


def describe_file(path: Path) -> str:
    """What a file is, for messages: such as "a tar archive", or "a file" if its content does not tell."""
    try:
        return kind_of_file(read_first_bytes(path), path.name) or "a file"
    except OSError:
        return "a file"
