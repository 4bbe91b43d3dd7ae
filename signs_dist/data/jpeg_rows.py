"""Decode the first rows of a JPEG only: a copy of the file whose header says that the image ends there.

Most of the time of decoding goes into undoing the Huffman code, in which no row can be found without reading those
before it; but the decoder can stop early. The format is ITU-T T.81; section numbers are of that.
"""

from __future__ import annotations

_SEQUENTIAL_FRAMES = (0xC0, 0xC1)
"""Start of a frame, Huffman-coded and not progressive (B.1.1.3). Each scan of a progressive one has all rows."""
_START_OF_SCAN = 0xDA


def with_first_rows(data: bytes, num_rows: int) -> bytes | None:
    """A JPEG whose image is the first `num_rows` of `data`; None where it is progressive or its header is not found.

    All pixels but those of the last 2 rows are the same bits: at its lower edge a decoder has no colours to smooth
    with. Where the decoder reduces the image, these are the last 2 rows of the reduced image.
    """
    position = 2
    while data[position : position + 1] == b"\xff":
        kind = data[position + 1 : position + 2]
        if kind == b"\xff":  # fill bytes (B.1.1.2)
            position += 1
            continue
        if not kind or kind[0] == _START_OF_SCAN:
            return None
        if kind[0] in _SEQUENTIAL_FRAMES:  # two bytes of length, one of precision, two of height (B.2.2)
            height = position + 5
            return data[:height] + num_rows.to_bytes(2, "big") + data[height + 2 :]
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return None
