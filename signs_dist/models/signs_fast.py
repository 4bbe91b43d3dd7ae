"""The project's own network for small photos: a high accuracy after a short time of training on a CPU."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from signs_dist.errors import UserError
from signs_dist.models.registry import Channels, DropProbability, register


class ConvNormRelu(nn.Sequential):
    """Convolution, BatchNorm, ReLU."""

    def __init__(self, num_inputs: int, num_outputs: int, kernel: int, stride: int = 1, padding: int = 0) -> None:
        super().__init__(
            nn.Conv2d(num_inputs, num_outputs, kernel, stride=stride, padding=padding, bias=False),
            nn.BatchNorm2d(num_outputs),
            nn.ReLU(inplace=True),
        )


class SignsFast(nn.Module):
    """Seven layers. The first halves the image, so that the others work on few pixels.

    Args:
        num_classes: number of logits.
        width: channels of the first block; the second has twice, the third four times as many.
        dropout: probability that a feature is dropped before the head.
    """

    def __init__(self, num_classes: int, width: int, dropout: float) -> None:
        super().__init__()
        self.stem = ConvNormRelu(3, width, kernel=4, stride=2, padding=1)
        self.block1 = ConvNormRelu(width, width, kernel=3, padding=1)
        self.block2 = nn.Sequential(
            ConvNormRelu(width, 2 * width, kernel=3, padding=1), ConvNormRelu(2 * width, 2 * width, kernel=3, padding=1)
        )
        self.block3 = nn.Sequential(
            ConvNormRelu(2 * width, 4 * width, kernel=3, padding=1),
            ConvNormRelu(4 * width, 4 * width, kernel=3, padding=1),
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(4 * width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, num_classes] for images [B, 3, S, S]."""
        c = self.stem(images)  #                              [B, w, S/2, S/2]
        c = F.max_pool2d(self.block1(c), 2)  #                [B, w, S/4, S/4]
        c = F.max_pool2d(self.block2(c), 2)  #                [B, 2w, S/8, S/8]
        c = self.block3(c)  #                                 [B, 4w, S/8, S/8]
        h = self.dropout(c.amax(dim=(2, 3)))  #               [B, 4w]
        logits: Tensor = self.head(h)  #                      [B, num_classes]
        return logits


@register
def signs_fast(num_classes: int, image_size: int, width: Channels = 32, dropout: DropProbability = 0.0) -> nn.Module:
    """The fast network. Raises `UserError` if `image_size` is below 16."""
    if image_size < 16:
        raise UserError(f"data.image_size={image_size} is too small for signs_fast. Type data.image_size=16 or more.")
    return SignsFast(num_classes, width, dropout)
