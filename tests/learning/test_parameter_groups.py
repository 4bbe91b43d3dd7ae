from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from signs_dist.config.settings import OptimConfig
from signs_dist.errors import UserError
from signs_dist.learning.optim import build_optimizer, set_learning_rate
from signs_dist.learning.parameter_groups import parameter_groups
from signs_dist.models.trainable import freeze_backbone, thaw


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4)
        self.body = nn.Linear(4, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.body(self.norm(self.stem(values))))
        return logits


def config(**values: Any) -> OptimConfig:
    return OptimConfig.model_validate({"lr": 0.1, "weight_decay": 0.01, **values})


def settings_by_name(model: nn.Module, optim: OptimConfig, *, thaws: bool = False) -> dict[str, tuple[float, float]]:
    """(learning rate at half of the schedule, weight decay) of each parameter in the optimizer."""
    optimizer = build_optimizer(model, optim, thaws=thaws)
    set_learning_rate(optimizer, optim.lr / 2)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        names[id(parameter)]: (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, {"stem.weight": (0.05, 0.01), "stem.bias": (0.05, 0.0), "norm.weight": (0.05, 0.0)}),
        ({"groups": [{"match": "head.*", "lr": 1.0}]},
         {"head.weight": (0.5, 0.01), "head.bias": (0.5, 0.0), "body.weight": (0.05, 0.01)}),
        ({"groups": [{"match": "*.bias", "lr": 0.2}, {"match": "head.*", "lr": 1.0, "weight_decay": 0.5}]},
         {"head.bias": (0.1, 0.0), "head.weight": (0.5, 0.5), "stem.bias": (0.1, 0.0)}),
        ({"groups": [{"match": "*", "weight_decay": 0.3}], "decay_norms_and_biases": True},
         {"head.bias": (0.05, 0.3), "norm.weight": (0.05, 0.3)}),
        ({"layer_decay": 0.5},
         {"stem.weight": (0.0125, 0.01), "norm.bias": (0.0125, 0.0), "body.bias": (0.025, 0.0),
          "head.weight": (0.05, 0.01)}),
        ({"layer_decay": 0.5, "groups": [{"match": "stem.*", "lr": 0.3}, {"match": "body.*", "weight_decay": 0.0}]},
         {"stem.weight": (0.15, 0.01), "body.weight": (0.025, 0.0), "head.weight": (0.05, 0.01)}),
    ],
)  # fmt: skip
def test_rate_and_decay_of_each_parameter(values: dict[str, Any], expected: dict[str, tuple[float, float]]) -> None:
    found = settings_by_name(Net(), config(**values))
    assert len(found) == 8
    assert {name: found[name] for name in expected} == {
        name: pytest.approx(pair, abs=1e-12) for name, pair in expected.items()
    }


def test_the_default_groups_have_no_entry_of_their_own() -> None:
    assert [set(group) for group in parameter_groups(Net(), config())] == [{"params"}, {"params", "weight_decay"}]


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([{"match": "heda.*", "lr": 1.0}],
         "optim.groups entry 1: heda.* matches no parameter that trains. Names: stem.weight, stem.bias, norm.weight, "),
        ([{"match": "*", "lr": 1.0}, {"match": "head.*", "lr": 0.1}],
         "optim.groups entry 2: head.* matches parameters of earlier entries only."),
    ],
)  # fmt: skip
def test_an_entry_that_decides_nothing_is_refused(groups: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(UserError) as caught:
        parameter_groups(Net(), config(groups=groups))
    assert message in str(caught.value)


def test_rates_and_decays_do_not_change_which_parameter_is_in_which_group() -> None:
    """A resumed run gives the optimizer's state by the place of a parameter in its group."""
    model = Net()
    places = [
        [[id(each) for each in group["params"]] for group in parameter_groups(model, config(**values))]
        for values in (
            {"groups": [{"match": "head.*", "lr": 0.1}], "layer_decay": 1.0},
            {"groups": [{"match": "head.*", "lr": 5.0, "weight_decay": 0.01}], "layer_decay": 0.5, "weight_decay": 0.0},
        )
    ]
    assert places[0] == places[1]


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "adagrad", "rmsprop"])
@pytest.mark.parametrize("fused", [True, False])
def test_what_thaws_is_in_the_optimizer_from_the_start_and_moves_after_the_thaw(name: str, fused: bool) -> None:
    model = Net()
    freeze_backbone(model)
    optimizer = build_optimizer(model, config(name=name), thaws=True)
    for group in optimizer.param_groups:
        group["fused"] = fused and bool(group.get("fused"))
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 8
    moved = []
    for is_thawed in (False, True):
        if is_thawed:
            thaw(model)
        before = {key: parameter.detach().clone() for key, parameter in model.named_parameters()}
        optimizer.zero_grad()
        model(torch.randn(8, 4)).square().sum().backward()
        optimizer.step()
        moved.append({key for key, each in model.named_parameters() if not torch.equal(each, before[key])})
    assert moved[0] == {"head.weight", "head.bias"}
    assert {"stem.weight", "body.weight", "norm.weight", "head.weight"} <= moved[1]
