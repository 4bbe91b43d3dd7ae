"""Progressive image size: the first epochs of a run train on smaller images, which take a fraction of the time."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

Sizes = Sequence[tuple[int, float]]
"""Pairs (side in pixels, until which share of the epochs), both rising."""


def side_of_epoch(sizes: Sizes, epoch: int, *, num_epochs: int, image_size: int) -> int:
    """The side in pixels of the training images of an epoch.

    It depends on the epoch alone, so it is the same on all processes and after a resume. Epoch 0 has the first size.

    Args:
        sizes: `train.progressive_sizes`.
        epoch: counted from 0.
        num_epochs: of the run.
        image_size: the side after the last of `sizes`.
    """
    # The small term corrects rounding: 0.3 of 10 epochs are 3, but 0.1 * 3 * 10 is just above 3.
    return next((side for side, until in sizes if epoch < until * num_epochs - 1e-9), image_size)


def resized(images: Tensor, side: int) -> Tensor:
    """Square images at another side, bilinear, averaged over the pixels that fall together; the same bits in any batch.

    Args:
        images: floating [B, C, S, S]. It is returned as it is if S is `side`.
        side: in pixels.

    Returns:
        [B, C, side, side].
    """
    if images.shape[-1] == side:
        return images
    return F.interpolate(images, size=(side, side), mode="bilinear", align_corners=False, antialias=True)
