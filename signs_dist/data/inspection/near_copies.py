"""Photos that are nearly equal: the same picture in another size, format or quality.

Two photos are near copies if their difference hashes differ in at most `MAX_BITS` of 64 bits, and their grey pictures
of 16 x 16, brought to one brightness, by at most `MAX_DIFFERENCE` levels of 255 on average. The second test is needed:
photos of one hand taken in a row differ in as few as 1 bit. Of the 1,080 published SIGNS photos at 64 x 64, they
call no two different ones near copies (the nearest differ by 1.56 levels), and find each again that was saved as a JPEG
of quality 50, as WebP of quality 70 or as GIF, or made half or twice as large. A crop is not found.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray
    from PIL.Image import Image

MAX_BITS = 7
"""The bands below find all pairs of at most this distance."""
MAX_DIFFERENCE = 1.5
THUMB_SIDE = 16
_LEAST_CONTRAST_RATIO = 0.1
"""Pictures with little contrast are all alike: they may differ by this share of their contrast only."""
_BAND_BITS = 16
_PAIRS_AT_ONCE = 1 << 21


def difference_hash(image: Image) -> int:
    """64 bits: whether each of 8 x 8 places of a picture is darker than its right neighbour.

    Source: N. Krawetz, "Kind of Like That", 2013, hackerfactor.com/blog/index.php?/archives/529-Kind-of-Like-That.html.
    """
    import numpy
    import PIL.Image

    grey = numpy.asarray(image.convert("L").resize((9, 8), PIL.Image.Resampling.LANCZOS))
    return int.from_bytes(numpy.packbits(grey[:, 1:] > grey[:, :-1]).tobytes(), "big")


def thumb(image: Image) -> bytes:
    """The grey picture of 16 x 16 pixels, row by row."""
    import PIL.Image

    return image.convert("L").resize((THUMB_SIDE, THUMB_SIDE), PIL.Image.Resampling.BOX).tobytes()


def near_pairs(hashes: NDArray[numpy.uint64], thumbs: NDArray[numpy.uint8]) -> list[tuple[int, int]]:
    """The pairs of near copies, each (smaller, larger) number of a photo, sorted.

    The 64 bits are cut into 4 bands of 16. Of two hashes that differ in at most 7 bits, some band differs in at most
    one bit: only photos that share a band, or a band with one bit changed, are compared (multi-index hashing: Norouzi,
    Punjani, Fleet, 2012).

    Args:
        hashes: [N] from `difference_hash`.
        thumbs: [N, 256] from `thumb`.
    """
    import numpy

    found: set[tuple[int, int]] = set()
    grey = thumbs.astype(numpy.float32)
    grey -= grey.mean(axis=1, keepdims=True)
    allowed = numpy.minimum(MAX_DIFFERENCE, _LEAST_CONTRAST_RATIO * numpy.abs(grey).mean(axis=1))
    num_bits_of = numpy.array([bin(value).count("1") for value in range(1 << _BAND_BITS)], numpy.uint8)
    bands = _bands_of(hashes)
    for first, second in _candidates(bands):
        differing = bands[first] ^ bands[second]
        is_near = num_bits_of[differing].sum(axis=1) <= MAX_BITS
        first, second = first[is_near], second[is_near]
        for start in range(0, len(first), 1 << 16):
            one, other = first[start : start + (1 << 16)], second[start : start + (1 << 16)]
            differences = numpy.abs(grey[one] - grey[other]).mean(axis=1)
            is_copy = differences <= numpy.minimum(allowed[one], allowed[other])
            found.update(zip(one[is_copy].tolist(), other[is_copy].tolist(), strict=True))
    return sorted(found)


def _bands_of(hashes: NDArray[numpy.uint64]) -> NDArray[numpy.uint16]:
    """[N, 4]: the bits of each hash dealt out in turn, so that a plain part of the pictures fills no band by itself."""
    import numpy

    bits = numpy.unpackbits(hashes.astype(">u8").view(numpy.uint8).reshape(-1, 8), axis=1)
    dealt = bits.reshape(-1, _BAND_BITS, 4).transpose(0, 2, 1)
    return numpy.packbits(dealt, axis=2).view(numpy.uint16).reshape(-1, 4)


def _candidates(
    bands: NDArray[numpy.uint16],
) -> Iterator[tuple[NDArray[numpy.int64], NDArray[numpy.int64]]]:
    """Pairs (smaller, larger) of numbers of photos that share a band but for at most one bit; a pair may come again."""
    import numpy

    numbers = numpy.arange(len(bands))
    for band in bands.T:
        order = numpy.argsort(band, kind="stable")
        ordered = band[order]
        for changed in (0, *(1 << bit for bit in range(_BAND_BITS))):
            wanted = band ^ numpy.uint16(changed)
            begins = numpy.searchsorted(ordered, wanted, "left")
            counts = numpy.searchsorted(ordered, wanted, "right") - begins
            ends = numpy.cumsum(counts)
            start = 0
            while start < len(bands):
                before = int(ends[start - 1]) if start else 0
                stop = max(start + 1, int(numpy.searchsorted(ends, before + _PAIRS_AT_ONCE, "right")))
                some = counts[start:stop]
                first = numpy.repeat(numbers[start:stop], some)
                within = numpy.arange(len(first)) - numpy.repeat(ends[start:stop] - some - before, some)
                second = order[numpy.repeat(begins[start:stop], some) + within]
                is_once = first < second
                yield first[is_once], second[is_once]
                start = stop


def join_pairs(pairs: list[tuple[int, int]]) -> list[list[int]]:
    """Groups of numbers that pairs connect, each sorted, in the order of their first number."""
    above: dict[int, int] = {}

    def top(number: int) -> int:
        while (up := above.setdefault(number, number)) != number:
            above[number] = above.get(up, up)
            number = up
        return number

    for one, other in pairs:
        low, high = sorted((top(one), top(other)))
        above[high] = low
    groups: dict[int, list[int]] = {}
    for number in sorted(above):
        groups.setdefault(top(number), []).append(number)
    return list(groups.values())
