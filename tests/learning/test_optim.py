from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from signs_dist.config.settings import OptimConfig
from signs_dist.learning.optim import (
    begin_momentum,
    build_optimizer,
    clip_gradients,
    optimizer_of_groups,
    set_learning_rate,
)

NAMES = ["sgd", "adam", "adamw", "adagrad", "rmsprop"]


def small_model() -> nn.Sequential:
    # No bias before BatchNorm: its gradient is rounding noise, which Adam would blow up.
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))


def config(**values: Any) -> OptimConfig:
    return OptimConfig.model_validate(values)


@pytest.mark.parametrize("name", NAMES)
def test_each_is_torch_s_own_and_learns(name: str) -> None:
    model = small_model()
    optimizer = build_optimizer(model, config(name=name, lr=0.01))
    assert type(optimizer).__name__.lower() == name
    images, labels = torch.randn(16, 3, 4, 4), torch.arange(16) % 2
    losses = []
    for _ in range(20):
        loss = nn.functional.cross_entropy(model(images), labels)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"name": "sgd"}, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
        ({"name": "sgd", "momentum": 0.0}, {"momentum": 0.0, "nesterov": False}),
        ({"name": "sgd", "nesterov": False}, {"momentum": 0.9, "nesterov": False}),
        ({"name": "adam", "lr": 1e-3}, {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8}),
        ({"name": "adamw", "betas": [0.8, 0.9], "eps": 1e-5}, {"betas": (0.8, 0.9), "eps": 1e-5}),
        ({"name": "adagrad"}, {"eps": 1e-10}),
        ({"name": "rmsprop"}, {"alpha": 0.99, "momentum": 0.0}),
        ({"name": "rmsprop", "alpha": 0.9, "momentum": 0.5}, {"alpha": 0.9, "momentum": 0.5}),
    ],
)
def test_settings_reach_the_optimizer(values: dict[str, Any], expected: dict[str, Any]) -> None:
    for group in build_optimizer(small_model(), config(**values)).param_groups:
        assert {key: group[key] for key in expected} == expected


@pytest.mark.parametrize("name", NAMES)
def test_norms_and_biases_do_not_decay_unless_asked(name: str) -> None:
    model = small_model()
    decaying, others = build_optimizer(model, config(name=name, weight_decay=0.01)).param_groups
    assert [parameter.ndim for parameter in decaying["params"]] == [4, 2]
    assert [parameter.ndim for parameter in others["params"]] == [1, 1, 1]
    assert (decaying["weight_decay"], others["weight_decay"]) == (0.01, 0.0)
    (all_of_them,) = build_optimizer(
        model, config(name=name, weight_decay=0.01, decay_norms_and_biases=True)
    ).param_groups
    assert len(all_of_them["params"]) == 5
    assert all_of_them["weight_decay"] == 0.01


def test_only_what_trains_is_there_and_no_group_is_empty() -> None:
    model = small_model()
    model.requires_grad_(False)
    model[4].bias.requires_grad_(True)
    (group,) = build_optimizer(model, config()).param_groups
    assert group["params"] == [model[4].bias]
    assert group["weight_decay"] == 0.0


@pytest.mark.parametrize("name", NAMES)
def test_the_fused_form_takes_the_same_step(name: str) -> None:
    """One kernel per step or one per tensor: the same arithmetic up to rounding."""
    results = []
    for fused in (True, False):
        model = small_model()
        optimizer = build_optimizer(model, config(name=name, lr=0.01))
        if not fused:
            for group in optimizer.param_groups:
                group["fused"] = None
                group["foreach"] = False
        for step in range(3):
            torch.manual_seed(step)
            optimizer.zero_grad()
            model(torch.randn(8, 3, 4, 4)).square().mean().backward()
            optimizer.step()
        results.append(torch.cat([parameter.detach().flatten() for parameter in model.parameters()]))
    assert torch.allclose(*results, rtol=1e-4, atol=1e-6)


def test_where_no_fused_kernel_exists_the_plain_one_is_used() -> None:
    model = small_model().to("meta")
    assert build_optimizer(model, config(name="sgd")).param_groups[0]["fused"] is False
    assert build_optimizer(small_model(), config(name="sgd")).param_groups[0]["fused"] is True


@pytest.mark.parametrize(("max_norm", "after"), [(1.0, 1.0), (100.0, 5.0)])
def test_clipping_shortens_long_gradients_only(max_norm: float, after: float) -> None:
    parameters = [nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1, 1)), nn.Parameter(torch.zeros(2))]
    parameters[0].grad = torch.tensor([3.0])
    parameters[1].grad = torch.tensor([[4.0]])
    norm = clip_gradients(parameters, max_norm)
    assert norm.item() == 5.0
    assert torch.stack([parameters[0].grad[0], parameters[1].grad[0, 0]]).norm().item() == pytest.approx(after)


def test_the_learning_rate_reaches_every_group() -> None:
    optimizer = build_optimizer(small_model(), config())
    set_learning_rate(optimizer, 0.025)
    assert [group["lr"] for group in optimizer.param_groups] == [0.025, 0.025]


def test_momentum_begins_at_zero_where_the_scaler_skips_the_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with float16, whose first scale is often too large. New memory holds NaN here."""
    monkeypatch.setattr(torch, "empty_like", lambda tensor: torch.full_like(tensor, math.nan))
    weight = nn.Parameter(torch.zeros(300))
    chosen = config(name="sgd", lr=0.5, momentum=0.5, nesterov=False, weight_decay=0)
    optimizer = optimizer_of_groups([{"params": [weight]}], chosen)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    for factor in (math.inf, 1.0, 1.0):
        optimizer.zero_grad()
        scaler.scale(weight.sum() * factor).backward()
        begin_momentum(optimizer)
        scaler.step(optimizer)
        scaler.update()
    assert weight.tolist() == [-(0.5 * 1 + 0.5 * 1.5)] * 300
