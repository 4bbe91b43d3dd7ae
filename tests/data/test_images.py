from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy
import pytest
from PIL import Image

from signs_dist.data import images
from signs_dist.data.images import BadImageError, is_image_name, load_rgb
from tests.data.photo_files import encoded, jpeg, photo
from tests.data.raw_images import png


def pixels(image: Image.Image) -> numpy.ndarray:
    return numpy.asarray(image).astype(int)


def mean_difference(left: Image.Image, right: Image.Image) -> float:
    return float(abs(pixels(left) - pixels(right)).mean())


@pytest.mark.parametrize("image_format", ["PNG", "BMP", "TIFF", "PPM", "WEBP", "JPEG", "GIF", "MPO"])
def test_formats_come_out_as_the_picture_that_went_in(image_format: str) -> None:
    options = {"lossless": True} if image_format == "WEBP" else {}
    loaded = load_rgb(encoded(photo(1), image_format, **options), name="x", size=None)
    assert loaded.mode == "RGB"
    assert mean_difference(loaded, photo(1)) < (8 if image_format in ("JPEG", "GIF", "MPO") else 0.001)


@pytest.mark.parametrize(
    ("mode", "image_format", "tolerance"),
    [
        *(("L", "PNG", 0), ("1", "PNG", 0), ("P", "PNG", 0), ("LA", "PNG", 0), ("RGBA", "PNG", 0), ("L", "JPEG", 3)),
        *(("CMYK", "JPEG", 6), ("CMYK", "TIFF", 0), ("YCbCr", "JPEG", 6), ("LAB", "TIFF", 60)),
    ],
)
def test_modes_are_converted(mode: str, image_format: str, tolerance: float) -> None:
    source = photo(2)
    if mode == "LAB":
        pytest.importorskip("PIL.ImageCms")
        from PIL import ImageCms

        profile = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(source, profile, ImageCms.createProfile("LAB"), outputMode="LAB")
        assert converted is not None
    else:
        converted = source.convert(mode)
    loaded = load_rgb(encoded(converted, image_format), name="x", size=None)
    expected = source if mode == "LAB" else converted.convert("RGB")
    assert loaded.mode == "RGB"
    assert mean_difference(loaded, expected) <= tolerance


@pytest.mark.parametrize("image_format", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled_not_clipped(image_format: str) -> None:
    ramp = numpy.linspace(0, 65535, 256 * 4).reshape(4, 256).astype(numpy.uint16)
    loaded = pixels(load_rgb(encoded(Image.fromarray(ramp), image_format), name="x", size=None))
    assert abs(loaded[..., 0] - ramp / 257.0).max() <= 0.51
    assert (loaded[..., 0] == loaded[..., 2]).all()


def test_sixteen_bit_big_endian_tiff_and_ppm() -> None:
    grey = numpy.full((3, 3), 30000, numpy.uint16)
    ppm = b"P5 3 3 65535\n" + grey.astype(">u2").tobytes()
    assert pixels(load_rgb(ppm, name="x", size=None))[0, 0].tolist() == [117, 117, 117]


def test_sixteen_bit_colour_png_is_scaled() -> None:
    values = numpy.zeros((2, 2, 3), ">u2")
    values[..., 1] = 0x8000
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    loaded = load_rgb(png(2, 2, 16, 2, rows), name="x", size=None)
    assert pixels(loaded)[0, 0].tolist() == [0, 128, 0]


@pytest.mark.parametrize("mode", ["F", "I"])
def test_pixels_of_32_bits_whose_white_is_not_known_are_refused(mode: str) -> None:
    values = numpy.full((4, 4), 1e6, numpy.float32 if mode == "F" else numpy.int32)
    with pytest.raises(BadImageError, match="save it with 8 or 16 bits"):
        load_rgb(encoded(Image.fromarray(values), "TIFF"), name="x", size=None)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_becomes_white_and_half_transparent_a_mix(mode: str) -> None:
    image = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (0, 0, 0, 255))
    loaded = pixels(load_rgb(encoded(image.convert(mode), "PNG"), name="x", size=None))
    assert loaded[0].tolist() == [[255, 255, 255], [0, 0, 0]]
    half = encoded(Image.new("RGBA", (1, 1), (0, 0, 0, 128)), "PNG")
    assert pixels(load_rgb(half, name="x", size=None))[0, 0].tolist() == [127, 127, 127]


def test_transparent_colour_of_rgb_png_becomes_white() -> None:
    data = encoded(Image.new("RGB", (2, 2), (9, 8, 7)), "PNG", transparency=(9, 8, 7))
    assert pixels(load_rgb(data, name="x", size=None))[0, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_every_exif_orientation_comes_out_upright(orientation: int, image_format: str) -> None:
    upright = Image.new("RGB", (48, 32), "white")
    upright.paste((255, 0, 0), (0, 0, 16, 16))
    # What a camera stores is the inverse of what a viewer does (EXIF 2.32, tag 274).
    stored_by = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(stored_by[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(stored, image_format, exif=exif)
    loaded = load_rgb(data, name="x", size=None)
    assert loaded.size == (48, 32)
    assert mean_difference(loaded, upright) < 6
    small = pixels(load_rgb(data, name="x", size=8))
    assert small[0, 0, 1] < 60
    assert small[7, 7, 1] > 200


def test_size_gives_squares() -> None:
    assert load_rgb(encoded(Image.new("RGB", (90, 30), "red"), "PNG"), name="x", size=16).size == (16, 16)
    assert load_rgb(jpeg(1, 40), name="x", size=64).size == (64, 64)


def test_image_of_the_right_size_is_not_touched() -> None:
    data = jpeg(3, 64)
    assert load_rgb(data, name="x", size=64).tobytes() == Image.open(io.BytesIO(data)).tobytes()


@pytest.mark.slow
def test_reduced_size_decoding_of_a_large_photo_is_close_to_full_decoding() -> None:
    data = jpeg(4, 3024)
    full = Image.open(io.BytesIO(data)).resize((64, 64), Image.Resampling.BICUBIC)
    assert mean_difference(load_rgb(data, name="x", size=64), full) < 0.3


def broken_files() -> dict[str, tuple[bytes, str]]:
    whole = jpeg(5, 200)
    return {
        "empty": (b"", "0 bytes"),
        "text": (b"hello, this is no image" * 10, "not an image of a known format"),
        "cut jpeg": (whole[: len(whole) // 2], "truncated"),
        "cut png": (encoded(photo(5, 200), "PNG")[:2000], "truncated"),
        "jpeg header only": (whole[:20], "."),
        "heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100), "a HEIC "),
        "git lfs": (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n",
            "a pointer of Git LFS, .* git lfs pull",
        ),
        "web page": (b"\n<!DOCTYPE html><html>not found</html>", "a web page, as a download that failed leaves it"),
        "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", "not an image"),
        "bomb": (png(20000, 20000, 8, 2, b""), "pixels"),
        "large": (png(16000, 16000, 8, 2, b""), "16000 x 16000 pixels, more than 250 megapixels; .*max_megapixels=256"),
    }


@pytest.mark.parametrize("kind", broken_files())
@pytest.mark.parametrize("size", [None, 64])
def test_broken_files_are_named_with_the_reason(kind: str, size: int | None, tmp_path: Path) -> None:
    data, reason = broken_files()[kind]
    file = tmp_path / "3_IMG_1.jpg"
    file.write_bytes(data)
    for source in (file, data):
        with pytest.raises(BadImageError, match=reason) as caught:
            load_rgb(source, name="train_signs/3_IMG_1.jpg", size=size)
        assert caught.value.path == "train_signs/3_IMG_1.jpg"
        assert "train_signs/3_IMG_1.jpg" in str(caught.value)


def test_missing_folder_pipe_and_unreadable_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "link.jpg").symlink_to("nowhere.jpg")
    reasons = {
        "none.jpg": "no such file",
        ".": "not a regular file",
        "pipe.jpg": "not a regular file",
        "link.jpg": "a link that leads nowhere",
    }
    for name, reason in reasons.items():
        with pytest.raises(BadImageError, match=reason):
            load_rgb(tmp_path / name, name=name, size=None)
    (tmp_path / "a.jpg").write_bytes(jpeg(1))

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(BadImageError, match="permission denied"):
        load_rgb(tmp_path / "a.jpg", name="a.jpg", size=None)


def test_too_many_open_files_is_not_blamed_on_the_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg(1))

    def refuse(*_: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(OSError, match="Too many open files"):
        load_rgb(tmp_path / "a.jpg", name="a.jpg", size=None)


def test_damaged_bytes_give_an_image_or_a_bad_image_error_and_nothing_else() -> None:
    generator = numpy.random.default_rng(0)
    wholes = [encoded(photo(6, 48), kind) for kind in ("JPEG", "PNG", "TIFF", "WEBP", "GIF", "BMP", "PPM")]
    exif = Image.Exif()
    exif[0x0112] = 6
    wholes.append(encoded(photo(6, 48), "JPEG", exif=exif))
    num_refused = 0
    for number in range(600):
        data = bytearray(wholes[number % len(wholes)])
        for _ in range(int(generator.integers(1, 12))):
            data[int(generator.integers(0, min(len(data), 400)))] = int(generator.integers(0, 256))
        if number % 3 == 0:
            del data[int(generator.integers(1, len(data))) :]
        try:
            assert load_rgb(bytes(data), name="x", size=16).size == (16, 16)
        except BadImageError:
            num_refused += 1
    assert 100 < num_refused < 600


def test_error_crosses_processes() -> None:
    copy = pickle.loads(pickle.dumps(BadImageError("a.jpg", "truncated")))  # noqa: S301
    assert (copy.path, copy.reason, str(copy)) == ("a.jpg", "truncated", str(BadImageError("a.jpg", "truncated")))


def test_overlapping_threads_leave_warning_filters_as_they_were() -> None:
    data = jpeg(7, 300)
    before = list(warnings.filters)
    threads = [
        threading.Thread(target=lambda: [load_rgb(data, name="x", size=32) for _ in range(20)]) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before
    assert images._warnings_users == 0


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *(("a.jpg", True), ("a.JPEG", True), ("a b (1).png", True), ("a.heic", True)),
        *((".a.jpg", False), (".jpg", False), ("a.txt", False), ("jpg", False), ("Thumbs.db", False)),
    ],
)
def test_image_names(name: str, expected: bool) -> None:
    assert is_image_name(name) is expected


def jpeg_header(width: int, height: int) -> bytes:
    """A JPEG that says how large it is, and has no pixels."""
    data = bytearray(encoded(Image.new("RGB", (8, 8)), "JPEG"))
    place = data.index(b"\xff\xc0")
    data[place + 5 : place + 9] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return bytes(data)


@pytest.mark.parametrize(
    ("width", "height", "limit", "is_refused"),
    [
        (12000, 9000, images.MAX_MEGAPIXELS, False),  # 108 megapixels
        (16320, 12240, images.MAX_MEGAPIXELS, False),  # 200 megapixels
        (16000, 16000, images.MAX_MEGAPIXELS, True),
        (16000, 16000, 256, False),
        (30000, 30000, 256, True),
        (30000, 30000, 1000, False),
        (40, 40, 0.001, True),
    ],
)
def test_the_limit_on_pixels(width: int, height: int, limit: float, is_refused: bool) -> None:
    # Within the limit it is decoded, and the pixels that it does not have are found missing.
    with pytest.raises(BadImageError, match="megapixels" if is_refused else "its data stops before the last pixels"):
        load_rgb(jpeg_header(width, height), name="x", size=8, max_megapixels=limit)


def test_a_large_photo_is_refused_with_what_to_type() -> None:
    with pytest.raises(BadImageError, match=r"to allow it: --max-megapixels 108, .* data.max_megapixels=108") as caught:
        load_rgb(jpeg_header(12000, 9000), name="x", size=8, max_megapixels=100)
    assert "12000 x 9000 pixels, more than 100 megapixels" in caught.value.reason


@pytest.mark.slow
def test_a_photo_of_108_megapixels_is_read_in_little_memory() -> None:
    script = (
        "import io, resource; from PIL import Image; from signs_dist.data.images import load_rgb\n"
        "stream = io.BytesIO(); Image.new('L', (12000, 9000), 77).save(stream, 'JPEG')\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "image = load_rgb(stream.getvalue(), name='x', size=64)\n"
        "print(image.getpixel((9, 9)), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    colour, _, grown = done.stdout.strip().rpartition(" ")
    assert colour == "(77, 77, 77)"
    assert int(grown) < 50_000  # KiB; all pixels as RGB would be 432,000


def test_pillows_own_limit_is_as_before() -> None:
    before = Image.MAX_IMAGE_PIXELS
    load_rgb(jpeg(1), name="x", size=8)
    with pytest.raises(BadImageError):
        load_rgb(b"x", name="x", size=8)
    assert before == Image.MAX_IMAGE_PIXELS is not None


def test_an_error_names_the_file_on_one_line() -> None:
    with pytest.raises(BadImageError) as caught:
        load_rgb(b"", name="a\n\x1b[2J.jpg", size=8)
    assert "cannot read the image a\\n\\x1b[2J.jpg: " in str(caught.value)
    assert caught.value.path == "a\n\x1b[2J.jpg"
