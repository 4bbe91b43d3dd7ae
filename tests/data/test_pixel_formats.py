"""Pixels of every kind come out with known colours, or are refused by name."""

from __future__ import annotations

import io
import struct

import numpy
import pytest
from PIL import Image, features

from signs_dist.data.images import BadImageError, load_rgb
from signs_dist.data.pixel_formats import describe_undecodable
from tests.data.photo_files import encoded
from tests.data.raw_images import EXTRA_SAMPLES, SUBSAMPLING, packed_12_bits, png, tiff

BLACK, WHITE, RED = [0, 0, 0], [255, 255, 255], [255, 0, 0]
DEEP = numpy.array([0, 0x8000, 0xC000, 0xFFFF])
GREYS = [[0] * 3, [128] * 3, [191] * 3, [255] * 3]
INVERTED = [[255] * 3, [127] * 3, [64] * 3, [0] * 3]
GREY_16 = Image.fromarray(DEEP.astype("u2").reshape(2, 2))
LOW = numpy.array([0, 128, 191, 255], numpy.uint8)
YCBCR = Image.new("RGB", (2, 2), (200, 30, 40)).convert("YCbCr").tobytes()


def colours(data: bytes) -> list[list[int]]:
    """The colours of all pixels, row by row."""
    pixels: list[list[int]] = numpy.asarray(load_rgb(data, name="x", size=None)).reshape(-1, 3).tolist()
    return pixels


def gif_of_two_frames() -> bytes:
    frames = [Image.new("RGB", (2, 2), colour) for colour in ("red", "blue")]
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])


def several(image_format: str, **options: object) -> bytes:
    frames = [Image.new("RGB", (2, 2), colour) for colour in ("red", "blue", "white")]
    return encoded(frames[0], image_format, save_all=True, append_images=frames[1:], **options)


def without_adobe_marker(data: bytes) -> bytes:
    start = data.index(b"\xff\xee")
    (length,) = struct.unpack(">H", data[start + 2 : start + 4])
    return data[:start] + data[start + 2 + length :]


def floats(values: list[float], **options: int) -> bytes:
    """A TIFF of 2 x 2 floating-point values."""
    return tiff(numpy.array(values, "<f4").tobytes(), bits=32, sample_format=3, **options)


def ycck_red() -> bytes:
    """A JPEG as Photoshop writes it: inverted CMYK whose colours are stored as YCbCr, by Adobe's marker (TN 5116)."""
    data = bytearray(encoded(Image.new("CMYK", (8, 8), (76, 84, 254, 0)), "JPEG", quality=100, subsampling=0))
    transform = data.index(b"Adobe") + len("Adobe") + 6
    assert data[transform] == 0
    data[transform] = 2
    return bytes(data)


def half_transparent_palette(image_format: str) -> bytes:
    image = Image.new("RGBA", (2, 2), (255, 0, 0, 255))
    image.paste((0, 0, 255, 0), (0, 0, 1, 2))
    return encoded(image, image_format, **({"lossless": True} if image_format == "WEBP" else {}))


CMYK_RED = encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=100)

KNOWN: dict[str, tuple[bytes, list[list[int]]]] = {
    # TIFF, greys: the zero may be white, and the bits many.
    "16 bits, black is zero": (tiff(DEEP.astype("<u2").tobytes(), bits=16), GREYS),
    "16 bits, big-endian": (tiff(DEEP.astype(">u2").tobytes(), bits=16, order=">"), GREYS),
    "16 bits, white is zero": (tiff(DEEP.astype("<u2").tobytes(), bits=16, photometric=0), INVERTED),
    "16 bits, compressed, white is zero": (
        encoded(GREY_16, "TIFF", compression="tiff_lzw", tiffinfo={262: 0}),
        INVERTED,
    ),
    "floating-point, 1 is white": (floats([0, 0.5, 0.75, 1]), [BLACK, [128] * 3, [191] * 3, WHITE]),
    "floating-point, 1 is black": (floats([0, 0.5, 0.75, 1], photometric=0), [WHITE, [128] * 3, [64] * 3, BLACK]),
    "Portable FloatMap": (b"Pf\n2 1\n-1.0\n" + struct.pack("<ff", 0, 1), [BLACK, WHITE]),
    "12 bits": (tiff(packed_12_bits([0, 0x800, 0xC00, 0xFFF]), bits=12), GREYS),
    "8 bits, white is zero": (tiff(LOW.tobytes(), photometric=0), INVERTED),
    "4 bits, white is zero": (tiff(b"\x0f\xf0", bits=4, photometric=0), [WHITE, BLACK, BLACK, WHITE]),
    "2 bits, white is zero": (tiff(b"\x30\xc0", bits=2, photometric=0), [WHITE, BLACK, BLACK, WHITE]),
    "1 bit, white is zero": (tiff(b"\x40\x80", bits=1, photometric=0), [WHITE, BLACK, BLACK, WHITE]),
    "1 bit, black is zero": (tiff(b"\x40\x80", bits=1), [BLACK, WHITE, WHITE, BLACK]),
    # TIFF, colours and alpha.
    "16 bits of RGB": (
        tiff(numpy.array([65535, 0, 0] * 4, "<u2").tobytes(), bits=16, photometric=2, samples=3),
        [RED] * 4,
    ),
    "16 bits of CMYK": (
        tiff(numpy.array([0, 65535, 65535, 0] * 4, "<u2").tobytes(), bits=16, photometric=5, samples=4),
        [RED] * 4,
    ),
    "8 bits of CMYK": (tiff(bytes([0, 255, 255, 0] * 4), photometric=5, samples=4), [RED] * 4),
    "grey and alpha": (
        tiff(bytes([0, 255, 0, 0, 0, 128, 255, 255]), samples=2, more={EXTRA_SAMPLES: [2]}),
        [BLACK, WHITE, [127] * 3, WHITE],
    ),
    "grey times alpha": (tiff(bytes([0, 128] * 4), samples=2, more={EXTRA_SAMPLES: [1]}), [[127] * 3] * 4),
    "grey and something else": (
        tiff(bytes([0, 7, 255, 7] * 2), samples=2, more={EXTRA_SAMPLES: [0]}),
        [BLACK, WHITE] * 2,
    ),
    "RGB times alpha": (
        tiff(bytes([128, 0, 0, 128] * 4), photometric=2, samples=4, more={EXTRA_SAMPLES: [1]}),
        [[255, 127, 127]] * 4,
    ),
    "RGB and something else": (
        tiff(bytes([255, 0, 0, 7] * 4), photometric=2, samples=4, more={EXTRA_SAMPLES: [0]}),
        [RED] * 4,
    ),
    "YCbCr": (tiff(YCBCR, photometric=6, samples=3, more={SUBSAMPLING: [1, 1]}), [[198, 29, 38]] * 4),
    # PNG: transparent colours in the file's depth.
    "PNG of 16 bits, transparent grey": (
        png(2, 1, 16, 0, b"\0" + struct.pack(">HH", 1000, 30000), (b"tRNS", struct.pack(">H", 1000))),
        [WHITE, [117] * 3],
    ),
    "PNG of 8 bits, transparent grey": (png(2, 1, 8, 0, b"\0\x0a\x64", (b"tRNS", b"\0\x0a")), [WHITE, [100] * 3]),
    "PNG of 4 bits, transparent grey": (png(2, 1, 4, 0, b"\0\x1e", (b"tRNS", b"\0\x01")), [WHITE, [238] * 3]),
    "PNG of 2 bits, transparent grey": (png(2, 1, 2, 0, b"\0\x60", (b"tRNS", b"\0\x01")), [WHITE, [170] * 3]),
    "PNG of 1 bit, transparent black": (png(2, 1, 1, 0, b"\0\x40", (b"tRNS", b"\0\0")), [WHITE, WHITE]),
    "PNG of 3 x 16 bits, transparent colour": (
        png(
            2,
            1,
            16,
            2,
            b"\0" + struct.pack(">6H", 256, 512, 1000, 65535, 0, 0),
            (b"tRNS", struct.pack(">3H", 256, 512, 1000)),
        ),
        [WHITE, RED],
    ),
    "PNG with a palette, half transparent": (
        png(2, 1, 8, 3, b"\0\0\1", (b"PLTE", bytes([255, 0, 0, 0, 0, 255])), (b"tRNS", bytes([0, 128]))),
        [WHITE, [127, 127, 255]],
    ),
    "PNG of 16 bits and alpha": (png(2, 1, 16, 4, b"\0" + struct.pack(">4H", 0, 0, 0, 65535)), [WHITE, BLACK]),
    # PPM scales by its largest value.
    "PGM of 12 bits": (b"P5 2 1 4095\n" + struct.pack(">HH", 4095, 2048), [WHITE, [128] * 3]),
    "PGM of 3 bits": (b"P5 2 1 7\n\x07\x00", [WHITE, BLACK]),
    "PPM of 16 bits": (b"P6 1 1 65535\n" + struct.pack(">HHH", 65535, 32768, 0), [[255, 128, 0]]),
    "PBM": (b"P4 2 1\n\x80", [BLACK, WHITE]),
    # The first of several pictures.
    "GIF of two frames": (gif_of_two_frames(), [RED] * 4),
    "TIFF of three pages": (several("TIFF"), [RED] * 4),
    "WebP of three frames": (several("WEBP", lossless=True), [RED] * 4),
    "PNG of three frames": (several("PNG"), [RED] * 4),
    # BMP: as Windows and Paint write it.
    "BMP of 24 bits": (encoded(Image.new("RGB", (2, 2), "red"), "BMP"), [RED] * 4),
    "BMP with a palette": (encoded(Image.new("RGB", (2, 2), "red").convert("P"), "BMP"), [RED] * 4),
    "BMP of 1 bit": (encoded(Image.new("1", (2, 2), 1), "BMP"), [WHITE] * 4),
    # Transparency on white, and what each format does to colours.
    "WebP, half transparent": (half_transparent_palette("WEBP"), [WHITE, RED] * 2),
    "WebP without loss": (encoded(Image.new("RGB", (2, 2), "red"), "WEBP", lossless=True), [RED] * 4),
    "baseline JPEG": (encoded(Image.new("RGB", (8, 8), "red"), "JPEG", quality=100, subsampling=0), [RED] * 64),
    "progressive JPEG": (
        encoded(Image.new("RGB", (8, 8), "red"), "JPEG", quality=100, subsampling=0, progressive=True),
        [RED] * 64,
    ),
    "grey JPEG": (encoded(Image.new("L", (8, 8), 100), "JPEG", quality=100), [[100] * 3] * 64),
    # CMYK in a JPEG is inverted, with Adobe's marker and without, as browsers and ImageMagick read it.
    "CMYK JPEG": (CMYK_RED, [RED] * 64),
    "CMYK JPEG without a marker": (without_adobe_marker(CMYK_RED), [RED] * 64),
    "CMYK JPEG stored as YCbCr": (ycck_red(), [RED] * 64),
}


@pytest.mark.parametrize("kind", KNOWN)
def test_known_colours(kind: str) -> None:
    data, expected = KNOWN[kind]
    difference = numpy.abs(numpy.array(colours(data)) - numpy.array(expected)).max()
    assert difference <= (2 if "JPEG" in kind else 0), colours(data)


@pytest.mark.skipif(not features.check("avif"), reason="Pillow reads AVIF since 11.3")
@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [("RGB", "red", RED), ("RGBA", (0, 0, 0, 0), WHITE), ("RGBA", (255, 0, 0, 255), RED), ("L", 100, [100] * 3)],
)
def test_known_colours_of_avif(mode: str, colour: object, expected: list[int]) -> None:
    data = encoded(Image.new(mode, (16, 16), colour), "AVIF", quality=100, speed=10)  # type: ignore[arg-type]
    assert numpy.abs(numpy.array(colours(data)) - expected).max() <= 3


@pytest.mark.parametrize("kind", ["16 bits, white is zero", "12 bits", "PNG of 16 bits, transparent grey"])
def test_known_colours_also_at_a_size(kind: str) -> None:
    data, expected = KNOWN[kind]
    small = numpy.asarray(load_rgb(data, name="x", size=8))
    assert abs(int(small[0, 0, 0]) - expected[0][0]) <= 40
    assert abs(int(small[-1, -1, 0]) - expected[-1][0]) <= 40


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (tiff(DEEP.astype("<u4").tobytes(), bits=32), "32-bit pixels"),
        (tiff((DEEP // 256).astype("<u4").tobytes(), bits=32), "32-bit pixels"),  # small values are no reason to guess
        (tiff(LOW.view(numpy.int8).tobytes(), sample_format=2), "pixels with a sign"),
        (tiff((DEEP // 2).astype("<i2").tobytes(), bits=16, sample_format=2), "pixels with a sign"),
        (tiff((DEEP // 2).astype(">i2").tobytes(), bits=16, sample_format=2, order=">"), "pixels with a sign"),
        (tiff(DEEP.astype("<i4").tobytes(), bits=32, sample_format=2), "pixels with a sign"),
        (floats([0, 0.5, 1, 1.5]), "floating-point pixels from 0 to 1.5, where 0 is black and 1 is white"),
        (floats([-0.1, 0.5, 1, 1]), "floating-point pixels from -0.1 to 1, where"),
        (floats([0, 0.5, 1, numpy.nan]), "floating-point pixels from nan to nan, where"),
        (tiff(DEEP.astype("<f8").tobytes(), bits=64, sample_format=3), "a TIFF that is broken or of a kind"),
        (floats([0, 128, 255, 12]), "floating-point pixels from 0 to 255, where"),
        (tiff((DEEP / 65535).astype("<f2").tobytes(), bits=16, sample_format=3), "a TIFF that is broken or of a kind"),
        (tiff(DEEP.astype(">u2").tobytes(), bits=16, photometric=0, order=">"), "a TIFF that is broken or of a kind"),
        (tiff(bytes(16), bits=16, samples=2, more={EXTRA_SAMPLES: [2]}), "a TIFF that is broken or of a kind"),
        (tiff(bytes(6 * 16), side=8, photometric=6, samples=3, more={SUBSAMPLING: [2, 2]}), "subsampled colours"),
        (b"Pf\n2 1\n-1.0\n" + struct.pack("<ff", 0, 7), "floating-point pixels from 0 to 7"),
        (b"P7\nWIDTH 1\nHEIGHT 1\nDEPTH 4\nMAXVAL 255\nENDHDR\n" + bytes(4), "a PPM that is broken"),
    ],
)
def test_pixels_whose_colours_cannot_be_told_are_refused_by_name(data: bytes, reason: str) -> None:
    with pytest.raises(BadImageError, match=reason) as caught:
        load_rgb(data, name="x", size=None)
    assert "save it" in caught.value.reason


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        *((b"\xff\xd8\xff\xe0", "a JPEG"), (b"\x89PNG\r\n\x1a\n", "a PNG"), (b"II*\0", "a TIFF"), (b"GIF89a", "a GIF")),
        *((b"RIFF\0\0\0\0WEBPVP8 ", "a WebP"), (b"RIFF\0\0\0\0WAVEfmt ", "not an image"), (b"hello", "not an image")),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avif", "an AVIF that is broken"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "a HEIC that is broken or of a kind that cannot be decoded"),
        *((b"<SVG xmlns=", "an SVG drawing"), (b"<html>", "a web page"), (b"version 1", "not an image")),
        (b"", "not an image"),
    ],
)
def test_what_cannot_be_decoded_is_named(start: bytes, kind: str) -> None:
    assert describe_undecodable(start).startswith(kind)


def test_the_orientation_and_the_white_zero_are_both_heeded() -> None:
    grey = Image.fromarray(numpy.array([[0, 65535], [0, 65535]], numpy.uint16))
    data = encoded(grey, "TIFF", compression="tiff_lzw", tiffinfo={262: 0, 274: 3})
    assert colours(data) == [BLACK, WHITE, BLACK, WHITE]


def test_transparency_of_a_gif_becomes_white() -> None:
    image = Image.new("P", (2, 1), 0)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    stream = io.BytesIO()
    image.save(stream, "GIF", transparency=1)
    assert colours(stream.getvalue()) == [RED, WHITE]
