"""Random changes to a whole batch of training images at once, on the device of the batch.

The change of an image depends on (seed, epoch, sample) only, not on its batch, the process, the worker or the step.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from signs_dist.config.settings import AugmentConfig
from signs_dist.data.batch_pixels import Numbers, centred, inside_boxes, means, noise, on_device, resample
from signs_dist.data.order import Indices
from signs_dist.data.policies import Policy
from signs_dist.data.randomness import Stream, stream_key, stream_keys, uniform
from signs_dist.data.rectangles import NUM_DRAWS, draw_crops, draw_rectangles

Draws = npt.NDArray[np.float32]

FLIP_DRAW, _ANGLE, _SHIFT_X, _SHIFT_Y, _SCALE, _BRIGHTNESS, _CONTRAST, _CUTOUT_X, _CUTOUT_Y, _NUM_DRAWS = range(10)
ERASED_RATIO = (0.3, 3.3)
"""Smallest and largest width by height of an erased rectangle, as in torchvision."""


class BatchAugmenter:
    """Crop, flip, rotate, shift, scale; a policy; brightness, contrast; cutout, erasing, by the settings of `config`.

    Call it with images float32 [B, C, H, W] in 0..1, their sample numbers (int64 [B], on the host) and the epoch; it
    returns images of the same shape, in 0..1. A setting of zero takes no time.
    """

    def __init__(self, config: AugmentConfig, seed: int) -> None:
        self.config = config
        self.seed = seed
        self._policy = Policy(config, seed) if config.policy != "none" else None
        self._crops = config.crop_scale is not None and config.crop_from == "square"
        self._flip = config.flip if config.crop_from == "square" else 0.0  # else as they are read: `FileCrop`
        self._moves = config.rotate_degrees > 0 or config.shift > 0 or config.scale > 0 or self._crops
        recolours = config.brightness or config.contrast or self._policy is not None
        self._identity = not (self._moves or self._flip or recolours or config.cutout or config.erase)

    def __call__(self, images: Tensor, samples: Indices, epoch: int) -> Tensor:
        """Change a batch; see the class. The given tensor is not modified."""
        if self._identity:
            return images
        given = images
        draws = uniform(stream_key(self.seed, Stream.AUGMENT, epoch), samples, _NUM_DRAWS)
        if self._moves:
            images = self._move(images, draws, self._draw_crops(images, samples, epoch))
        elif self._flip:
            images = torch.where(on_device(draws[:, FLIP_DRAW] < self._flip, images), images.flip(3), images)
        if self._policy is not None:
            images = self._policy(images, samples, epoch)
        if self.config.brightness or self.config.contrast:
            images = self._recolour(images, draws, out=images if images is not given else None)
        elif self._moves:
            images.clamp_(0, 1)  # the four weights of a pixel may sum to 1 + 1e-7
        if self.config.cutout:
            images = self._cut_out(images, draws)
        if self.config.erase:
            images = self._erase(images, samples, epoch)
        return images

    def _draw_crops(self, images: Tensor, samples: Indices, epoch: int) -> tuple[Numbers, Numbers] | None:
        """Centres and half sides of the crops, as `draw_crops`; None where nothing is cropped here."""
        if not self._crops or self.config.crop_scale is None:
            return None
        draws = uniform(stream_key(self.seed, Stream.CROP, epoch), samples, NUM_DRAWS)
        return draw_crops(draws, self.config.crop_scale, self.config.crop_ratio, images.shape[2] / images.shape[3])

    def _move(self, images: Tensor, draws: Draws, crops: tuple[Numbers, Numbers] | None) -> Tensor:
        """Crop, flip, rotate, shift and scale in one bilinear resampling. Outside, the image is mirrored at its edges.

        The crop is rotated, shifted and scaled as the whole image would be: around it are the pixels beside it.
        """
        height, width = images.shape[2:]
        angles = math.radians(self.config.rotate_degrees) * centred(draws[:, _ANGLE])
        zoom = 1 / (1 + self.config.scale * centred(draws[:, _SCALE]))
        mirror = np.where(draws[:, FLIP_DRAW] < self._flip, -1.0, 1.0)
        # One number at a time: a vectorised cosine may round differently at another position in the batch.
        cosine = zoom * np.array([math.cos(angle) for angle in angles])
        sine = zoom * np.array([math.sin(angle) for angle in angles])
        # Coordinates run from -1 to 1: a side has length 2.
        shift_x, shift_y = (2 * self.config.shift * centred(draws[:, axis]) for axis in (_SHIFT_X, _SHIFT_Y))
        aspect = height / width
        rows = ((cosine * mirror, -sine * aspect, shift_x), (sine * mirror / aspect, cosine, shift_y))
        affine = np.stack([np.stack(row, axis=1) for row in rows], axis=1)  # [B, 2, 3]
        if crops is not None:
            centres, half_sides = (values[:, ::-1] for values in crops)  # [B, 2] as (x, y)
            affine *= half_sides[:, :, None]
            affine[:, :, 2] += centres
        return resample(images, affine, padding="reflection")

    def _recolour(self, images: Tensor, draws: Draws, out: Tensor | None) -> Tensor:
        brightness = 1 + self.config.brightness * centred(draws[:, _BRIGHTNESS])
        contrast = 1 + self.config.contrast * centred(draws[:, _CONTRAST])
        # (image - mean) · contrast + mean, all times brightness: one product and one sum for each pixel.
        offset = means(images) * on_device((1 - contrast) * brightness, images)
        return torch.mul(images, on_device(contrast * brightness, images), out=out).add_(offset).clamp_(0, 1)

    def _cut_out(self, images: Tensor, draws: Draws) -> Tensor:
        centres = centred(draws[:, [_CUTOUT_Y, _CUTOUT_X]])
        blank = inside_boxes(images, centres, np.full_like(centres, self.config.cutout))
        return torch.where(blank, means(images), images)

    def _erase(self, images: Tensor, samples: Indices, epoch: int) -> Tensor:
        """Fill a rectangle of some images (Zhong et al., "Random erasing data augmentation", AAAI 2020)."""
        key = stream_key(self.seed, Stream.ERASE, epoch)
        draws = uniform(key, samples, 1 + NUM_DRAWS)
        aspect = images.shape[2] / images.shape[3]
        centres, half_sides = draw_rectangles(draws[:, 1:], self.config.erase_area, ERASED_RATIO, aspect)
        half_sides *= draws[:, :1] < self.config.erase
        erased = inside_boxes(images, centres, half_sides)
        if self.config.erase_fill == "mean":
            return torch.where(erased, means(images), images)
        rows = np.flatnonzero(half_sides[:, 0])
        if not rows.size:
            return images
        filled = noise(stream_keys(self.seed, Stream.ERASE, epoch, samples[rows]), images)
        index = torch.from_numpy(rows).to(images.device, non_blocking=True)
        return images.index_copy(0, index, torch.where(erased[index], filled, images[index]))


def to_unit_floats(images: Tensor) -> Tensor:
    """A copy as float32: uint8 images from 0..255 to 0..1, floating-point images as they are."""
    floats = images.to(torch.float32, copy=True)
    # In place: of bytes, a division makes a second copy, and fresh memory costs more than the arithmetic.
    return floats.div_(255) if images.dtype == torch.uint8 else floats
