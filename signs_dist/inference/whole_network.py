"""A network with everything around it, from the pixels of photos to probabilities, as one module."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from signs_dist.data.views import views_of
from signs_dist.inference.export_record import ExportRecord


class WholeNetwork(nn.Module):
    """Resizes photos, normalises them, and gives logits and probabilities.

    The resizing is that of Pillow: bicubic, antialiased, first the width and then the height, each to whole values of
    0 to 255. A photo of the network's own size passes unchanged.

    Args:
        network: from float32 [N, 3, S, S] to logits [N, C].
        image_size: S.
        mean, std: of each channel, for values of 0 to 1.
        flip_average: average the logits of each image and of its mirror.
        ten_crop: average the logits of ten crops, of this fraction of the side; None: no crops.
    """

    factor: Tensor
    offset: Tensor

    def __init__(
        self,
        network: nn.Module,
        *,
        image_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        flip_average: bool,
        ten_crop: float | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.image_size = image_size
        self.flip_average = flip_average
        self.ten_crop = ten_crop
        mean_of_channel, std_of_channel = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (mean, std))
        self.register_buffer("factor", 1 / std_of_channel)
        self.register_buffer("offset", -mean_of_channel / std_of_channel)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(logits [N, C], probabilities [N, C]) for uint8 images [N, H, W, 3] of any height and width."""
        size = self.image_size
        pixels = images.permute(0, 3, 1, 2).float()  #                   [N, 3, H, W]
        pixels = _resized(pixels, images.shape[1], size)  #              [N, 3, H, S]
        pixels = _resized(pixels, size, size)  #                         [N, 3, S, S]
        inputs = pixels / 255 * self.factor + self.offset
        views = views_of(inputs, flip=self.flip_average, ten_crop=self.ten_crop)
        each: list[Tensor] = [self.network(view) for view in views]
        logits = sum(each[1:], each[0]) / len(each)  #                   [N, C]
        return logits, logits.softmax(dim=1)


def _resized(pixels: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(pixels, size=(height, width), mode="bicubic", antialias=True).round().clamp(0, 255)


def make_whole(network: nn.Module, record: ExportRecord) -> WholeNetwork:
    """A network with resizing, normalising and averaging as the record says. The module of a graph refuses `eval()`, so
    this calls it on none.
    """
    preprocessing = record.preprocessing
    return WholeNetwork(
        network,
        image_size=preprocessing.image_size,
        mean=preprocessing.mean,
        std=preprocessing.std,
        flip_average=record.flip_average,
        ten_crop=record.ten_crop,
    )
