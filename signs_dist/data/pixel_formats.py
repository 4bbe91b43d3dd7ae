"""From an image of any mode that Pillow decodes to 8-bit RGB, with the right colours or an error.

Pillow's modes say too little: a TIFF whose zero is white, 12-bit values in 16-bit storage and signed values have the
mode of other pixels. What the file says about them is read before the image is decoded, by `read_stored_pixels`.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from signs_dist.data.content import image_format

if TYPE_CHECKING:
    from PIL.Image import Image

# Tags of TIFF 6.0.
_BITS_PER_SAMPLE, _COMPRESSION, _PHOTOMETRIC, _STRIP_BYTE_COUNTS, _SAMPLE_FORMAT = 258, 259, 262, 279, 339
_UNCOMPRESSED = 1
_WHITE_IS_ZERO, _YCBCR = 0, 6
_SIGNED, _FLOAT = 2, 3
_SIXTEEN_BITS = 65535
_LEVELS_OF_LOW_DEPTH = {"L;2": 3, "L;4": 15}
"""Pillow's name of a PNG's raw pixels → their largest value."""
_ADVICE = "save it with 8 or 16 bits a channel, without a sign"

UNKNOWN_FORMAT = (
    "not an image of a known format (JPEG, PNG, WebP, TIFF, BMP, GIF, PPM, AVIF, HEIC), or broken from its first bytes"
)
_FIRST_BYTES = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"P7": "PPM",
}
_OTHER_FILES = {
    b"version https://": "a pointer of Git LFS, not the image itself; type: git lfs pull",
    b"<!doctype": "a web page, as a download that failed leaves it",
    b"<html": "a web page, as a download that failed leaves it",
    b"<svg": "an SVG drawing, not pixels; export it as PNG",
}
"""Beginnings in small letters of what often lies under an image's name → what it is, and what to do."""


class UnsupportedPixelsError(ValueError):
    """The pixels cannot be read with their right colours. The message says which kind they are and what to do."""


@dataclasses.dataclass(frozen=True)
class StoredPixels:
    """What the file says about pixels of more than 8 bits.

    Attributes:
        largest: the largest value that the storage holds, such as 4095 for 12 bits.
        white_is_zero: whether 0 is white and `largest` is black. For floating-point pixels, 1 is black then.
    """

    largest: int = _SIXTEEN_BITS
    white_is_zero: bool = False


def read_stored_pixels(image: Image) -> StoredPixels:
    """Read what a file says about its pixels. Call it before `image.load()`.

    The transparent colour of a PNG is brought to the values that Pillow decodes to.

    Raises:
        UnsupportedPixelsError: signed or 32-bit pixels, or a TIFF that Pillow would decode to others.
    """
    if image.format == "PNG":
        _scale_transparent_colour(image)
    if image.format != "TIFF":
        return StoredPixels()
    tags: Any = image.tag_v2  # type: ignore[attr-defined]
    formats = set(_values(tags.get(_SAMPLE_FORMAT, 1)))
    if _SIGNED in formats:
        raise UnsupportedPixelsError(f"pixels with a sign; {_ADVICE}")
    photometric = tags.get(_PHOTOMETRIC)
    if image.mode == "F" and formats == {_FLOAT}:
        return StoredPixels(white_is_zero=photometric == _WHITE_IS_ZERO)
    if _FLOAT in formats:
        raise UnsupportedPixelsError(f"floating-point pixels of another size than 32 bits; {_ADVICE}")
    if image.mode == "I":
        raise UnsupportedPixelsError(f"32-bit pixels; {_ADVICE}")
    is_plain_ycbcr = photometric == _YCBCR and tags.get(_COMPRESSION, _UNCOMPRESSED) == _UNCOMPRESSED
    # Pillow decodes it as if each pixel had its own colour. With subsampling there are fewer bytes.
    if is_plain_ycbcr and sum(_values(tags.get(_STRIP_BYTE_COUNTS, 0))) < 3 * image.width * image.height:
        raise UnsupportedPixelsError("an uncompressed TIFF with subsampled colours; save it as PNG or JPEG")
    bits = max(_values(tags.get(_BITS_PER_SAMPLE, 1)))
    is_deep = image.mode.startswith("I;16")
    return StoredPixels(2**bits - 1 if is_deep else _SIXTEEN_BITS, is_deep and photometric == _WHITE_IS_ZERO)


def to_rgb(image: Image, stored: StoredPixels) -> Image:
    """An image as 8-bit RGB: values of more bits scaled, transparent pixels white, of floating-point values 1 is white.

    Raises:
        UnsupportedPixelsError: pixels of 32 bits; floating-point pixels that do not lie between 0 and 1.
    """
    import PIL.Image

    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _deep_grey_to_rgb(image, stored)
    if image.mode == "F":
        return _float_grey_to_rgb(image, stored)
    if image.mode == "La":  # multiplied by its alpha: Pillow converts it to LA only
        image = image.convert("LA")
    if image.has_transparency_data:
        with_alpha = image.convert("RGBA")
        on_white = PIL.Image.new("RGBA", image.size, (255, 255, 255, 255))
        on_white.alpha_composite(with_alpha)
        return on_white.convert("RGB")
    return image.convert("RGB")


def describe_undecodable(first_bytes: bytes) -> str:
    """Why Pillow finds no image in a file with these first bytes."""
    kind = next((kind for start, kind in _FIRST_BYTES.items() if first_bytes.startswith(start)), None)
    if first_bytes[:4] == b"RIFF" and first_bytes[8:12] == b"WEBP":
        kind = "WebP"
    kind = kind or next((name for name in ("HEIC", "AVIF") if image_format(first_bytes) == name), None)
    if kind is None:
        beginning = first_bytes.lstrip().lower()
        return next((what for start, what in _OTHER_FILES.items() if beginning.startswith(start)), UNKNOWN_FORMAT)
    article = "an" if kind == "AVIF" else "a"
    return f"{article} {kind} that is broken or of a kind that cannot be decoded; save it as a plain PNG or JPEG"


def _deep_grey_to_rgb(image: Image, stored: StoredPixels) -> Image:
    import numpy
    import PIL.Image

    values = numpy.asarray(image).astype(numpy.int64)
    largest = stored.largest
    if values.min() < 0 or values.max() > largest:
        raise UnsupportedPixelsError(f"32-bit pixels; {_ADVICE}")
    if stored.white_is_zero:
        values = largest - values
    grey = (values * 255 + largest // 2) // largest
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return PIL.Image.fromarray(grey.astype(numpy.uint8)).convert("RGB")


def _float_grey_to_rgb(image: Image, stored: StoredPixels) -> Image:
    """0 is black and 1 is white, as scikit-image, ImageMagick and the Portable FloatMap have it."""
    import numpy
    import PIL.Image

    values = numpy.asarray(image, dtype=numpy.float64)
    least, most = values.min(), values.max()
    if not (least >= 0 and most <= 1):  # false for values that are not numbers as well
        raise UnsupportedPixelsError(
            f"floating-point pixels from {least:g} to {most:g}, where 0 is black and 1 is white; {_ADVICE}"
        )
    grey = numpy.rint((1 - values if stored.white_is_zero else values) * 255)
    return PIL.Image.fromarray(grey.astype(numpy.uint8)).convert("RGB")


def _scale_transparent_colour(image: Image) -> None:
    """Pillow keeps a PNG's transparent colour in the file's depth, and decodes 2, 4 and 3 x 16 bits to 8 bits."""
    colour = image.info.get("transparency")
    raw_mode = _raw_mode(image)
    if isinstance(colour, int) and raw_mode in _LEVELS_OF_LOW_DEPTH:
        image.info["transparency"] = colour * 255 // _LEVELS_OF_LOW_DEPTH[raw_mode]
    elif isinstance(colour, tuple) and raw_mode == "RGB;16B":
        image.info["transparency"] = tuple(value >> 8 for value in colour)


def _raw_mode(image: Image) -> str:
    """Pillow's name of the file's own pixels, such as `L;4`."""
    tiles: Any = getattr(image, "tile", None)
    arguments = tiles[0][3] if tiles else ""
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)


def _values(tag: Any) -> tuple[int, ...]:
    """The values of a TIFF tag, which Pillow gives as a number if there is one."""
    return tuple(tag) if isinstance(tag, (tuple, list)) else (int(tag),)
