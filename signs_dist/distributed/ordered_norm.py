"""The norm of a gradient, summed in one fixed order, so that it has the same bits on any number of processes.

torch's reductions choose their order by the shape of a tensor and by the kind of device. Here only whole tensors are
multiplied and added, element by element, which has one result. Squares are added in blocks: a process that holds a part
of the gradient adds the blocks of its part, and the sums of all blocks together give the norm.
"""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 256
"""Elements of a block. Where a gradient is cut, it is cut between blocks."""


def sum_squares_of_blocks(vector: Tensor) -> Tensor:
    """The sum of squares of each block, float64 [N].

    Args:
        vector: floating [N · BLOCK]. A gradient that does not fill its last block is followed by zeros.
    """
    return _sum_rows(vector.view(-1, BLOCK).double().square())


def norm_of_blocks(sums: Tensor) -> Tensor:
    """The 2-norm, float64 [], from the sums of squares of all blocks, float64 [N], in their order."""
    width = 1 << max(0, sums.numel() - 1).bit_length()
    return _sum_rows(torch.nn.functional.pad(sums, (0, width - sums.numel())).view(1, width)).sqrt()[0]


def clip_factor(norm: Tensor, max_norm: float) -> Tensor:
    """What gradients of this `norm` are multiplied by, float32 [], as torch.nn.utils.clip_grad_norm_ does.

    1 for a norm that is NaN: it would turn the zeros behind the gradients into NaN, which later steps would count.
    """
    return (max_norm / (norm + 1e-6)).clamp(max=1.0).nan_to_num(nan=1.0).float()


def _sum_rows(rows: Tensor) -> Tensor:
    """The sum of each row [N, a power of two], by halves: the first half plus the second, until one is left. [N]"""
    while rows.shape[1] > 1:
        half = rows.shape[1] // 2
        rows = rows[:, :half] + rows[:, half:]
    return rows[:, 0]
