from __future__ import annotations

import numpy as np
import pytest

from signs_dist.data.rectangles import NUM_DRAWS, draw_rectangles, largest_size


def row(*draws: float) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """The draws of one image: those that are given, then the middle."""
    return np.array([[*draws, *[0.5] * (NUM_DRAWS - len(draws))]], np.float32)


def test_the_size_comes_from_the_area_and_the_logarithm_of_the_ratio() -> None:
    centres, half_sides = draw_rectangles(row(0.5, 1.0), (0.1, 0.3), (0.5, 2.0), aspect=1.0)
    height, width = half_sides[0]
    assert height * width == pytest.approx(0.2)
    assert width / height == pytest.approx(2.0)
    assert centres[0].tolist() == pytest.approx([0, 0])
    _, square = draw_rectangles(row(0.5, 0.5), (0.1, 0.3), (0.5, 2.0), aspect=1.0)
    assert square[0, 0] == pytest.approx(square[0, 1])


def test_the_ratio_is_one_of_pixels() -> None:
    _, half_sides = draw_rectangles(row(0.5, 0.5), (0.2, 0.2), (1.0, 1.0), aspect=0.5)  # twice as wide as high
    assert half_sides[0, 0] / half_sides[0, 1] == pytest.approx(2)


def test_a_rectangle_lies_in_its_image() -> None:
    draws = np.random.default_rng(0).random((500, NUM_DRAWS), np.float32)
    centres, half_sides = draw_rectangles(draws, (0.08, 1.0), (0.75, 1.33), aspect=1.0)
    assert (np.abs(centres) + half_sides <= 1 + 1e-9).all()
    assert (half_sides > 0).all()


def test_a_size_that_does_not_fit_is_drawn_again() -> None:
    _, half_sides = draw_rectangles(row(1.0, 1.0, 0.0, 1.0), (0.25, 1.0), (0.25, 4.0), aspect=1.0)
    assert half_sides[0].tolist() == pytest.approx([0.25, 1.0])


def test_nothing_is_found_where_nothing_fits() -> None:
    _, half_sides = draw_rectangles(row(), (1.0, 1.0), (2.0, 2.0), aspect=1.0)
    assert half_sides.tolist() == [[0, 0]]


@pytest.mark.parametrize(
    ("ratio", "aspect", "size"),
    [
        ((0.75, 1.33), 1.0, (1.0, 1.0)),
        ((2.0, 3.0), 1.0, (0.5, 1.0)),
        ((0.25, 0.5), 1.0, (1.0, 0.5)),
        ((1.0, 1.0), 0.5, (1.0, 0.5)),
    ],
)
def test_the_largest_rectangle_of_a_ratio(ratio: tuple[float, float], aspect: float, size: tuple[float, float]) -> None:
    assert largest_size(ratio, aspect) == pytest.approx(size)
