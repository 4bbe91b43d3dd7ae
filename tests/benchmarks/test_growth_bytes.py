"""Bytes on paper: what a rank sends in each way."""

from __future__ import annotations

import pytest

from benchmarks.growth_bytes import gradient_bytes, mean_factor, pieces, sent_bytes

SHAPES = [[128, 64, 3, 3], [128], [1024, 1024], [6, 128]]


@pytest.mark.parametrize(
    ("num_micro_batches", "num_ranks", "expected"),
    [
        (8, 1, [1]),
        (8, 2, [1, 1]),
        (8, 8, [1] * 8),
        (8, 3, [2, 2, 1]),  # 0-1 and 2; 3 and 4-5; 6-7
        (6, 4, [1, 1, 1, 1]),  # 0-1, 2-3, 4, 5
        (5, 2, [2, 2]),  # 0-1 and 2; 3 and 4, whose neighbours the other rank has
    ],
)
def test_pieces_of_the_tree(num_micro_batches: int, num_ranks: int, expected: list[int]) -> None:
    assert pieces(num_micro_batches, num_ranks) == expected


@pytest.mark.parametrize(
    ("way", "num_ranks", "factor"),
    [
        ("fast", 4, 1.5),
        ("exact", 4, 1.5),  # one subtree each: as much as a ring
        ("exact", 3, 2 / 3 * (1 + 5 / 3)),
        ("exact", 1, 0.0),
    ],
)
def test_what_a_rank_sends_of_the_gradient(way: str, num_ranks: int, factor: float) -> None:
    assert mean_factor(way, 8, num_ranks) == pytest.approx(factor)


@pytest.mark.parametrize(
    ("way", "num_bytes"),
    [
        ("fast", 4 * (73728 + 128 + 1048576 + 768)),
        ("bfloat16", 2 * (73728 + 128 + 1048576 + 768)),
        ("powersgd", 4 * ((128 + 576) + 128 + 2048 + (6 + 128))),
    ],
)
def test_the_size_of_what_is_sent(way: str, num_bytes: int) -> None:
    assert gradient_bytes(way, SHAPES) == num_bytes


def test_powersgd_sends_a_weight_whole_that_it_cannot_halve() -> None:
    assert gradient_bytes("powersgd", [[6, 128]], rank=3) == 4 * 768
    assert gradient_bytes("powersgd", [[6, 128]], rank=2) == 4 * 2 * 134


def test_flags_and_statistics_are_sent_too() -> None:
    assert sent_bytes("bfloat16", [[1000]], 50, 8, 2) == 2000 + 200
