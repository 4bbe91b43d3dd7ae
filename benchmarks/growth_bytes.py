"""How many bytes each rank sends in a step, on paper, from the code that sends them. Pure functions.

What is summed in a step, besides the gradient: the flags, and where a step has several micro-batches, the moves of
BatchNorm's statistics: `num_extras` numbers in one sum (fast mode) or in a bucket of their own (exact mode).

- Fast mode: a ring sum, 2(W-1)/W of the gradient. As bfloat16 half of it. PowerSGD sends two thin matrices for each
  weight that they make smaller by half or more, and the other gradients whole.
- Exact mode: each rank adds what it can of the fixed tree by itself, and is left with some pieces, each as large as the
  gradient. It sends a chunk of each piece to each other rank, (W-1)/W of it, and gathers the sums: (W-1)/W of one
  gradient. With one piece, where each rank holds one whole subtree, that is 2(W-1)/W, as in a ring.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

BYTES_OF_FLOAT = 4
SMALLEST_SAVING = 2
"""PowerSGD sends a weight whole unless its matrices hold fewer than its values divided by this (torch's default)."""


def pieces(num_micro_batches: int, num_ranks: int) -> list[int]:
    """How many pieces each rank is left with in exact mode, when it has added all neighbours that it has."""
    from signs_dist.data.plan import MicroBatches, Shard
    from signs_dist.distributed.gradient_tree import local_nodes

    cut = MicroBatches(1, num_micro_batches)
    return [len(local_nodes(cut.of(Shard(rank, num_ranks)), num_micro_batches)) for rank in range(num_ranks)]


def mean_factor(way: str, num_micro_batches: int, num_ranks: int) -> float:
    """What a rank sends of what is summed, as a multiple of its size: the mean over ranks."""
    others = (num_ranks - 1) / num_ranks
    if way == "exact":
        return others * (1 + sum(pieces(num_micro_batches, num_ranks)) / num_ranks)
    return 2 * others


def gradient_bytes(way: str, shapes: Sequence[Sequence[int]], rank: int = 1) -> int:
    """The size of the gradient as it is sent."""
    values = sum(math.prod(shape) for shape in shapes)
    if way == "bfloat16":
        return 2 * values
    if way == "powersgd":
        values = sum(_thin_values(shape, rank) for shape in shapes)
    return BYTES_OF_FLOAT * values


def _thin_values(shape: Sequence[int], rank: int) -> int:
    """How many values PowerSGD sends of a gradient: those of its two matrices, or all."""
    values = math.prod(shape)
    if len(shape) < 2:
        return values
    rows, columns = shape[0], values // shape[0]
    thin = (rows + columns) * min(rank, rows, columns)
    return thin if (rows + columns) * rank * SMALLEST_SAVING < values else values


def sent_bytes(
    way: str, shapes: Sequence[Sequence[int]], num_extras: int, num_micro_batches: int, num_ranks: int
) -> float:
    """What a rank sends in a step: the mean over ranks.

    Args:
        way: `fast`, `accumulate`, `exact`, `bfloat16` or `powersgd` of rank 1.
        shapes: of the parameters that train.
        num_extras: numbers that are summed beside the gradient.
        num_micro_batches: of a step.
        num_ranks: W.
    """
    summed = gradient_bytes(way, shapes) + BYTES_OF_FLOAT * num_extras
    return mean_factor(way, num_micro_batches, num_ranks) * summed
