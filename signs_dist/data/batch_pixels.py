"""What changes to whole batches of images share: values per image, means, coordinates, resampling.

An image's result has the same bits in any batch.
"""

from __future__ import annotations

import functools
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from signs_dist.data.randomness import Words

Numbers = npt.NDArray[np.float64]
_MASK = 2**31 - 1


def on_device(values: npt.NDArray[Any], like: Tensor) -> Tensor:
    """Values per sample, [B, ...], as [B, ..., 1, 1, 1] on the device of `like`; float64 becomes float32."""
    tensor = torch.from_numpy(values.astype(np.float32) if values.dtype == np.float64 else values)
    return tensor.to(like.device, non_blocking=True)[..., None, None, None]


def centred(draws: npt.NDArray[np.float32]) -> Numbers:
    """Draws in [0, 1) as numbers in [-1, 1)."""
    return 2 * draws.astype(np.float64) - 1


def channel_sums(images: Tensor) -> Tensor:
    """The sum over the pixels of each channel, [B, C].

    A mean over an image is computed in two stages: over the pixels, then over the channels. PyTorch splits a single sum
    among threads if the batch is one large image, and rounds it differently than in a larger batch.
    """
    return images.sum(dim=(2, 3))


def means(images: Tensor) -> Tensor:
    """The mean of each image, [B, 1, 1, 1]."""
    num_values = images[0].numel() if len(images) else 1
    return (channel_sums(images).sum(dim=1) / num_values)[:, None, None, None]


def pixel_centres(side: int, like: Tensor) -> Tensor:
    """Coordinates of `side` pixel centres between -1 and 1, float32 [side], on the device of `like`."""
    return _pixel_centres_on(side, like.device)


@functools.lru_cache(maxsize=16)
def _pixel_centres_on(side: int, device: torch.device) -> Tensor:
    return (torch.arange(side, device=device, dtype=torch.float32) * 2 + 1) / side - 1


def inside_boxes(like: Tensor, centres: Numbers, half_sides: Numbers) -> Tensor:
    """Whether a pixel's centre is in its image's box, bool [B, 1, H, W].

    Args:
        like: images [B, C, H, W].
        centres: of the boxes, [B, 2] as (y, x), in coordinates from -1 to 1.
        half_sides: of the boxes, [B, 2] as (y, x), in the same unit: half of a whole side is 1.
    """
    by_row, by_column = (
        (pixel_centres(side, like) - on_device(centres[:, axis], like)[:, 0, 0]).abs()
        < on_device(half_sides[:, axis], like)[:, 0, 0]
        for axis, side in enumerate(like.shape[2:])
    )
    return by_row[:, None, :, None] & by_column[:, None, None, :]


def noise(keys: Words, like: Tensor) -> Tensor:
    """A draw for each value of some images, float32 [N, C, H, W], uniform in [0, 1), the same on each device.

    A number is the hash of its place and its image's key: two rounds of shifting and multiplying, as in Wellons' 32-bit
    hash `lowbias32`, in 31 bits, so that 64 bits hold the products.

    Args:
        keys: one for each image, uint64 [N].
        like: images [B, C, H, W] with the shape and on the device of the noise.
    """
    seeds = torch.from_numpy((keys & np.uint64(_MASK)).astype(np.int64)).to(like.device, non_blocking=True)
    words = torch.arange(like.shape[1:].numel(), device=like.device)[None, :] * 0x1E3779B9 + seeds[:, None]
    for shift, factor in ((16, 0x21F0AAAD), (15, 0x535A2D97)):
        words &= _MASK
        words ^= words >> shift
        words *= factor
    words &= _MASK
    words ^= words >> 15
    return ((words >> 7).to(torch.float32) * 2.0**-24).reshape(len(keys), *like.shape[1:])


def resample(images: Tensor, affine: Numbers, padding: Literal["reflection", "zeros"]) -> Tensor:
    """Each image under its own affine map, bilinear.

    Args:
        images: float32 [B, C, H, W].
        affine: [B, 2, 3]. The pixel at (x, y) of a result comes from `affine @ (x, y, 1)` of the given image, in
            coordinates from -1 to 1.
        padding: what lies outside an image: its mirror image, or black.
    """
    height, width = images.shape[2:]
    columns = on_device(affine, images)  # [B, 2, 3, 1, 1, 1]
    by_x, by_y, shift = (columns[:, :, column, :, :, 0] for column in range(3))  # each [B, 2, 1, 1]
    along_x = by_x * pixel_centres(width, images)[None, None, None, :] + shift  # [B, 2, 1, W]
    along_y = by_y * pixel_centres(height, images)[None, None, :, None]  # [B, 2, H, 1]
    # x and y are separate planes, filled by one addition. Interleaved, it takes ten times as long.
    grid = (along_x + along_y).permute(0, 2, 3, 1)  # [B, H, W, 2]
    return F.grid_sample(images, grid, mode="bilinear", padding_mode=padding, align_corners=False)
