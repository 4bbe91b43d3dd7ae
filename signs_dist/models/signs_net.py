"""The network of the SIGNS tutorial of Stanford's CS230 (https://cs230.stanford.edu/blog/pytorch/)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from signs_dist.errors import UserError
from signs_dist.models.registry import Channels, DropProbability, register


class SignsNet(nn.Module):
    """Three blocks of convolution, BatchNorm, max pooling and ReLU; one hidden layer; the classes.

    It returns logits. The published network ends in log_softmax and trains with the negative log likelihood, which
    gives the same loss and the same gradients as cross entropy on these logits.

    Args:
        num_classes: number of logits.
        image_size: side of the images in pixels, a multiple of 8.
        channels: channels of the first block; the second has twice, the third and the hidden layer four times as many.
        dropout: probability that a hidden value is dropped.
    """

    def __init__(self, num_classes: int, image_size: int, channels: int, dropout: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, channels, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, 2 * channels, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(2 * channels)
        self.conv3 = nn.Conv2d(2 * channels, 4 * channels, 3, padding=1)
        self.norm3 = nn.BatchNorm2d(4 * channels)
        self.hidden = nn.Linear(4 * channels * (image_size // 8) ** 2, 4 * channels)
        self.hidden_norm = nn.BatchNorm1d(4 * channels)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(4 * channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, num_classes] for images [B, 3, S, S]."""
        c = F.relu(F.max_pool2d(self.norm1(self.conv1(images)), 2))  # [B, c, S/2, S/2]
        c = F.relu(F.max_pool2d(self.norm2(self.conv2(c)), 2))  #      [B, 2c, S/4, S/4]
        c = F.relu(F.max_pool2d(self.norm3(self.conv3(c)), 2))  #      [B, 4c, S/8, S/8]
        h = c.flatten(1)  #                                            [B, 4c * S/8 * S/8]
        h = self.dropout(F.relu(self.hidden_norm(self.hidden(h))))  #  [B, 4c]
        logits: Tensor = self.head(h)  #                               [B, num_classes]
        return logits


@register
def signs_net(num_classes: int, image_size: int, channels: Channels = 32, dropout: DropProbability = 0.8) -> nn.Module:
    """The published network. Raises `UserError` if `image_size` is not a multiple of 8."""
    if image_size % 8:
        below = max(8, image_size // 8 * 8)
        raise UserError(
            f"data.image_size={image_size} does not suit signs_net, which halves the image three times. "
            f"Take a multiple of 8, such as {below} or {(image_size // 8 + 1) * 8}."
        )
    return SignsNet(num_classes, image_size, channels, dropout)
