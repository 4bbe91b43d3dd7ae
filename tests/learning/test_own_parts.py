from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from signs_dist.config.settings import LossConfig, OptimConfig, ScheduleConfig
from signs_dist.errors import UserError
from signs_dist.learning.losses import build_loss
from signs_dist.learning.optim import build_optimizer
from signs_dist.learning.own_parts import build_metrics, build_own_schedule, compute_metrics
from tests.own_modules import module_writer

SOURCE = """
import torch
import torch.nn.functional as F

def powered(num_classes, power=1.0):
    return lambda logits, labels: F.cross_entropy(logits, labels, reduction="none") ** power / num_classes

def weighted():
    return torch.nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0]), reduction="none")

def optimizer(groups, lr, weight_decay, momentum=0.0):
    return torch.optim.SGD(groups, lr=lr, weight_decay=weight_decay, momentum=momentum)

def falling(to=0.0):
    return lambda seen, total, per_epoch: 1 - (1 - to) * seen / total

def broken_late():
    return lambda seen, total, per_epoch: 1.0 if seen < 50 else float("nan")

def top2(num_classes):
    def metric(probabilities, labels):
        return (probabilities.topk(2).indices == labels[:, None]).any(1).double().mean()
    return metric
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    return module_writer(tmp_path, monkeypatch)(SOURCE)


def test_a_loss_gets_float32_logits_its_arguments_and_the_number_of_classes(module: str) -> None:
    loss = build_loss(LossConfig(name=f"{module}:powered", args={"power": 2.0}), 3)
    logits, labels = torch.randn(4, 3).to(torch.bfloat16), torch.tensor([0, 1, 2, 0])
    expected = nn.functional.cross_entropy(logits.float(), labels, reduction="none") ** 2 / 3
    assert loss(logits, labels).dtype == torch.float32
    assert torch.equal(loss(logits, labels), expected)


def test_a_module_may_be_the_loss(module: str) -> None:
    loss = build_loss(LossConfig(name=f"{module}:weighted"), 3)
    logits, labels = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    expected = nn.functional.cross_entropy(logits, labels, reduction="none") * torch.tensor([1.0, 2.0, 3.0, 1.0])
    assert torch.allclose(loss(logits, labels), expected)


def test_an_optimizer_gets_groups_with_their_weight_decay(module: str) -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    config = OptimConfig(name=f"{module}:optimizer", lr=0.3, weight_decay=0.1, args={"momentum": 0.8})
    optimizer = build_optimizer(model, config)
    assert [(group["weight_decay"], group["momentum"], group["lr"]) for group in optimizer.param_groups] == [
        (0.1, 0.8, 0.3),
        (0.0, 0.8, 0.3),
    ]
    assert [len(group["params"]) for group in optimizer.param_groups] == [1, 3]


def test_an_optimizer_of_torch_by_its_path() -> None:
    optimizer = build_optimizer(nn.Linear(2, 2), OptimConfig(name="torch.optim:NAdam"))
    assert type(optimizer) is torch.optim.NAdam


def test_a_schedule(module: str) -> None:
    schedule = build_own_schedule(ScheduleConfig(name=f"{module}:falling", args={"to": 0.5}))
    assert [schedule(seen, 100, 50) for seen in (0, 50, 100)] == [1.0, 0.75, 0.5]


def test_a_factor_that_is_not_finite_is_refused_when_it_comes(module: str) -> None:
    schedule = build_own_schedule(ScheduleConfig(name=f"{module}:broken_late"))
    assert schedule(49, 100, 10) == 1.0
    with pytest.raises(UserError, match=r"broken_late gives nan for images_seen=50, images_total=100"):
        schedule(50, 100, 10)


def test_metrics_by_the_names_of_their_functions(module: str) -> None:
    metrics = build_metrics([f"{module}:top2"], 3)
    probabilities = torch.tensor([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2]])
    assert compute_metrics(metrics, probabilities, torch.tensor([1, 2])) == {"top2": 0.5}
    assert build_metrics([], 3) == {}
