"""The views of an image over which an evaluation averages its predictions."""

from __future__ import annotations

from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor


def views_of(images: Tensor, *, flip: bool, ten_crop: float | None) -> Iterator[Tensor]:
    """Views of a batch, one after the other, each of the batch's shape.

    Args:
        images: floating [B, C, H, W], prepared: normalised, not augmented.
        flip: the images, and their mirror images.
        ten_crop: the four corners and the centre, each with its mirror image (Krizhevsky et al., NeurIPS 2012): this
            fraction of each side, enlarged to the whole. None: no crops. With it, `flip` changes nothing.
    """
    if ten_crop is None:
        yield images
        if flip:
            yield images.flip(3)
        return
    for part in _five_crops(images, ten_crop):
        view = F.interpolate(part, size=images.shape[2:], mode="bilinear", align_corners=False)
        yield view
        yield view.flip(3)


def _five_crops(images: Tensor, fraction: float) -> Iterator[Tensor]:
    """Corners and centre, in the order and at the places of torchvision's five_crop."""
    height, width = images.shape[2:]
    high, wide = (max(1, round(fraction * side)) for side in (height, width))
    low, right = height - high, width - wide
    for top, left in ((0, 0), (0, right), (low, 0), (low, right), (round(low / 2), round(right / 2))):
        yield images[:, :, top : top + high, left : left + wide]
