from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from signs_dist.data.hands.drawing import draw_hand


def pixels(num_fingers: int, seed: int, size: int = 64) -> npt.NDArray[np.float64]:
    picture = draw_hand(num_fingers, size, np.random.default_rng([seed, num_fingers]))
    return np.asarray(picture, dtype=np.float64) / 255


def skin_share(picture: npt.NDArray[np.float64]) -> float:
    return float((picture[..., 0] - picture[..., 2] > 0.16).mean())


@pytest.mark.parametrize("size", [16, 32, 224])
def test_sizes(size: int) -> None:
    picture = draw_hand(5, size, np.random.default_rng(3))
    assert (picture.size, picture.mode) == ((size, size), "RGB")


def test_the_size_does_not_change_what_is_seen() -> None:
    small, large = (draw_hand(2, size, np.random.default_rng(4)) for size in (32, 128))
    difference = np.abs(np.asarray(large.resize((32, 32), Image.Resampling.BOX), float) - np.asarray(small, float))
    assert difference.mean() < 5  # of 255; two other hands differ by more than 15


@pytest.mark.parametrize("num_fingers", range(6))
def test_a_bright_wall_and_a_hand_of_reasonable_size(num_fingers: int) -> None:
    pictures = [pixels(num_fingers, seed) for seed in range(8)]
    walls = [float(np.percentile(picture.mean(axis=2), 90)) for picture in pictures]
    shares = [skin_share(picture) for picture in pictures]
    assert min(walls) > 0.7
    assert 0.08 < float(np.median(shares)) < 0.5
    assert min(shares) > 0.02
    assert max(shares) < 0.75


def test_the_picture_depends_on_the_number_of_fingers() -> None:
    pictures = [
        np.asarray(draw_hand(num_fingers, 32, np.random.default_rng(11)), dtype=float) for num_fingers in range(6)
    ]
    differences = [np.abs(pictures[i] - pictures[j]).mean() for i in range(6) for j in range(i)]
    assert min(differences) > 2


def test_the_same_random_state_gives_the_same_picture() -> None:
    first, second, other = (draw_hand(4, 32, np.random.default_rng(seed)).tobytes() for seed in (5, 5, 6))
    assert first == second != other
