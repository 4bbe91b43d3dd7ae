"""Progressive image size: the first epochs of a run train on smaller images, which take a fraction of the time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

Sizes = Sequence[tuple[float, float]]
"""Pairs (part of the whole side, until which part of the epochs), both rising and below 1."""


def sides_until(sizes: Sizes, *, num_epochs: int, image_size: int) -> list[tuple[int, int]]:
    """Pairs (side in pixels, number of epochs at whose end it was used last), the last of them the whole images.

    A part of an epoch counts as an epoch, but the last epoch has whole images: BatchNorm must know the size that
    evaluations have. A size that no epoch has is left out.

    Args:
        sizes: `train.progressive_sizes`.
        num_epochs: of the run.
        image_size: the whole side in pixels.
    """
    # The small term corrects rounding: 0.07 of 100 epochs are 7, but 0.07 * 100 is just above 7.
    ends = [min(math.ceil(until * num_epochs - 1e-9), num_epochs - 1) for _, until in sizes]
    sides = [round(part * image_size) for part, _ in sizes]
    pairs: list[tuple[int, int]] = []
    for side, until in zip((*sides, image_size), (*ends, num_epochs), strict=True):
        if until > (pairs[-1][1] if pairs else 0):
            pairs.append((side, until))
    return pairs


def side_of_epoch(sizes: Sizes, epoch: int, *, num_epochs: int, image_size: int) -> int:
    """The side in pixels of the training images of an epoch, counted from 0; the arguments are as in `sides_until`.

    It depends on the epoch alone, so it is the same on all processes and after a resume.
    """
    pairs = sides_until(sizes, num_epochs=num_epochs, image_size=image_size)
    return next((side for side, until in pairs if epoch < until), image_size)


def resized(images: Tensor, side: int) -> Tensor:
    """Square images at another side, bilinear, averaged over the pixels that fall together; the same bits in any batch.

    Args:
        images: floating or uint8 [B, C, S, S]. It is returned as it is if S is `side`.
        side: in pixels.

    Returns:
        [B, C, side, side]. Of bytes, each is rounded after the rows and after the columns.
    """
    if images.shape[-1] == side:
        return images
    return F.interpolate(images, size=(side, side), mode="bilinear", align_corners=False, antialias=True)
