from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from signs_dist.config.settings import ModelConfig
from signs_dist.errors import UserError
from signs_dist.models import count_parameters, create_model, freeze_backbone, require_trainable, set_training_mode
from signs_dist.models.trainable import frozen_parameters, head_names, thaw

NAMES = ["signs_net", "mlp", "signs_fast", "torchvision:vgg11_bn", "torchvision:squeezenet1_1"]
HEADS = {
    "signs_net": "head",
    "mlp": "5",
    "signs_fast": "head",
    "torchvision:vgg11_bn": "classifier.6",
    "torchvision:squeezenet1_1": "classifier.1",
}


def frozen(name: str) -> nn.Module:
    config = ModelConfig.model_validate({"name": name, "freeze": "backbone"})
    return create_model(config, num_classes=6, image_size=64)


@pytest.mark.parametrize("name", NAMES)
def test_only_the_head_trains(name: str) -> None:
    model = frozen(name)
    trainable = {key for key, parameter in model.named_parameters() if parameter.requires_grad}
    assert trainable == {f"{HEADS[name]}.weight", f"{HEADS[name]}.bias"}
    total, count = count_parameters(model)
    assert count == sum(parameter.numel() for parameter in model.get_submodule(HEADS[name]).parameters()) < total


@pytest.mark.parametrize("name", ["signs_net", "signs_fast"])
@pytest.mark.parametrize("wrap", [lambda model: model, nn.DataParallel, copy.deepcopy])
def test_training_moves_the_head_and_nothing_else(name: str, wrap: Any) -> None:
    model = wrap(frozen(name))
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD([each for each in model.parameters() if each.requires_grad], 0.1)
    set_training_mode(model)
    for _ in range(2):
        nn.functional.cross_entropy(model(torch.rand(4, 3, 64, 64)), torch.tensor([0, 1, 2, 3])).backward()
        optimizer.step()
    changed = {key for key, tensor in model.state_dict().items() if not torch.equal(tensor, before[key])}
    assert {key.removeprefix("module.") for key in changed} == {"head.weight", "head.bias"}


def test_a_frozen_backbone_gives_the_same_features_twice() -> None:
    """Dropout of the frozen part is off, so training logits are those of evaluation."""
    model = frozen("signs_net")
    images = torch.rand(4, 3, 64, 64)
    set_training_mode(model)
    training = model(images)
    assert model.training
    assert torch.equal(training, model.eval()(images))


def test_without_freezing_everything_is_in_training_mode() -> None:
    model = create_model(ModelConfig(name="signs_net"), num_classes=6, image_size=64).eval()
    set_training_mode(model)
    assert all(module.training for module in model.modules())


def test_freezing_leaves_the_names_plain() -> None:
    plain = create_model(ModelConfig(name="signs_fast"), num_classes=6, image_size=64)
    assert frozen("signs_fast").state_dict().keys() == plain.state_dict().keys()


def test_nothing_left_to_train_is_an_error() -> None:
    model = frozen("signs_fast")
    require_trainable(model)
    model.requires_grad_(False)
    with pytest.raises(UserError, match=r"no parameter is trainable: all [\d,]+ parameters of the model are frozen"):
        require_trainable(model)


def test_a_network_without_a_head_cannot_be_frozen() -> None:
    with pytest.raises(UserError, match="finds no head in this network"):
        freeze_backbone(nn.Sequential(nn.BatchNorm2d(3), nn.Flatten()))


class TwoHeads(nn.Module):
    """With heads that it names itself, one of several layers, and a constant that never trains."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 4)  # not the head, for all its name
        self.norm = nn.BatchNorm1d(4)
        self.first = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 2))
        self.second = nn.Linear(4, 2)
        self.norm.bias.requires_grad_(False)

    def get_classifier(self) -> tuple[nn.Module, ...]:
        return self.first, self.second


def test_a_network_names_its_heads_itself_and_their_layers_train() -> None:
    model = TwoHeads()
    assert head_names(model) == ("first", "second")
    freeze_backbone(model)
    set_training_mode(model)
    assert [name for name, module in model.named_modules() if not module.training] == ["head", "norm"]
    assert frozen_parameters(model) == ("head.weight", "head.bias", "norm.weight")


@pytest.mark.parametrize("wrap", [lambda model: model, copy.deepcopy])
def test_a_thaw_restores_what_was_trainable(wrap: Any) -> None:
    model = TwoHeads()
    before = [parameter.requires_grad for parameter in model.parameters()]
    freeze_backbone(model)
    model = wrap(model)
    thaw(model)
    set_training_mode(model)
    assert [parameter.requires_grad for parameter in model.parameters()] == before
    assert all(module.training for module in model.modules())
    assert frozen_parameters(model) == ()
