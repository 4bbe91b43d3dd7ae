from __future__ import annotations

import numpy as np
import pytest
import torch

from signs_dist.distributed.strategy import SingleProcess
from signs_dist.errors import UserError
from signs_dist.training.own_metrics import compute_on_main


class TwoProcesses(SingleProcess):
    """Rank 0 of two processes, whose rank 1 has the rest of the split."""

    def __init__(self, rest: np.ndarray) -> None:
        super().__init__(torch.device("cpu"))
        self.rest = rest

    def gather_values(self, value: object, phase: str) -> list[object]:
        return [value, self.rest]


def test_metrics_see_each_image_once_in_the_order_of_the_split() -> None:
    rows = np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 2]]
    seen = {}

    def keep(probabilities: torch.Tensor, labels: torch.Tensor) -> float:
        seen["probabilities"], seen["labels"] = probabilities, labels
        return float((probabilities.argmax(1) == labels).float().mean())

    labels = np.array([0, 1, 2, 0, 1])
    assert compute_on_main({"hits": keep}, rows[:2], labels, TwoProcesses(rows[2:])) == {"hits": pytest.approx(0.8)}
    assert seen["probabilities"].numpy().tolist() == rows.tolist()
    assert seen["labels"].dtype == torch.int64
    assert seen["labels"].tolist() == labels.tolist()


def test_a_metric_cannot_change_what_the_next_one_sees() -> None:
    def spoil(probabilities: torch.Tensor, labels: torch.Tensor) -> float:
        probabilities.zero_()
        labels.zero_()
        return 0.0

    def total(probabilities: torch.Tensor, labels: torch.Tensor) -> float:
        return float(probabilities.sum() + labels.sum())

    rows, labels = np.eye(2, dtype=np.float32), np.array([0, 1])
    values = compute_on_main({"spoil": spoil, "total": total}, rows, labels, SingleProcess(torch.device("cpu")))
    assert values == {"spoil": 0.0, "total": 3.0}


def test_an_error_of_a_metric_is_raised() -> None:
    def broken(probabilities: torch.Tensor, labels: torch.Tensor) -> float:
        raise UserError("evaluate.metrics=a:broken fails")

    with pytest.raises(UserError, match="a:broken fails"):
        compute_on_main(
            {"broken": broken}, np.eye(2, dtype=np.float32), np.array([0, 1]), SingleProcess(torch.device("cpu"))
        )
