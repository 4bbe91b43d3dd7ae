from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from signs_dist.data.jpeg_rows import with_first_rows
from tests.data.photo_files import encoded, jpeg, photo


def decoded(data: bytes, reduction: int = 1) -> np.ndarray:
    image = Image.open(io.BytesIO(data))
    image.draft(None, (image.width // reduction, image.height // reduction))  # type: ignore[no-untyped-call]
    return np.asarray(image)


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("reduction", [1, 2, 4, 8])
def test_all_but_the_last_two_rows_are_the_same_bits(subsampling: str, reduction: int) -> None:
    noisy = Image.fromarray(np.random.default_rng(0).integers(0, 256, (100, 67, 3), dtype=np.uint8))
    data = encoded(noisy, "JPEG", quality=90, subsampling=subsampling)
    whole = decoded(data, reduction)
    for num_rows in range(8 * reduction, 100, 3):
        first = with_first_rows(data, num_rows)
        assert first is not None
        part = decoded(first, reduction)
        assert len(part) == -(-num_rows // reduction)
        kept = max(0, num_rows // reduction - 2)
        assert np.array_equal(part[:kept], whole[:kept]), num_rows


@pytest.mark.parametrize(
    "data",
    [
        encoded(photo(1), "JPEG", progressive=True),
        b"",
        b"\xff\xd8",
        b"\xff\xd8\xff",
        b"\xff\xd8\xff\xda\0\2",
        b"GIF89a",
    ],
)
def test_what_has_no_rows_to_cut_is_left_alone(data: bytes) -> None:
    assert with_first_rows(data, 8) is None


def test_fill_bytes_before_a_marker_are_passed_over() -> None:
    data = jpeg(1)
    filled = data[:2] + b"\xff\xff" + data[2:]
    first = with_first_rows(filled, 16)
    assert first is not None
    assert decoded(first).shape == (16, 40, 3)
