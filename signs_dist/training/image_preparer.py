"""Makes the input of a network from a batch of images."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from signs_dist.config.settings import DataConfig
from signs_dist.data.augment import BatchAugmenter, to_unit_floats
from signs_dist.data.batches import Batch
from signs_dist.data.mixing import BatchMixer
from signs_dist.data.own_augment import OwnAugmenter
from signs_dist.data.progressive import resized


@dataclasses.dataclass(frozen=True)
class ImagePreparer:
    """Makes the model's input from a batch: resized, augmented, mixed, normalised, on the device, in its memory order.

    Attributes:
        device: the model's device.
        factor, offset: float32 [1, 3, 1, 1], on the device: (pixel - mean) / std is pixel · factor + offset.
        channels_last: the memory order of the images.
        augment: augments training images; None changes nothing.
        mix: mixes training images within their micro-batches; None mixes nothing.
        side_of: the side in pixels of an epoch's images; None leaves them as they are.
        resizes_bytes: whether a CPU resizes bytes as bytes, in an eighth of the time; they differ by rounding.
    """

    device: torch.device
    factor: Tensor
    offset: Tensor
    channels_last: bool
    augment: BatchAugmenter | OwnAugmenter | None = None
    mix: BatchMixer | None = None
    side_of: Callable[[int], int] | None = None
    resizes_bytes: bool = False

    @classmethod
    def create(
        cls,
        config: DataConfig,
        device: torch.device,
        *,
        channels_last: bool,
        augment: BatchAugmenter | OwnAugmenter | None = None,
        mix: BatchMixer | None = None,
        side_of: Callable[[int], int] | None = None,
        resizes_bytes: bool = False,
    ) -> ImagePreparer:
        """The preparer for a data set's mean and standard deviation."""
        mean, std = (torch.tensor(values, device=device).reshape(1, 3, 1, 1) for values in (config.mean, config.std))
        return cls(device, 1 / std, -mean / std, channels_last, augment, mix, side_of, resizes_bytes)

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """(images float32 [B, 3, H, W], targets) on the device.

        Targets are labels int64 [B]; with `mix`, which takes whole micro-batches, shares of the classes float32 [B, C].
        """
        images, side = batch.images.to(self.device, non_blocking=True), None
        if self.side_of is not None:
            side = self.side_of(batch.epoch)
            if self.resizes_bytes and images.dtype == torch.uint8 and images.device.type == "cpu":
                images = resized(images, side)
        images = to_unit_floats(images)
        if side is not None:
            images = resized(images, side)
        if self.augment is not None:
            images = self.augment(images, batch.samples.numpy(), batch.epoch)
        targets = batch.labels.to(self.device, non_blocking=True)
        if self.mix is not None:
            images, targets = self.mix(images, targets, batch.samples.numpy(), batch.epoch)
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        # In place: `images` is a copy. The memory order changes last, in the only pass that reads it strided.
        _normalise(images, self.factor, self.offset)
        return images.contiguous(memory_format=layout), targets


def _normalise(images: Tensor, factor: Tensor, offset: Tensor) -> None:
    """images · factor + offset, in place, with the same bits in each memory order."""
    if images.device.type == "cpu" and images.is_contiguous(memory_format=torch.channels_last):
        # A row of pixels at a time: broadcast over the last axis, the three channels, an operation has no vectors.
        width = images.shape[3]
        images = images.permute(0, 2, 3, 1).flatten(2)  # [B, H, W · 3], a view
        factor, offset = factor.flatten().repeat(width), offset.flatten().repeat(width)
    images.mul_(factor).add_(offset)


class Preparer(Protocol):
    """Makes the input of the trained part from a batch: an `ImagePreparer`, or one for stored features."""

    @property
    def device(self) -> torch.device:
        """The device of the input."""
        ...

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """(input float32 [B, …], labels int64 [B]) on the device."""
        ...
