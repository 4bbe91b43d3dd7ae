"""Random changes to a whole batch of training images at once, on the device of the batch.

The change of an image depends on (seed, epoch, sample) only, not on its batch, the process, the worker or the step.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from signs_dist.config.settings import AugmentConfig
from signs_dist.data.order import Indices
from signs_dist.data.randomness import Stream, stream_key, uniform

Draws = npt.NDArray[np.float32]

_FLIP, _ANGLE, _SHIFT_X, _SHIFT_Y, _SCALE, _BRIGHTNESS, _CONTRAST, _CUTOUT_X, _CUTOUT_Y, _NUM_DRAWS = range(10)


class BatchAugmenter:
    """Flip, rotate, shift, scale, brightness, contrast and cutout by the settings of `config`.

    Call it with images float32 [B, C, H, W] in 0..1, their sample numbers (int64 [B], on the host) and the epoch; it
    returns images of the same shape, in 0..1. A setting of zero takes no time.
    """

    def __init__(self, config: AugmentConfig, seed: int) -> None:
        self.config = config
        self.seed = seed
        self._moves = config.rotate_degrees > 0 or config.shift > 0 or config.scale > 0
        self._identity = not (self._moves or config.flip or config.brightness or config.contrast or config.cutout)

    def __call__(self, images: Tensor, samples: Indices, epoch: int) -> Tensor:
        """Change a batch; see the class. The given tensor is not modified."""
        if self._identity:
            return images
        given = images
        draws = uniform(stream_key(self.seed, Stream.AUGMENT, epoch), samples, _NUM_DRAWS)
        if self._moves:
            images = self._move(images, draws)
        elif self.config.flip:
            images = torch.where(_on_device(draws[:, _FLIP] < self.config.flip, images), images.flip(3), images)
        if self.config.brightness or self.config.contrast:
            images = self._recolour(images, draws, out=images if images is not given else None)
        elif self._moves:
            images.clamp_(0, 1)  # the four weights of a pixel may sum to 1 + 1e-7
        if self.config.cutout:
            images = self._cut_out(images, draws)
        return images

    def _move(self, images: Tensor, draws: Draws) -> Tensor:
        """Flip, rotate, shift and scale in one bilinear resampling. Outside, the image is mirrored at its edges."""
        height, width = images.shape[2:]
        angles = math.radians(self.config.rotate_degrees) * _centred(draws[:, _ANGLE])
        zoom = 1 / (1 + self.config.scale * _centred(draws[:, _SCALE]))
        mirror = np.where(draws[:, _FLIP] < self.config.flip, -1.0, 1.0)
        # One number at a time: a vectorised cosine may round differently at another position in the batch.
        cosine = zoom * np.array([math.cos(angle) for angle in angles])
        sine = zoom * np.array([math.sin(angle) for angle in angles])
        # Coordinates run from -1 to 1: a side has length 2.
        shift_x, shift_y = (2 * self.config.shift * _centred(draws[:, axis]) for axis in (_SHIFT_X, _SHIFT_Y))
        aspect = height / width
        rows = ((cosine * mirror, -sine * aspect, shift_x), (sine * mirror / aspect, cosine, shift_y))
        affine = _on_device(np.stack([np.stack(row, axis=1) for row in rows], axis=1), images)  # [B, 2, 3, 1, 1, 1]
        by_x, by_y, shift = (affine[:, :, column, :, :, 0] for column in range(3))  # each [B, 2, 1, 1]
        along_x = by_x * _pixel_centres(width, images)[None, None, None, :] + shift  # [B, 2, 1, W]
        along_y = by_y * _pixel_centres(height, images)[None, None, :, None]  # [B, 2, H, 1]
        # x and y are separate planes, filled by one addition. Interleaved, it takes ten times as long.
        grid = (along_x + along_y).permute(0, 2, 3, 1)  # [B, H, W, 2]
        return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)

    def _recolour(self, images: Tensor, draws: Draws, out: Tensor | None) -> Tensor:
        brightness = 1 + self.config.brightness * _centred(draws[:, _BRIGHTNESS])
        contrast = 1 + self.config.contrast * _centred(draws[:, _CONTRAST])
        # (image - mean) · contrast + mean, all times brightness: one product and one sum for each pixel.
        offset = _means(images) * _on_device((1 - contrast) * brightness, images)
        return torch.mul(images, _on_device(contrast * brightness, images), out=out).add_(offset).clamp_(0, 1)

    def _cut_out(self, images: Tensor, draws: Draws) -> Tensor:
        half = self.config.cutout  # of a side of length 2
        inside = [
            (_pixel_centres(side, images) - _on_device(_centred(draws[:, axis]), images)[:, 0, 0]).abs() < half
            for side, axis in ((images.shape[2], _CUTOUT_Y), (images.shape[3], _CUTOUT_X))
        ]
        blank = inside[0][:, None, :, None] & inside[1][:, None, None, :]  # [B, 1, H, W]
        return torch.where(blank, _means(images), images)


def to_unit_floats(images: Tensor) -> Tensor:
    """A copy as float32: uint8 images from 0..255 to 0..1, floating-point images as they are."""
    return images / 255 if images.dtype == torch.uint8 else images.to(torch.float32, copy=True)


def _centred(draws: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Draws in [0, 1) as numbers in [-1, 1)."""
    return 2 * draws.astype(np.float64) - 1


def _on_device(values: npt.NDArray[Any], like: Tensor) -> Tensor:
    """Values per sample, [B, ...], as [B, ..., 1, 1, 1] on the device of `like`; float64 becomes float32."""
    tensor = torch.from_numpy(values.astype(np.float32) if values.dtype == np.float64 else values)
    return tensor.to(like.device, non_blocking=True)[..., None, None, None]


def _means(images: Tensor) -> Tensor:
    """The mean of each image, [B, 1, 1, 1].

    Summed in two stages: over the pixels, then over the channels. PyTorch splits a single sum among threads if the
    batch is one large image, and rounds it differently than in a larger batch.
    """
    num_values = images[0].numel() if len(images) else 1
    return (images.sum(dim=(2, 3)).sum(dim=1) / num_values)[:, None, None, None]


def _pixel_centres(side: int, like: Tensor) -> Tensor:
    """Coordinates of `side` pixel centres between -1 and 1, float32 [side], on the device of `like`."""
    return _pixel_centres_on(side, like.device)


@functools.lru_cache(maxsize=16)
def _pixel_centres_on(side: int, device: torch.device) -> Tensor:
    return (torch.arange(side, device=device, dtype=torch.float32) * 2 + 1) / side - 1
