"""The norm in a fixed order: right, and the same bits wherever the blocks were added."""

from __future__ import annotations

import math

import pytest
import torch

from signs_dist.distributed.ordered_norm import BLOCK, clip_factor, norm_of_blocks, sum_squares_of_blocks


@pytest.mark.parametrize("num_blocks", [1, 2, 3, 7, 64])
def test_the_norm_is_right(num_blocks: int) -> None:
    vector = torch.randn(num_blocks * BLOCK, generator=torch.Generator().manual_seed(num_blocks))
    norm = norm_of_blocks(sum_squares_of_blocks(vector))
    assert norm.dtype == torch.float64
    assert norm.item() == pytest.approx(vector.double().norm().item(), rel=1e-12)


def test_blocks_have_the_same_bits_alone_and_together() -> None:
    vector = torch.randn(12 * BLOCK) * 10.0 ** torch.randint(-9, 9, (12 * BLOCK,))
    parts = [sum_squares_of_blocks(part) for part in vector.split([5 * BLOCK, 1 * BLOCK, 6 * BLOCK])]
    assert torch.equal(torch.cat(parts), sum_squares_of_blocks(vector))


def test_numbers_are_added_by_halves() -> None:
    numbers = (torch.randn(BLOCK) * 10.0 ** torch.randint(-9, 9, (BLOCK,))).tolist()
    squares = [number * number for number in torch.tensor(numbers).double().tolist()]
    while len(squares) > 1:
        half = len(squares) // 2
        squares = [first + second for first, second in zip(squares[:half], squares[half:], strict=True)]
    assert sum_squares_of_blocks(torch.tensor(numbers)).tolist() == squares


def test_large_gradients_do_not_overflow_and_what_is_not_finite_stays_so() -> None:
    vector = torch.full((BLOCK,), 1e30)
    assert norm_of_blocks(sum_squares_of_blocks(vector)).item() == pytest.approx(1.6e31)
    assert math.isnan(norm_of_blocks(sum_squares_of_blocks(torch.full((BLOCK,), math.nan))).item())
    assert math.isinf(norm_of_blocks(sum_squares_of_blocks(torch.full((BLOCK,), math.inf))).item())


@pytest.mark.parametrize(
    ("norm", "max_norm", "factor"),
    [(4.0, 2.0, 0.5), (1.0, 2.0, 1.0), (0.0, 2.0, 1.0), (math.inf, 2.0, 0.0), (math.nan, 2.0, 1.0)],
)
def test_only_gradients_above_the_limit_are_scaled(norm: float, max_norm: float, factor: float) -> None:
    assert clip_factor(torch.tensor(norm, dtype=torch.float64), max_norm).item() == pytest.approx(factor, rel=1e-6)
    assert clip_factor(torch.tensor(norm, dtype=torch.float64), max_norm).dtype == torch.float32
