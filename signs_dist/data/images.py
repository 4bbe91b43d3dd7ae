"""Decode an image file, or its bytes, to RGB pixels: photos, scans, images from the web."""

from __future__ import annotations

import contextlib
import errno
import functools
import importlib.util
import io
import math
import struct
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

from signs_dist.data.content import NUM_FIRST_BYTES, image_format
from signs_dist.data.heic import HOW_TO_READ_HEIC, PILLOWS_NAME, enable_heic
from signs_dist.data.jpeg_end import ends_grey, with_more_data
from signs_dist.data.pixel_formats import (
    UnsupportedPixelsError,
    describe_undecodable,
    read_stored_pixels,
    to_rgb,
)
from signs_dist.errors import UserError
from signs_dist.monitoring.plain_text import one_line

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGE_SUFFIXES = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".pjpeg", ".pjp", ".mpo", ".png", ".apng", ".webp", ".tif", ".tiff"),
        *(".bmp", ".dib", ".gif", ".ppm", ".pgm", ".pbm", ".pnm", ".avif"),
        *(".heic", ".heif", ".hif"),
    )
)
"""Suffixes of image files. HEIC needs the extra `heic`; without it, an error names the file."""

MAX_MEGAPIXELS = 250.0
"""Largest width times height in millions that is decoded by default. Phones reach 200 (16,320 x 12,240).

Pillow holds 4 bytes for each pixel: 1 GB for the largest image. A JPEG is decoded at a smaller size and takes far less.
"""

DECODER_FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP", "GIF", "AVIF")
"""Pillow's decoders in use, AVIF where Pillow has it; JPEG includes MPO. For a HEIC photo, that of the extra `heic` as
well. Others may be unsafe: EPS, for example, starts Ghostscript."""

DEAD_LINK = "a link that leads nowhere"
"""Why a link to no file is a bad image."""

_JPEG_FORMATS = ("JPEG", "MPO")
REDUCING_GAP = 3.0
"""Cheap reduction (in the JPEG decoder, then by averaging boxes) stops at this multiple of the final size."""

BROKEN_FILE_ERRORS = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, ArithmeticError, AttributeError, RuntimeError,
    struct.error, zlib.error,
)  # fmt: skip
"""What Pillow's decoders raise on broken files. OSError covers UnidentifiedImageError."""
_MACHINE_ERRORS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


class BadImageError(UserError):
    """An image that cannot be used. `path` is the name that the caller gave; `reason` says why, in a few words."""

    def __init__(self, path: str, reason: str, advice: str = "Replace the file or remove it from the data set."):
        super().__init__(f"cannot read the image {one_line(path)}: {reason}. {advice}")
        self.path = path
        self.reason = reason
        self.advice = advice

    def __reduce__(self) -> tuple[type[BadImageError], tuple[str, str, str]]:
        # Unpickling in another process passes the message alone, but __init__ takes several arguments.
        return type(self), (self.path, self.reason, self.advice)


def is_image_name(name: str) -> bool:
    """Whether the name is that of an image: it has an image suffix and is not hidden."""
    stem, dot, suffix = name.rpartition(".")
    return bool(stem) and not name.startswith(".") and (dot + suffix).lower() in IMAGE_SUFFIXES


def load_rgb(
    source: Path | bytes,
    *,
    name: str,
    size: int | None,
    max_megapixels: float = MAX_MEGAPIXELS,
    on_open: Callable[[Image], None] | None = None,
) -> Image:
    """Decode an image to 8-bit RGB, upright by its EXIF orientation.

    Greyscale, palette, CMYK, 16-bit and floating-point images are converted (16-bit values scaled, not clipped);
    transparent pixels become white; an animation gives its first frame. Safe to call from several threads.

    Args:
        source: the file, or its bytes.
        name: names the image in errors.
        size: None keeps width and height. A number gives size x size pixels; an image that is not square is distorted.
        max_megapixels: largest width times height, in millions.
        on_open: called with Pillow's image before it is decoded, to look at what the file says about itself.

    Raises:
        BadImageError: missing, unreadable, empty, truncated or broken file; not an image; pixels whose colours cannot
            be told; more pixels than `max_megapixels`.
    """
    with opened_image(source, name=name, max_megapixels=max_megapixels) as (image, stream):
        if on_open is not None:
            on_open(image)
        stored = read_stored_pixels(image)
        _decode(image, size)
        if is_jpeg(image) and ends_grey(image):
            stream.seek(0)
            check_end(image, stream.read(), lambda other: _decode(other, size), name)
        return _resized(to_rgb(_upright(image), stored), size)


@contextlib.contextmanager
def opened_image(source: Path | bytes, *, name: str, max_megapixels: float) -> Iterator[tuple[Image, IO[bytes]]]:
    """Pillow's image of a file, not yet decoded, and the stream that it reads.

    Errors of Pillow within the block become a BadImageError. Arguments and errors are those of `load_rgb`.
    """
    import PIL
    import PIL.Image

    start = b""
    try:
        with contextlib.ExitStack() as stack:
            stream = stack.enter_context(_opened(source, name))
            stack.enter_context(pillow_quiet_and_unlimited())
            start = stream.read(NUM_FIRST_BYTES)
            stream.seek(0)
            image = stack.enter_context(PIL.Image.open(stream, formats=_formats_for(start, name)))
            _check_dimensions(image, name, max_megapixels)
            yield image, stream
    except BadImageError:
        raise
    except UnsupportedPixelsError as error:
        raise BadImageError(name, str(error)) from error
    except PIL.UnidentifiedImageError as error:
        raise BadImageError(name, describe_undecodable(start)) from error
    except BROKEN_FILE_ERRORS as error:
        if isinstance(error, OSError) and error.errno in _MACHINE_ERRORS:
            raise
        raise BadImageError(name, _reason(error)) from error


def is_jpeg(image: Image) -> bool:
    """Whether an image is a JPEG, or several in one file (MPO): its decoder can reduce it."""
    return image.format in _JPEG_FORMATS


def _formats_for(start: bytes, name: str) -> tuple[str, ...]:
    """Pillow's decoders to try on a file with these first bytes."""
    if image_format(start) != "HEIC":
        return _decoder_formats()
    if not enable_heic():
        raise BadImageError(name, HOW_TO_READ_HEIC)
    return (PILLOWS_NAME,)


@functools.cache
def _decoder_formats() -> tuple[str, ...]:
    if importlib.util.find_spec("PIL.AvifImagePlugin") is not None:  # since Pillow 11.3
        return DECODER_FORMATS
    return tuple(name for name in DECODER_FORMATS if name != "AVIF")


@contextlib.contextmanager
def _opened(source: Path | bytes, name: str) -> Iterator[IO[bytes]]:
    if isinstance(source, bytes):
        if not source:
            raise BadImageError(name, "the file has 0 bytes")
        yield io.BytesIO(source)
        return
    if not source.is_file():
        if source.exists():
            raise BadImageError(name, "not a regular file")  # a named pipe would block for ever
        if source.is_symlink():
            raise BadImageError(name, DEAD_LINK)
    with source.open("rb") as stream:
        if not stream.peek(1):
            raise BadImageError(name, "the file has 0 bytes")
        yield stream


def _check_dimensions(image: Image, name: str, max_megapixels: float) -> None:
    width, height = image.size
    if width < 1 or height < 1:
        raise BadImageError(name, f"{width} x {height} pixels")
    megapixels = width * height / 1e6
    if megapixels > max_megapixels:
        needed = math.ceil(megapixels)
        raise BadImageError(
            name,
            f"{width} x {height} pixels, more than {max_megapixels:g} megapixels; to allow it: "
            f"--max-megapixels {needed}, or for training data.max_megapixels={needed}",
        )


def _decode(image: Image, size: int | None) -> None:
    if size is not None and is_jpeg(image):  # HEIC would take an embedded thumbnail of another quality
        image.draft(None, (int(size * REDUCING_GAP), int(size * REDUCING_GAP)))
    image.load()


def check_end(image: Image, data: bytes, decode: Callable[[Image], None], name: str) -> None:
    """Refuse a JPEG whose last pixels are grey because its data stops before them.

    Args:
        image: decoded by `decode`.
        data: the bytes that it was decoded from.
        decode: decodes an image that was opened.
        name: names the image in errors.

    Raises:
        BadImageError: more data after the end of its scan would be decoded to other pixels.
    """
    import PIL.Image

    longer = with_more_data(data)
    if longer is None:
        return
    with PIL.Image.open(io.BytesIO(longer), formats=("JPEG",)) as other:
        decode(other)
        if other.tobytes() != image.tobytes():
            raise BadImageError(name, "truncated (its data stops before the last pixels)")


def read_orientation(image: Image) -> int:
    """How an image has to be turned to be upright: 1 to 8, as EXIF 2.32 counts; 1, as it is, where it does not say."""
    try:
        orientation = image.getexif().get(0x0112, 1)
    except BROKEN_FILE_ERRORS:
        return 1  # the pixels are intact; only the orientation is unknown
    return int(orientation) if orientation in range(1, 9) else 1


def _upright(image: Image) -> Image:
    from PIL import ImageOps

    if read_orientation(image) == 1:
        return image
    turned = ImageOps.exif_transpose(image)
    assert turned is not None  # only in_place=True returns None
    return turned


def _resized(image: Image, size: int | None) -> Image:
    import PIL.Image

    if size is None or image.size == (size, size):
        return image.copy()  # independent of the file, which is closed
    return image.resize((size, size), PIL.Image.Resampling.BICUBIC, reducing_gap=REDUCING_GAP)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    text = str(error).strip()
    if "truncated" in text.lower():
        return f"truncated ({text})"
    return f"broken ({type(error).__name__}: {text})" if text else f"broken ({type(error).__name__})"


_warnings_lock = threading.Lock()
_warnings_users = 0
_warnings_state = contextlib.ExitStack()


@contextlib.contextmanager
def pillow_quiet_and_unlimited() -> Iterator[None]:
    """Hide Pillow's warnings (odd EXIF, large image, malformed MPO), and lift its limit of 179 million pixels.

    A bad image raises BadImageError instead, and `_check_dimensions` has the limit. Around many images it saves each of
    them a part of a tenth of a millisecond.

    `warnings.catch_warnings` is not safe with several threads, nor is Pillow's limit, which is global: the first thread
    changes both, and the last one restores them. Warnings of other packages are shown as before.
    """
    import PIL.Image

    global _warnings_users
    with _warnings_lock:
        if _warnings_users == 0:
            _warnings_state.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", module=r"PIL\b")
            _warnings_state.callback(setattr, PIL.Image, "MAX_IMAGE_PIXELS", PIL.Image.MAX_IMAGE_PIXELS)
            PIL.Image.MAX_IMAGE_PIXELS = None
        _warnings_users += 1
    try:
        yield
    finally:
        with _warnings_lock:
            _warnings_users -= 1
            if _warnings_users == 0:
                _warnings_state.close()
