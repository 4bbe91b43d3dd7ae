"""Compute the user's own metrics from the predictions of all processes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch

from signs_dist.distributed.strategy import SingleProcess
from signs_dist.learning.own_parts import Metric, compute_metrics


def compute_on_main(
    metrics: Mapping[str, Metric],
    probabilities: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    strategy: SingleProcess,
) -> dict[str, float]:
    """The value of each metric, computed on rank 0 and the same on all processes. All processes call this.

    Args:
        metrics: by name.
        probabilities: float32 [n, C] of this process's images. One process after the other, they are the split.
        labels: int64 [N] of all images of the split.
        strategy: brings the processes together.

    Raises:
        UserError: on all processes, if a metric fails or gives no number.
    """
    parts: list[npt.NDArray[np.float32]] = strategy.gather_values(probabilities, "gather predictions")

    def compute() -> dict[str, float]:
        if not strategy.is_main:
            return {}
        whole = np.concatenate(parts)
        assert len(whole) == len(labels)
        return compute_metrics(metrics, torch.from_numpy(whole), torch.from_numpy(labels.copy()))

    values = strategy.all_succeed(compute, "compute evaluate.metrics")
    shared: dict[str, float] = strategy.share_value(values, "share evaluate.metrics")
    return shared
