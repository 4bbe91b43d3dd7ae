"""TIFF and PNG files written byte by byte, for pixels that Pillow does not write."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, STRIP, SAMPLES, ROWS, COUNT = 256, 257, 258, 259, 262, 273, 277, 278, 279
EXTRA_SAMPLES, SAMPLE_FORMAT, SUBSAMPLING = 338, 339, 530
_SHORT, _LONG = 3, 4


def tiff(
    data: bytes,
    *,
    side: int = 2,
    bits: int = 8,
    photometric: int = 1,
    samples: int = 1,
    sample_format: int = 1,
    order: str = "<",
    more: Mapping[int, Sequence[int]] | None = None,
) -> bytes:
    """A TIFF of one uncompressed strip. `order`: `<` for little-endian, `>` for big-endian. `more`: other tags."""
    tags: dict[int, tuple[int, Sequence[int]]] = {
        WIDTH: (_SHORT, [side]),
        HEIGHT: (_SHORT, [side]),
        BITS: (_SHORT, [bits] * samples),
        COMPRESSION: (_SHORT, [1]),
        PHOTOMETRIC: (_SHORT, [photometric]),
        STRIP: (_LONG, [0]),
        SAMPLES: (_SHORT, [samples]),
        ROWS: (_SHORT, [side]),
        COUNT: (_LONG, [len(data)]),
        SAMPLE_FORMAT: (_SHORT, [sample_format] * samples),
        **{tag: (_SHORT, values) for tag, values in (more or {}).items()},
    }
    start = 8 + 2 + 12 * len(tags) + 4
    long_values = b"".join(
        _packed(kind, values, order) for _, (kind, values) in sorted(tags.items()) if _is_long(kind, values)
    )
    tags[STRIP] = (_LONG, [start + len(long_values)])
    entries, place = b"", start
    for tag, (kind, values) in sorted(tags.items()):
        packed = _packed(kind, values, order)
        entries += struct.pack(f"{order}HHI", tag, kind, len(values))
        if _is_long(kind, values):
            entries += struct.pack(f"{order}I", place)
            place += len(packed)
        else:
            entries += packed.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    return head + struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + long_values + data


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of these rows (each after its filter byte), with other chunks before the pixels."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )


def packed_12_bits(values: Sequence[int]) -> bytes:
    """Two values in three bytes."""
    pairs = zip(values[::2], values[1::2], strict=True)
    return b"".join(bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) for a, b in pairs)


def _packed(kind: int, values: Sequence[int], order: str) -> bytes:
    return struct.pack(order + {_SHORT: "H", _LONG: "I"}[kind] * len(values), *values)


def _is_long(kind: int, values: Sequence[int]) -> bool:
    return {_SHORT: 2, _LONG: 4}[kind] * len(values) > 4
