from __future__ import annotations

import random

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn

from signs_dist.distributed.exactness import require_deterministic_kernels
from signs_dist.errors import UserError
from signs_dist.models.determinism import find_unstable_layer, unstable_on_cuda


@pytest.mark.parametrize(
    ("layer", "is_unstable"),
    [
        (nn.AdaptiveAvgPool2d(1), False),
        (nn.AdaptiveAvgPool2d((1, 1)), False),
        (nn.AdaptiveAvgPool2d((7, 7)), True),
        (nn.AdaptiveMaxPool2d(1), True),
        (nn.Upsample(scale_factor=2, mode="nearest"), False),
        (nn.Upsample(scale_factor=2, mode="bilinear"), True),
        (nn.EmbeddingBag(3, 3, mode="max"), True),
        (nn.EmbeddingBag(3, 3, mode="mean"), False),
        (nn.ReflectionPad2d(1), True),
        (nn.ReplicationPad2d(1), False),
        (nn.MaxPool2d(2), False),
    ],
)
def test_layers_without_a_deterministic_kernel(layer: nn.Module, is_unstable: bool) -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 3), layer)
    assert unstable_on_cuda(model) == ([f"1 ({type(layer).__name__})"] if is_unstable else [])
    require_deterministic_kernels(model, "cpu")
    if is_unstable:
        with pytest.raises(UserError, match=rf"exact=true does not work with 1 \({type(layer).__name__}\)"):
            require_deterministic_kernels(model, "cuda")


def test_a_resnet_is_fine_on_cuda() -> None:
    model = torchvision.models.resnet18()
    assert unstable_on_cuda(model) == []
    require_deterministic_kernels(model, "cuda")


class Noise(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        return values * (1 + random.random())


def model_with(layer: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), layer, nn.Linear(4, 2))


def find(model: nn.Module) -> str:
    images = torch.ones(3, 4) * torch.arange(3)[:, None]

    def compute_loss() -> Tensor:
        torch.manual_seed(5)
        total: Tensor = model(images).square().sum()
        return total

    return find_unstable_layer(model, compute_loss)


def test_a_layer_that_draws_from_elsewhere_is_named() -> None:
    assert find(model_with(Noise())) == "2"
    assert find(model_with(nn.Dropout(0.5))) == ""


def test_the_check_leaves_the_model_as_it_was() -> None:
    model = model_with(nn.Dropout(0.5))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    find(model)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


class NoisyWhole(nn.Module):
    """A network that is one layer, without any below it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, values: Tensor) -> Tensor:
        return values * self.weight * random.random()


def test_a_network_without_layers_is_looked_at_too() -> None:
    model = NoisyWhole()
    assert find_unstable_layer(model, lambda: model(torch.ones(3)).sum()) == "the network"


class NumpyNoise(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        return values + float(np.random.rand())


def test_a_layer_that_draws_from_numpy_is_named() -> None:
    model = nn.Sequential(nn.Linear(3, 3), NumpyNoise(), nn.Linear(3, 1))
    assert find_unstable_layer(model, lambda: model(torch.ones(3)).sum()) == "1"
