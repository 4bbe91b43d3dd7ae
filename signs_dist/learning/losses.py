"""Losses. Each returns one number per image: sums and counts are added up first, and divided last."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from signs_dist.config.dotted_names import is_dotted
from signs_dist.config.settings import LossConfig
from signs_dist.learning.own_parts import OwnLoss

LossFunction = Callable[[Tensor, Tensor], Tensor]
"""(logits [B, C] of any floating type, labels [B] int64) → losses [B] float32."""


def build_loss(config: LossConfig, num_classes: int) -> LossFunction:
    """The loss that `config` names, per image, computed in float32 from logits of any floating type.

    cross_entropy: with the targets smoothed to `1 - s + s / C` and `s / C`.
    bce: binary cross entropy of each logit with its smoothed one-hot target, mean over the classes.
    mse, l1: squared or absolute difference of softmax probabilities and one-hot targets, mean over the classes.
    package.module:make: the user's own, see `OwnLoss`.
    """
    if is_dotted(config.name):
        return OwnLoss(config, num_classes)
    smoothing = config.label_smoothing

    def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits.float(), labels, reduction="none", label_smoothing=smoothing)

    def bce(logits: Tensor, labels: Tensor) -> Tensor:
        targets = _one_hot(labels, num_classes) * (1 - smoothing) + smoothing / num_classes
        return F.binary_cross_entropy_with_logits(logits.float(), targets, reduction="none").mean(dim=1)

    def mse(logits: Tensor, labels: Tensor) -> Tensor:
        return (logits.float().softmax(dim=1) - _one_hot(labels, num_classes)).square().mean(dim=1)

    def l1(logits: Tensor, labels: Tensor) -> Tensor:
        return (logits.float().softmax(dim=1) - _one_hot(labels, num_classes)).abs().mean(dim=1)

    losses: dict[str, LossFunction] = {"cross_entropy": cross_entropy, "bce": bce, "mse": mse, "l1": l1}
    return losses[config.name]


def _one_hot(labels: Tensor, num_classes: int) -> Tensor:
    return F.one_hot(labels, num_classes).to(torch.float32)
