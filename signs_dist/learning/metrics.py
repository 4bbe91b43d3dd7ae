"""Count a model's losses and hits: sums and counts are added over batches, then over processes, and divided last."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from signs_dist.results.class_scores import macro_f1
from signs_dist.results.intervals import wilson_interval

NUM_WAITING = 16
"""Batches that are counted together: counting one costs as much as counting many."""
LOSS_UNITS = 2**24
"""Units of a loss of 1 in `RunningSums.loss`."""
LARGEST_LOSS = 2.0**14
"""The loss of a sample is clamped to between the negative of this and this."""


class RunningSums:
    """Sums over batches, on the device of the batches, so that adding never waits for it.

    All are integers, so any order of the additions, on any number of processes, gives the same sums. Each sample's
    loss is rounded to a unit of 2**-24 (6e-8): the error is at most 3e-8, as of float32 just below 1. The sum cannot
    overflow before 2**25 (3e7) samples with the largest loss, 2**14.

    Attributes:
        loss: int64 scalar, sum of the samples' finite losses in units of 2**-24.
        num_bad: int64 scalar, number of samples whose loss is not finite.
        confusion: int64 [C · C], number of samples by (true class, predicted class), row by row.
    """

    def __init__(self, num_classes: int, device: torch.device) -> None:
        self.num_classes = num_classes
        self.loss = torch.zeros((), dtype=torch.int64, device=device)
        self.num_bad = torch.zeros((), dtype=torch.int64, device=device)
        self.confusion = torch.zeros(num_classes * num_classes, dtype=torch.int64, device=device)
        self._waiting: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, losses: Tensor, logits: Tensor, targets: Tensor) -> None:
        """Add a batch.

        Args:
            losses: float [B].
            logits: float [B, C].
            targets: labels int64 [B]; or shares of the classes float [B, C], of which the largest is the true class.
        """
        self._waiting.append((losses.detach(), logits.detach(), targets))
        if len(self._waiting) >= NUM_WAITING:
            self._count()

    @torch.inference_mode()
    def _count(self) -> None:
        """Add the waiting batches to the sums."""
        if self._waiting:
            losses, logits, targets = (torch.cat(parts) for parts in zip(*self._waiting, strict=True))
            self._waiting.clear()
            labels = targets.argmax(dim=1) if targets.is_floating_point() else targets
            is_finite = losses.isfinite()
            self.num_bad += losses.numel() - is_finite.sum()
            self.loss += loss_units(losses.where(is_finite, 0)).sum()
            cells = labels * self.num_classes + logits.argmax(dim=1)
            self.confusion.index_add_(0, cells, torch.ones_like(cells))

    @torch.inference_mode()
    def restore(self, saved: Mapping[str, Tensor]) -> None:
        """Add sums that `tensors` returned earlier."""
        self.loss += saved["loss"].to(self.loss.device)
        self.confusion += saved["confusion"].to(self.confusion.device)
        self.num_bad += saved["bad"].to(self.num_bad.device)

    def tensors(self) -> dict[str, Tensor]:
        """The sums by name, int64 on the device, for `total` over processes and `to_host`."""
        self._count()
        return {"loss": self.loss, "confusion": self.confusion, "bad": self.num_bad}


def loss_units(losses: Tensor) -> Tensor:
    """Finite losses, float [B], in units of 2**-24 after clamping to ±2**14: int64 [B]."""
    # In float64, where the clamped loss times 2**24 is exact before it is rounded.
    return (losses.double().clamp(-LARGEST_LOSS, LARGEST_LOSS) * LOSS_UNITS).round().to(torch.int64)


@dataclass(frozen=True)
class Score:
    """The results of a model on a set of images.

    Attributes:
        loss_sum: sum of the images' losses.
        confusion: int64 [C, C], images by (true class, predicted class).
        num_bad: images whose loss is not a finite number; loss_sum omits them.
        metrics: the values of the config's evaluate.metrics by their names.
    """

    loss_sum: float
    confusion: npt.NDArray[np.int64]
    num_bad: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def from_sums(cls, sums: Mapping[str, npt.NDArray[np.int64]]) -> Score:
        """From `RunningSums.tensors()` after `to_host`."""
        confusion = sums["confusion"]
        num_classes = math.isqrt(confusion.size)
        return cls(int(sums["loss"]) / LOSS_UNITS, confusion.reshape(num_classes, num_classes), int(sums["bad"]))

    @property
    def num_images(self) -> int:
        """Images counted."""
        return int(self.confusion.sum())

    @property
    def num_correct(self) -> int:
        """Images whose class was predicted."""
        return int(np.trace(self.confusion))

    @property
    def loss(self) -> float:
        """Mean loss; NaN without images, or if an image's loss is not a finite number."""
        return self.loss_sum / self.num_images if self.num_images and not self.num_bad else math.nan

    @property
    def accuracy(self) -> float:
        """Share of images whose class was predicted, 0..1; NaN without images."""
        return self.num_correct / self.num_images if self.num_images else math.nan

    def accuracy_interval(self) -> tuple[float, float]:
        """95 % confidence interval of the accuracy, 0..1."""
        return wilson_interval(self.num_correct, self.num_images)

    def class_accuracies(self) -> list[float]:
        """Share of each class's images whose class was predicted; NaN for a class without images."""
        totals = self.confusion.sum(axis=1)
        hits = np.diagonal(self.confusion)
        return [int(hit) / int(total) if total else math.nan for hit, total in zip(hits, totals, strict=True)]

    @property
    def macro_f1(self) -> float:
        """Mean F1 score of the classes that have images, as `results.class_scores` defines it; NaN without images."""
        hits, support, predicted = np.diagonal(self.confusion), self.confusion.sum(axis=1), self.confusion.sum(axis=0)
        mean = macro_f1(hits.tolist(), support.tolist(), predicted.tolist())
        return math.nan if mean is None else mean


def to_host(tensors: Mapping[str, Tensor]) -> dict[str, npt.NDArray[np.int64]]:
    """Copy counts from the device to the host: the only place where training waits for the device.

    All tensors, int64 of any shape, travel in one copy.
    """
    assert all(tensor.dtype == torch.int64 for tensor in tensors.values())
    flat = torch.cat([tensor.detach().reshape(-1) for tensor in tensors.values()]).cpu().numpy()
    result: dict[str, npt.NDArray[np.int64]] = {}
    start = 0
    for name, tensor in tensors.items():
        result[name] = flat[start : start + tensor.numel()].reshape(tuple(tensor.shape))
        start += tensor.numel()
    return result
