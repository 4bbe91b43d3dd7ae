"""Gradient checkpointing gives the bits that training without it gives."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from signs_dist.config.settings import ModelConfig
from signs_dist.errors import UserError
from signs_dist.models import create_model, set_training_mode
from signs_dist.models.blocks import block_names
from signs_dist.models.recomputing import recompute_blocks
from signs_dist.models.trainable import thaw

NETWORKS: list[dict[str, Any]] = [
    {"name": "torchvision:resnet18"},
    {"name": "torchvision:resnet18", "freeze": "backbone"},
    {"name": "torchvision:mobilenet_v3_small", "args": {"dropout": 0.5}},
    {"name": "torchvision:convnext_tiny", "drop_path": 0.5},
    {"name": "timm:test_vit", "args": {"proj_drop_rate": 0.3}, "drop_path": 0.3},
    {"name": "timm:test_efficientnet", "drop_path": 0.3},
]


def trained(model: nn.Module, num_steps: int = 2) -> dict[str, Tensor]:
    """Weights, buffers, gradients and torch's generator after some steps."""
    set_training_mode(model)
    optimizer = torch.optim.SGD([each for each in model.parameters() if each.requires_grad], 0.1)
    for seed in range(num_steps):
        torch.manual_seed(seed)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(torch.rand(4, 3, 32, 32)), torch.arange(4)).backward()
        optimizer.step()
    gradients = {f"{name}.grad": each.grad for name, each in model.named_parameters() if each.grad is not None}
    return {**model.state_dict(), **gradients, "generator": torch.get_rng_state()}


@pytest.mark.parametrize("values", NETWORKS, ids=lambda values: "-".join(map(str, values.values())))
def test_the_bits_are_those_without_it(values: dict[str, Any]) -> None:
    if values["name"].startswith("timm:"):
        pytest.importorskip("timm")
    torch.manual_seed(0)
    plain = create_model(ModelConfig.model_validate(values), num_classes=6, image_size=32)
    model = copy.deepcopy(plain)
    recompute_blocks(model, values["name"])
    calls = count_calls(model)
    expected, found = trained(plain), trained(model)
    assert expected.keys() == found.keys()
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []
    is_frozen = values.get("freeze") == "backbone"
    assert max(calls.values()) == (2 if is_frozen else 4)  # of two steps: once, or twice


def count_calls(model: nn.Module) -> dict[str, int]:
    """How often the first layer within each block is called."""
    calls: dict[str, int] = {}
    for name in block_names(model):
        layer = next((each for each in model.get_submodule(name).modules() if not [*each.children()]), None)

        def count(*_: Any, name: str = name) -> None:
            calls[name] = calls.get(name, 0) + 1

        if layer is not None:
            layer.register_forward_hook(count)
    return calls


def test_after_a_thaw_the_backbone_is_computed_again_too() -> None:
    values = {"name": "torchvision:resnet18", "freeze": "backbone"}
    torch.manual_seed(0)
    plain = create_model(ModelConfig.model_validate(values), num_classes=6, image_size=32)
    model = copy.deepcopy(plain)
    recompute_blocks(model, "x")
    for each in (plain, model):
        thaw(each)
    expected, found = trained(plain, 1), trained(model, 1)
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []


def test_a_network_without_blocks_of_several_layers_is_refused() -> None:
    model = create_model(ModelConfig(name="mlp"), num_classes=6, image_size=32)
    with pytest.raises(UserError, match=r"model.gradient_checkpointing=true does nothing for model.name=mlp"):
        recompute_blocks(model, "mlp")


def test_evaluation_computes_each_block_once() -> None:
    model = create_model(ModelConfig(name="torchvision:resnet18"), num_classes=6, image_size=32)
    recompute_blocks(model, "x")
    calls = count_calls(model)
    with torch.no_grad():
        model.eval()(torch.rand(2, 3, 32, 32))
    assert set(calls.values()) == {1}
