from __future__ import annotations

import math

import pytest
import torch

from signs_dist.config.settings import LossConfig
from signs_dist.learning.losses import build_loss

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.0, 0.0, 0.0]])
LABELS = torch.tensor([0, 2])
PROBABILITIES = LOGITS.softmax(1).tolist()


def softplus(value: float) -> float:
    return math.log1p(math.exp(value))


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (LossConfig(label_smoothing=0.0), [-math.log(PROBABILITIES[0][0]), math.log(3)]),
        (
            LossConfig(label_smoothing=0.3),
            [-0.8 * math.log(PROBABILITIES[0][0]) - 0.1 * sum(map(math.log, PROBABILITIES[0][1:])), math.log(3)],
        ),
        (
            LossConfig(name="bce", label_smoothing=0.0),
            [(softplus(-2) + softplus(0) + softplus(-1)) / 3, math.log(2)],
        ),
        (
            # Targets 0.8, 0.1, 0.1: the cross entropy of a logit x with target t is softplus(x) - t x.
            LossConfig(name="bce", label_smoothing=0.3),
            [(softplus(2) - 1.6 + softplus(0) + softplus(-1) + 0.1) / 3, math.log(2)],
        ),
        (
            LossConfig(name="mse"),
            [sum((p - t) ** 2 for p, t in zip(PROBABILITIES[0], (1, 0, 0), strict=True)) / 3, (1 + 1 + 4) / 27],
        ),
        (
            LossConfig(name="l1"),
            [sum(abs(p - t) for p, t in zip(PROBABILITIES[0], (1, 0, 0), strict=True)) / 3, (1 + 1 + 2) / 9],
        ),
    ],
)
def test_one_loss_per_image(config: LossConfig, expected: list[float]) -> None:
    losses = build_loss(config, num_classes=3)(LOGITS, LABELS)
    assert losses.tolist() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", ["cross_entropy", "bce", "mse", "l1"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_the_arithmetic_is_float32_whatever_the_logits(name: str, dtype: torch.dtype) -> None:
    loss = build_loss(LossConfig.model_validate({"name": name}), num_classes=3)
    losses = loss(LOGITS.to(dtype), LABELS)
    assert losses.dtype == torch.float32
    assert torch.equal(losses, loss(LOGITS, LABELS))  # these logits are exact in every type


@pytest.mark.parametrize("name", ["cross_entropy", "bce", "mse", "l1"])
def test_autocast_does_not_lower_it(name: str) -> None:
    loss = build_loss(LossConfig.model_validate({"name": name}), num_classes=3)
    with torch.autocast("cpu", torch.bfloat16):
        losses = loss(LOGITS, LABELS)
    assert losses.dtype == torch.float32
    assert torch.equal(losses, loss(LOGITS, LABELS))


@pytest.mark.parametrize("name", ["cross_entropy", "bce", "mse", "l1"])
def test_following_the_gradient_finds_the_labels(name: str) -> None:
    loss = build_loss(LossConfig.model_validate({"name": name}), num_classes=3)
    logits = torch.zeros(2, 3, requires_grad=True)
    optimizer = torch.optim.SGD([logits], lr=1.0)
    for _ in range(20):
        optimizer.zero_grad()
        loss(logits, LABELS).sum().backward()
        optimizer.step()
    assert logits.argmax(1).tolist() == LABELS.tolist()
