from __future__ import annotations

import pytest

from signs_dist.data.inspection.looking import PhotoFacts
from signs_dist.data.inspection.measures import count_formats, measure


def facts(*sizes: tuple[int, int]) -> list[PhotoFacts]:
    return [PhotoFacts(str(number), width=w, height=h, image_format="PNG") for number, (w, h) in enumerate(sizes)]


@pytest.mark.parametrize(
    ("sizes", "line"),
    [
        ([(64, 64)] * 3, "64 x 64 pixels"),
        (
            [(40, 30), (30, 40), (4000, 3000)],
            "30 x 40 to 4,000 x 3,000 pixels, median 40 x 40, width / height 0.75 to 1.33",
        ),
        ([(20, 10), (40, 20)], "20 x 10 to 40 x 20 pixels, median 30 x 15, width / height 2.00"),
    ],
)
def test_sizes_in_words(sizes: list[tuple[int, int]], line: str) -> None:
    found = measure(facts(*sizes))
    assert found is not None
    assert found.line() == line


def test_shorter_sides_and_formats() -> None:
    found = measure(facts(*((100 + number, 10 + number) for number in range(20))))
    assert found is not None
    assert found.shorter_sides == (10, 12, 20)
    assert measure([]) is None
    mixed = [*facts((1, 1), (1, 1)), PhotoFacts("x", image_format="JPEG")]
    assert count_formats(mixed) == {"PNG": 2, "JPEG": 1}
