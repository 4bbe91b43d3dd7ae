"""Near copies are found, and photos that only look alike are not."""

from __future__ import annotations

import io
from pathlib import Path

import numpy
import pytest
from PIL import Image

from signs_dist.data.inspection.near_copies import (
    MAX_BITS,
    difference_hash,
    join_pairs,
    near_pairs,
    thumb,
)
from tests.data.photo_files import photo


def pairs_of(images: list[Image.Image]) -> list[tuple[int, int]]:
    hashes = numpy.array([difference_hash(image) for image in images], numpy.uint64)
    return near_pairs(hashes, numpy.stack([numpy.frombuffer(thumb(image), numpy.uint8) for image in images]))


def again(image: Image.Image, image_format: str, **options: object) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, image_format, **options)
    return Image.open(io.BytesIO(stream.getvalue())).convert("RGB")


def test_the_hash_tells_left_from_right() -> None:
    rising = Image.fromarray(numpy.tile(numpy.arange(0, 252, 4, dtype=numpy.uint8), (64, 1)))
    assert difference_hash(rising) == 2**64 - 1
    assert difference_hash(rising.transpose(Image.Transpose.FLIP_LEFT_RIGHT)) == 0


@pytest.mark.parametrize(
    "changed",
    [
        lambda image: again(image, "JPEG", quality=60),
        lambda image: again(image, "WEBP", quality=70),
        lambda image: image.resize((32, 32), Image.Resampling.BICUBIC),
        lambda image: image.resize((200, 100), Image.Resampling.BICUBIC),
        lambda image: image.convert("L").convert("RGB"),
    ],
)
def test_one_photo_in_another_quality_or_size(changed: object) -> None:
    images = [photo(seed, 64) for seed in range(12)]
    assert pairs_of([*images, changed(images[5])]) == [(5, 12)]  # type: ignore[operator]


def test_pictures_with_little_contrast_are_no_copies_of_each_other() -> None:
    def pale(seed: int) -> Image.Image:
        return photo(seed, 64).point(lambda value: 200 + value // 128)

    assert pairs_of([Image.new("RGB", (64, 64), "white"), *(pale(seed) for seed in range(8))]) == []
    assert pairs_of([pale(1), pale(1)]) == [(0, 1)]


@pytest.mark.parametrize("num_bits", range(MAX_BITS + 2))
def test_every_distance_up_to_the_limit_is_found(num_bits: int) -> None:
    generator = numpy.random.default_rng(num_bits)
    hashes = generator.integers(0, 2**64, 400, dtype=numpy.uint64)
    thumbs = generator.integers(0, 256, (400, 256), dtype=numpy.uint8)
    for copy in range(200, 400):
        bits = generator.choice(64, num_bits, replace=False)
        hashes[copy] = hashes[copy - 200] ^ numpy.uint64(sum(1 << int(bit) for bit in bits))
        thumbs[copy] = thumbs[copy - 200]
    expected = [(number, number + 200) for number in range(200)] if num_bits <= MAX_BITS else []
    assert near_pairs(hashes, thumbs) == expected


def test_no_two_hands_of_signs_are_near_copies_unless_they_are_copies(real_photos: Path) -> None:
    images = []
    for path in sorted(real_photos.rglob("*.jpg")):
        with Image.open(path) as image:
            images.append(image.convert("RGB"))
    pixels = [image.tobytes() for image in images]
    assert len(images) == 1080
    pairs = pairs_of(images)
    assert len(pairs) == 43
    assert all(pixels[one] == pixels[other] for one, other in pairs)
    some = images[::40]
    for changed in (
        [again(image, "JPEG", quality=50) for image in some],
        [again(image, "WEBP", quality=70) for image in some],
        [again(image, "GIF") for image in some],
        [image.resize((32, 32), Image.Resampling.BICUBIC) for image in some],
        [image.resize((128, 128), Image.Resampling.BICUBIC) for image in some],
    ):
        pairs = pairs_of([*some, *changed])
        assert pairs == [(number, number + len(some)) for number in range(len(some))]


def test_pairs_become_groups() -> None:
    assert join_pairs([(0, 3), (2, 4), (3, 5), (0, 5)]) == [[0, 3, 5], [2, 4]]
    assert join_pairs([]) == []
