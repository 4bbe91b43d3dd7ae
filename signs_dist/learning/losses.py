"""Losses. Each returns one number per image: sums and counts are added up first, and divided last."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from signs_dist.config.dotted_names import is_dotted
from signs_dist.config.settings import LossConfig
from signs_dist.learning.own_parts import OwnLoss

LossFunction = Callable[[Tensor, Tensor], Tensor]
"""(logits [B, C] of any floating type, targets) → losses [B] float32. Targets are labels int64 [B], or for mixed images
the probabilities of the classes, float32 [B, C]."""


def build_loss(config: LossConfig, num_classes: int, class_weights: Sequence[float] | None = None) -> LossFunction:
    """The training loss that `config` names, per image, computed in float32 from logits of any floating type.

    cross_entropy: with the targets smoothed to `1 - s + s / C` and `s / C`.
    focal: as cross_entropy, with each class's term times (1 - p)**gamma, p its softmax probability (Lin et al., "Focal
        loss for dense object detection", ICCV 2017).
    bce: binary cross entropy of each logit with its smoothed target, mean over the classes.
    mse, l1: squared or absolute difference of softmax probabilities and targets, mean over the classes.
    package.module:make: the user's own, see `OwnLoss`. It takes labels only.

    Args:
        config: the loss section; `config.class_weights` is not read.
        num_classes: C.
        class_weights: a factor for each class, from `find_class_weights`: an image's loss is multiplied by that of its
            class, and a mixed image's by the mean over its shares. Divide their sum by the number of images, not by the
            sum of the weights: then a step's gradient does not depend on how the step is cut into micro-batches.
    """
    loss = OwnLoss(config, num_classes) if is_dotted(config.name) else _build_plain_loss(config, num_classes)
    return loss if class_weights is None else _Weighted(loss, class_weights)


def build_evaluation_loss(config: LossConfig, num_classes: int) -> LossFunction:
    """The loss of evaluations: as `build_loss`, without smoothing and class weights."""
    return build_loss(config.model_copy(update={"label_smoothing": 0.0}), num_classes)


def _build_plain_loss(config: LossConfig, num_classes: int) -> LossFunction:
    smoothing, gamma = config.label_smoothing, config.focal_gamma

    def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(logits.float(), targets, reduction="none", label_smoothing=smoothing)

    def focal(logits: Tensor, targets: Tensor) -> Tensor:
        logs = logits.float().log_softmax(dim=1)
        # 1 - p without cancellation. At 0 the slope of a power below 1 is infinite.
        others = (-torch.expm1(logs)).clamp(min=1e-12)
        return -(_smoothed(targets) * others.pow(gamma) * logs).sum(dim=1)

    def bce(logits: Tensor, targets: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits.float(), _smoothed(targets), reduction="none").mean(dim=1)

    def mse(logits: Tensor, targets: Tensor) -> Tensor:
        return (logits.float().softmax(dim=1) - _shares(targets, num_classes)).square().mean(dim=1)

    def l1(logits: Tensor, targets: Tensor) -> Tensor:
        return (logits.float().softmax(dim=1) - _shares(targets, num_classes)).abs().mean(dim=1)

    def _smoothed(targets: Tensor) -> Tensor:
        return _shares(targets, num_classes) * (1 - smoothing) + smoothing / num_classes

    losses: dict[str, LossFunction] = {
        "cross_entropy": cross_entropy,
        "focal": focal,
        "bce": bce,
        "mse": mse,
        "l1": l1,
    }
    return losses[config.name]


class _Weighted:
    """A loss times the weight of each image's class."""

    def __init__(self, loss: LossFunction, class_weights: Sequence[float]) -> None:
        self._loss = loss
        self._weights = torch.tensor(class_weights, dtype=torch.float32)  # [C]
        self._on_device: dict[torch.device, Tensor] = {}

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        device = logits.device
        if device not in self._on_device:
            self._on_device[device] = self._weights.to(device, non_blocking=True)
        weights = self._on_device[device]
        # A sum over the classes, not a matrix product, which autocast would compute in 16 bits.
        own = (targets * weights).sum(dim=1) if targets.is_floating_point() else weights[targets]  # [B]
        return self._loss(logits, targets) * own


def _shares(targets: Tensor, num_classes: int) -> Tensor:
    """The share of each class, float32 [B, C], of labels int64 [B] or of shares."""
    if targets.is_floating_point():
        return targets
    return F.one_hot(targets, num_classes).to(torch.float32)
