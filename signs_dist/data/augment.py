"""Random changes to a whole batch of training images at once, on the device the batch is on.

What happens to an image is a function of (seed, epoch, sample) alone: the batch it is in, the process, the worker and
the step have no part in it.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from signs_dist.config import AugmentConfig
from signs_dist.data.plan import Indices
from signs_dist.data.randomness import Stream, stream_key, uniform

_FLIP, _ANGLE, _SHIFT_X, _SHIFT_Y, _SCALE, _BRIGHTNESS, _CONTRAST, _CUTOUT_X, _CUTOUT_Y, _NUM_DRAWS = range(10)


class BatchAugmenter:
    """Flip, rotate, shift, scale, brightness, contrast and cutout by the settings of `config`.

    Call it with images float32 [B, C, H, W] in 0..1, their sample numbers (int64 [B], on the host) and the epoch; it
    returns images of the same shape, in 0..1. A setting of zero costs nothing.
    """

    def __init__(self, config: AugmentConfig, seed: int) -> None:
        self.config = config
        self.seed = seed
        self._moves = config.rotate_degrees > 0 or config.shift > 0 or config.scale > 0
        self._identity = not (self._moves or config.flip or config.brightness or config.contrast or config.cutout)

    def __call__(self, images: Tensor, samples: Indices, epoch: int) -> Tensor:
        """Change a batch; see the class."""
        if self._identity:
            return images
        host_draws = uniform(stream_key(self.seed, Stream.AUGMENT, epoch), samples, _NUM_DRAWS)
        draws = torch.from_numpy(host_draws).to(images.device, non_blocking=True)
        if self._moves:
            images = self._move(images, draws)
        elif self.config.flip:
            flipped = draws[:, _FLIP] < self.config.flip
            images = torch.where(flipped[:, None, None, None], images.flip(3), images)
        if self.config.brightness or self.config.contrast:
            images = self._recolour(images, draws)
        if self.config.cutout:
            images = self._cut_out(images, draws)
        return images

    def _move(self, images: Tensor, draws: Tensor) -> Tensor:
        """Flip, rotate, shift and scale in one bilinear resampling; edges are mirrored outwards."""
        height, width = images.shape[2:]
        angle = math.radians(self.config.rotate_degrees) * _centred(draws[:, _ANGLE])
        zoom = 1 / (1 + self.config.scale * _centred(draws[:, _SCALE]))
        mirror = torch.where(draws[:, _FLIP] < self.config.flip, -1.0, 1.0)
        # Coordinates run from -1 to 1, so that a whole side is 2 long.
        shift_x, shift_y = (2 * self.config.shift * _centred(draws[:, axis]) for axis in (_SHIFT_X, _SHIFT_Y))
        cosine, sine = torch.cos(angle) * zoom, torch.sin(angle) * zoom
        x = _pixel_centres(width, images)[None, None, :]
        y = _pixel_centres(height, images)[None, :, None]
        aspect = height / width
        # Written out rather than as a matrix product, whose summation order may depend on the batch.
        source_x = (cosine * mirror)[:, None, None] * x - (sine * aspect)[:, None, None] * y + shift_x[:, None, None]
        source_y = (sine * mirror / aspect)[:, None, None] * x + cosine[:, None, None] * y + shift_y[:, None, None]
        grid = torch.stack((source_x, source_y), dim=3)  # [B, H, W, 2]
        return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)

    def _recolour(self, images: Tensor, draws: Tensor) -> Tensor:
        brightness = 1 + self.config.brightness * _centred(draws[:, _BRIGHTNESS])[:, None, None, None]
        contrast = 1 + self.config.contrast * _centred(draws[:, _CONTRAST])[:, None, None, None]
        mean = images.mean(dim=(1, 2, 3), keepdim=True)
        # (image - mean) · contrast + mean, all times brightness, in one pass over the pixels.
        offset = mean * (1 - contrast) * brightness
        return torch.addcmul(offset, images, contrast * brightness).clamp_(0, 1)

    def _cut_out(self, images: Tensor, draws: Tensor) -> Tensor:
        inside = [
            (_pixel_centres(side, images)[None, :] - _centred(draws[:, axis])[:, None]).abs() < self.config.cutout
            for side, axis in ((images.shape[2], _CUTOUT_Y), (images.shape[3], _CUTOUT_X))
        ]
        blank = (inside[0][:, :, None] & inside[1][:, None, :])[:, None]  # [B, 1, H, W]
        return torch.where(blank, images.mean(dim=(1, 2, 3), keepdim=True), images)


def to_unit_floats(images: Tensor) -> Tensor:
    """uint8 images in 0..255 as float32 in 0..1; floating-point images as they are."""
    return images.float().div_(255) if images.dtype == torch.uint8 else images.float()


def _centred(draws: Tensor) -> Tensor:
    """Draws in [0, 1) as numbers in [-1, 1)."""
    return 2 * draws - 1


def _pixel_centres(side: int, like: Tensor) -> Tensor:
    """Coordinates of `side` pixel centres between -1 and 1, float32 [side], where `like` lies."""
    return (torch.arange(side, device=like.device, dtype=torch.float32) * 2 + 1) / side - 1
