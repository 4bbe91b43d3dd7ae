"""Batches of features that were computed once: `dataset[key]` takes a `BatchKey` and returns a `Batch`."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from signs_dist.data.batches import Batch
from signs_dist.data.plan import BatchKey


class FeatureBatches(Dataset[Batch]):
    """Batches of stored features. `Batch.images` holds them: float32 [B, …] instead of pixels.

    Args:
        features: float32 [N, …], may be memory-mapped.
        labels: int64 [N].
        digest: SHA-256 (hex) of the file of the features.
    """

    def __init__(self, features: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], digest: str = "") -> None:
        self.features = features
        self.labels = labels
        self.digest = digest

    def __getitem__(self, key: BatchKey) -> Batch:
        features: np.ndarray[Any, np.dtype[np.float32]] = self.features[key.samples]  # a copy, in memory
        return Batch(
            torch.from_numpy(features),
            torch.from_numpy(self.labels[key.samples]),
            torch.from_numpy(key.samples),
            key.epoch,
            key.step,
        )

    def __len__(self) -> int:
        return len(self.labels)
