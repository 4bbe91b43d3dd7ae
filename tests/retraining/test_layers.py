"""Each layer's output and gradients are given once a pass, as they were before anything changed them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from signs_dist.checkpointing.store import Cursor
from signs_dist.checkpointing.tensors import plain_weights, weights_sha256
from signs_dist.config.settings import ModelConfig
from signs_dist.models import create_model
from signs_dist.models.recomputing import recompute_blocks
from signs_dist.models.trainable import thaw
from signs_dist.retraining.layers import LayerWatch, tensors_in
from tests.training.parts import make_stepper

Given = tuple[int, str, str]
"""(number of the pass, name, direction)."""


@pytest.fixture(autouse=True)
def _torch_as_before() -> Any:
    from signs_dist.distributed.exactness import arithmetic_kept

    with arithmetic_kept():
        yield


class Notes(dict[Given, Tensor]):
    """What a watch gave, in its order; nothing is given twice."""

    def __call__(self, number: int, name: str, direction: str, tensor: Tensor) -> None:
        assert not tensor.requires_grad
        assert (number, name, direction) not in self
        self[number, name, direction] = tensor.clone()

    def names(self, direction: str, number: int = 0) -> list[str]:
        return [name for found, name, where in self if (found, where) == (number, direction)]


class Block(nn.Module):
    """A residual block whose sum no inner layer computes, with an activation that is used twice and in place."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.relu = nn.Linear(4, 4), nn.Linear(4, 4), nn.ReLU(inplace=True)

    def forward(self, values: Tensor) -> Tensor:
        inner = self.relu(self.first(values))
        return values + self.relu(self.second(inner))


def make_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), Block(), nn.Tanh(), nn.Linear(4, 2))


def test_outputs_are_given_in_the_order_of_computing() -> None:
    model, notes = make_network(), Notes()
    with LayerWatch(model, notes):
        model(torch.rand(5, 3)).sum().backward()
    layers = ["0", "1.first", "1.relu", "1.second", "1.relu#2", "1", "2", "3"]
    assert notes.names("forward") == layers
    assert notes.names("backward") == list(reversed(layers))
    parameters = [name for name, _ in model.named_parameters()]
    assert sorted(notes.names("gradient")) == sorted(parameters)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        assert torch.equal(notes[0, name, "gradient"], parameter.grad)


def test_an_output_is_given_before_it_is_changed_in_place() -> None:
    model, notes, images = make_network(), Notes(), torch.rand(5, 3)
    with LayerWatch(model, notes):
        model(images).sum().backward()
    first = notes[0, "1.first", "forward"]
    assert torch.equal(first, model[1].first(notes[0, "0", "forward"]))
    assert (first < 0).any()
    assert torch.equal(notes[0, "1.relu", "forward"], first.clamp(min=0))
    behind = notes[0, "1.relu", "backward"]
    assert torch.equal(notes[0, "1.first", "backward"], torch.where(first > 0, behind, 0.0))


def test_gradients_of_passes_are_apart_though_they_add_up() -> None:
    model, notes = make_network(), Notes()
    with LayerWatch(model, notes):
        for _ in range(2):
            model(torch.rand(5, 3)).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        assert torch.equal(notes[0, name, "gradient"] + notes[1, name, "gradient"], parameter.grad)
    assert notes.names("forward", 0) == notes.names("forward", 1)


def test_nothing_is_given_after_the_block_or_by_a_part_alone() -> None:
    model, notes = make_network(), Notes()
    with LayerWatch(model, notes):
        model[1](torch.rand(5, 4))
    model(torch.rand(5, 3)).sum().backward()
    assert notes.names("forward") == []
    assert notes.names("gradient") == []
    hooks = [each._forward_hooks or each._forward_pre_hooks for each in model.modules()]
    assert not any(hooks)
    assert not any(parameter._backward_hooks for parameter in model.parameters())


def test_a_part_that_is_called_alone_can_be_the_pass() -> None:
    model, notes = make_network(), Notes()
    with LayerWatch(model, notes, part=model[3]):
        model[3](torch.rand(5, 4)).sum().backward()
    assert list(notes) == [
        (0, "3", "forward"),
        (0, "3", "backward"),
        (0, "3.bias", "gradient"),
        (0, "3.weight", "gradient"),
    ]


def test_a_pass_that_fails_ends() -> None:
    model, notes = make_network(), Notes()
    with LayerWatch(model, notes):
        with pytest.raises(RuntimeError, match="shapes"):
            model(torch.rand(5, 9))
        model[1](torch.rand(5, 4))  # no pass
        model(torch.rand(5, 3))
    assert notes.names("forward", 0) == []
    assert len(notes.names("forward", 1)) == 8


def test_a_layer_that_thaws_is_seen_from_then_on() -> None:
    model, notes = create_model(ModelConfig(name="mlp", freeze="backbone"), num_classes=3, image_size=8), Notes()
    images = torch.rand(4, 3, 8, 8)
    with LayerWatch(model, notes):
        model(images).sum().backward()
        thaw(model)
        model(images).sum().backward()
    assert len(notes.names("gradient", 0)) < len(notes.names("gradient", 1)) == len(list(model.parameters()))
    assert notes.names("backward", 0) == notes.names("forward", 0)[-1:]
    assert notes.names("backward", 1) == list(reversed(notes.names("forward", 1)[1:]))  # the first flattens the images


def test_tensors_are_found_in_what_a_module_returns() -> None:
    one, two, three = torch.zeros(1), torch.zeros(2), torch.zeros(3)
    assert list(map(len, tensors_in((one, [two, None], {"logits": three, "text": "a"})))) == [1, 2, 3]


class Several(nn.Module):
    """Its layer returns two tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRU(3, 4, batch_first=True)

    def forward(self, values: Tensor) -> Tensor:
        outputs, last = self.cell(values)
        return outputs[:, -1] + last[0]


def test_an_output_of_several_tensors_is_numbered() -> None:
    model, notes = Several(), Notes()
    with LayerWatch(model, notes):
        model(torch.rand(2, 5, 3)).sum().backward()
    assert notes.names("forward") == ["cell", "cell[1]", "(network)"]
    assert sorted(notes.names("backward")) == ["(network)", "cell", "cell[1]"]


NETWORKS: list[dict[str, Any]] = [
    {"name": "torchvision:resnet18"},
    {"name": "torchvision:mobilenet_v3_small", "args": {"dropout": 0.5}},
    {"name": "timm:test_vit", "args": {"proj_drop_rate": 0.3}, "drop_path": 0.3},
]


@pytest.mark.parametrize("values", NETWORKS, ids=lambda values: values["name"])
@pytest.mark.parametrize("recomputed", [False, True], ids=["kept", "recomputed"])
def test_watching_changes_no_bits_and_sees_each_output_once(values: dict[str, Any], recomputed: bool) -> None:
    if values["name"].startswith("timm:"):
        pytest.importorskip("timm")
    torch.manual_seed(0)
    plain = create_model(ModelConfig.model_validate(values), num_classes=6, image_size=32)
    model, notes = copy.deepcopy(plain), Notes()
    if recomputed:
        recompute_blocks(model, values["name"])
    expected = train_a_step(plain)
    with LayerWatch(model, notes):
        assert train_a_step(model) == expected
    reference = Notes()
    with LayerWatch(plain, reference):
        train_a_step(plain)
    assert set(reference) == set(notes)
    assert set(notes.names("gradient")) == {name for name, _ in model.named_parameters()}
    assert set(notes.names("backward")) == set(notes.names("forward"))


def train_a_step(model: nn.Module) -> str:
    torch.manual_seed(1)
    model.train()
    model.zero_grad(set_to_none=True)
    nn.functional.cross_entropy(model(torch.rand(4, 3, 32, 32)), torch.arange(4)).backward()
    gradients = {name: each.grad for name, each in model.named_parameters() if each.grad is not None}
    return weights_sha256({**gradients, **{f"after.{name}": each for name, each in model.state_dict().items()}})


@pytest.mark.parametrize("exact", [False, True], ids=["fast", "exact"])
def test_the_steps_of_a_run_are_watched(exact: bool, tmp_path: Path) -> None:
    settings = (f"exact={str(exact).lower()}", "train.micro_batch=2", "optim.clip_norm=1", "model.name=signs_net")
    watched, _ = make_stepper(tmp_path, *settings)
    plain, _ = make_stepper(tmp_path, *settings)
    notes = Notes()
    with LayerWatch(watched.state.model, notes):
        for _ in range(2):
            steps = watched.steps(Cursor(0, 0))
            next(steps)
            steps.close()  # type: ignore[attr-defined]
            steps = plain.steps(Cursor(0, 0))
            next(steps)
            steps.close()  # type: ignore[attr-defined]
    digests = [weights_sha256(plain_weights(each.state.model)) for each in (watched, plain)]
    assert digests[0] == digests[1]
    assert {number for number, _, _ in notes} == set(range(8))  # two steps of four micro-batches
    assert all(set(notes.names("gradient", number)) == set(notes.names("gradient")) for number in range(8))
