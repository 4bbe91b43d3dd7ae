"""Tell whether the data of a JPEG stops before its last pixels although the file has an end marker.

libjpeg then leaves the rest of the image grey and only warns, and Pillow does not pass its warnings on. Such files come
from repair tools, and from disks that lost a part of a file. The format is ITU-T T.81; section numbers are of that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

_GREY = (127, 128)
"""What the decoder leaves where it has no data, in each channel; CMYK may be inverted."""
_START_OF_SCAN = 0xDA
_MARKERS_WITHIN_DATA = (0x00, *range(0xD0, 0xD8))
"""After 0xFF in the data of a scan: a stuffed zero byte (B.1.1.5), and the restart markers."""
_MORE_DATA = bytes(range(1, 251)) * 2
"""Any bytes that are no marker, and that do not decode to grey."""


def ends_grey(image: Image) -> bool:
    """Whether the last pixel of a decoded JPEG is as the decoder leaves it where the data has stopped."""
    pixel = image.getpixel((image.width - 1, image.height - 1))
    return all(value in _GREY for value in (pixel if isinstance(pixel, tuple) else (pixel,)))


def with_more_data(data: bytes) -> bytes | None:
    """A JPEG with more data at the end of its first scan. None: the file has no scan that ends with a marker.

    A decoder that had all data of the scan skips the rest. One that had not decodes other pixels from it.
    """
    end = _end_of_first_scan(data)
    return None if end is None else data[:end] + _MORE_DATA + data[end:]


def _end_of_first_scan(data: bytes) -> int | None:
    """The index of the marker after the data of the first scan."""
    position = 2
    while data[position : position + 1] == b"\xff":
        if data[position + 1 : position + 2] == b"\xff":  # fill bytes (B.1.1.2)
            position += 1
            continue
        kind = data[position + 1 : position + 2]
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        if kind == bytes([_START_OF_SCAN]):
            return _next_marker(data, position)
    return None


def _next_marker(data: bytes, start: int) -> int | None:
    position = data.find(b"\xff", start)
    while 0 <= position < len(data) - 1:
        following = data[position + 1]
        if following != 0xFF and following not in _MARKERS_WITHIN_DATA:
            return position
        position = data.find(b"\xff", position + 1)
    return None
