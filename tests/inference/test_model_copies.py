"""Copies of a model for threads: which modules are their own, and what they share."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from signs_dist.inference.exported_model import ExportedModel, ModuleRun
from signs_dist.inference.model_copies import choose_num_copies, copy_model
from tests.inference.exports import make_record


@pytest.mark.parametrize(
    ("device_type", "num_threads", "num_together", "num_copies"),
    [
        ("cpu", 2, 64, 2),
        ("cpu", 8, 64, 8),
        ("cpu", 16, 64, 1),  # in sixteenths, the parts were too small
        ("cpu", 2, 15, 1),
        ("cpu", 1, 64, 1),
        ("cuda", 8, 64, 1),
    ],
)
def test_how_many(device_type: str, num_threads: int, num_together: int, num_copies: int) -> None:
    assert choose_num_copies(device_type, num_threads, num_together) == num_copies


class Remembers(nn.Module):
    """A network that keeps something of a forward pass on itself."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 3)
        self.norm = nn.BatchNorm1d(3)
        self.seen: Any = None

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.seen = images
        logits = self.norm(self.linear(self.seen))
        return logits, logits.softmax(dim=1)


def exported(network: nn.Module) -> ExportedModel:
    cpu = torch.device("cpu")
    return ExportedModel(Path("model.pt2"), make_record(), cpu, ModuleRun(network.eval(), cpu))


def test_copies_share_the_weights_and_no_module() -> None:
    network = Remembers()
    runs = [copy.run for copy in copy_model(exported(network), 2)]
    assert all(isinstance(run, ModuleRun) for run in runs)
    first, second = (run.module for run in runs if isinstance(run, ModuleRun))
    assert len({network, first, second}) == 3
    for name, tensor in network.state_dict().items():
        assert {module.state_dict()[name].data_ptr() for module in (first, second)} == {tensor.data_ptr()}
    runs[0](torch.ones(4, 2))
    assert [module.seen is None for module in (first, second)] == [False, True]
    assert torch.equal(runs[1](torch.ones(4, 2)), runs[0](torch.ones(4, 2)))


def test_a_model_that_cannot_be_copied_computes_alone() -> None:
    locked = Remembers()
    locked.seen = threading.Lock()
    model = exported(locked)
    assert copy_model(model, 2) == [model]
    in_onnx = dataclasses.replace(model, run=lambda images: images)
    assert copy_model(in_onnx, 2) == [in_onnx]
