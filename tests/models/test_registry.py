from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from signs_dist.config.settings import ModelConfig
from signs_dist.errors import UserError
from signs_dist.models import count_parameters, create_model
from signs_dist.models.registry import (
    BUILDERS,
    argument_defaults,
    check_argument_names,
    describe_arguments,
    register,
)


def build(name: str, num_classes: int = 6, image_size: int = 64, **args: Any) -> nn.Module:
    return create_model(ModelConfig(name=name, args=args), num_classes=num_classes, image_size=image_size)


@pytest.mark.parametrize("name", sorted(BUILDERS))
@pytest.mark.parametrize(("num_classes", "image_size"), [(6, 64), (2, 32), (11, 48)])
def test_logits_for_any_classes_and_size(name: str, num_classes: int, image_size: int) -> None:
    model = build(name, num_classes, image_size)
    logits = model(torch.rand(3, 3, image_size, image_size))
    assert logits.shape == (3, num_classes)
    assert logits.dtype == torch.float32
    assert all(tensor.device.type == "cpu" for tensor in model.state_dict().values())


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_the_seed_fixes_the_weights(name: str) -> None:
    weights = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        weights.append(torch.cat([parameter.flatten() for parameter in build(name, image_size=32).parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_it_learns_a_batch_by_heart(name: str) -> None:
    torch.manual_seed(0)
    model = build(name, image_size=32, **({"dropout": 0.2} if name == "signs_net" else {}))
    images, labels = torch.rand(12, 3, 32, 32), torch.arange(12) % 6
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
    with torch.inference_mode():
        assert model(images).argmax(1).eq(labels).float().mean() > 0.9


@pytest.mark.parametrize(
    ("name", "image_size", "args", "message"),
    [
        ("signs_net", 60, {}, "data.image_size=60 does not suit signs_net, which halves the image three times. "
         "Take a multiple of 8, such as 56 or 64."),
        ("signs_fast", 8, {}, "data.image_size=8 is too small for signs_fast. Type data.image_size=16 or more."),
        ("signs_net", 64, {"chanels": 16},
         "model.args.chanels is not an argument of signs_net. signs_net takes channels=32, dropout=0.8."),
        ("signs_net", 64, {"channels": 0}, "model.args.channels=0: input should be greater than or equal to 1."),
        ("signs_net", 64, {"dropout": 1.0}, "model.args.dropout=1.0: input should be less than 1."),
        ("signs_fast", 64, {"width": "32"}, "model.args.width='32': input should be a valid integer."),
        ("mlp", 64, {"hidden": [64, 0]}, "model.args.hidden.1=0: input should be greater than or equal to 1."),
        ("mlp", 64, {"num_classes": 5}, "model.args.num_classes is not an argument of mlp."),
        ("mlp", 64, {"hidden": 64}, "model.args.hidden=64: input should be a valid tuple."),
    ],
)  # fmt: skip
def test_what_it_cannot_do_it_says(name: str, image_size: int, args: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        create_model(ModelConfig(name=name, args=args), num_classes=6, image_size=image_size)
    assert str(caught.value).startswith(message)


def test_one_function_under_register_is_a_new_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("signs_dist.models.registry.BUILDERS", dict(BUILDERS))
    monkeypatch.setattr("signs_dist.models.create.BUILDERS", dict(BUILDERS))

    def tiny(num_classes: int, image_size: int, bias: bool = True) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(3 * image_size**2, num_classes, bias=bias))

    from signs_dist.models import create, registry

    register(tiny)
    monkeypatch.setattr(create, "BUILDERS", registry.BUILDERS)
    assert count_parameters(build("tiny", image_size=8, bias=False))[0] == 192 * 6


def test_the_arguments_of_a_network_are_told_with_their_defaults() -> None:
    def network(num_classes: int, image_size: int, depth: int, width: int = 8) -> nn.Module: ...

    assert describe_arguments("network", argument_defaults(network)) == "network takes depth, width=8."
    assert describe_arguments("network", {}) == "network takes no arguments."
    check_argument_names("network", {"width": 4}, argument_defaults(network))
    with pytest.raises(UserError, match=r"model.args.with is not .* network. network takes depth, width=8."):
        check_argument_names("network", {"with": 4}, argument_defaults(network))
