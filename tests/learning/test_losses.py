from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from signs_dist.config.settings import LossConfig
from signs_dist.learning.losses import build_evaluation_loss, build_loss

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.0, 0.0, 0.0]])
LABELS = torch.tensor([0, 2])
PROBABILITIES = LOGITS.softmax(1).tolist()
NAMES = ["cross_entropy", "focal", "bce", "mse", "l1"]


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
            LossConfig(name="focal"),
            [-((1 - PROBABILITIES[0][0]) ** 2) * math.log(PROBABILITIES[0][0]), (2 / 3) ** 2 * math.log(3)],
        ),
        (
            LossConfig(name="focal", focal_gamma=0.5, label_smoothing=0.3),
            [
                -sum(
                    target * (1 - p) ** 0.5 * math.log(p)
                    for target, p in zip((0.8, 0.1, 0.1), PROBABILITIES[0], strict=True)
                ),
                (2 / 3) ** 0.5 * math.log(3),
            ],
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


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_the_arithmetic_is_float32_whatever_the_logits(name: str, dtype: torch.dtype) -> None:
    loss = build_loss(LossConfig.model_validate({"name": name}), num_classes=3)
    losses = loss(LOGITS.to(dtype), LABELS)
    assert losses.dtype == torch.float32
    assert torch.equal(losses, loss(LOGITS, LABELS))  # these logits are exact in every type


@pytest.mark.parametrize("name", NAMES)
def test_autocast_does_not_lower_it(name: str) -> None:
    loss = build_loss(LossConfig.model_validate({"name": name}), num_classes=3)
    with torch.autocast("cpu", torch.bfloat16):
        losses = loss(LOGITS, LABELS)
    assert losses.dtype == torch.float32
    assert torch.equal(losses, loss(LOGITS, LABELS))


@pytest.mark.parametrize("name", NAMES)
def test_following_the_gradient_finds_the_labels(name: str) -> None:
    loss = build_loss(LossConfig.model_validate({"name": name}), num_classes=3)
    logits = torch.zeros(2, 3, requires_grad=True)
    optimizer = torch.optim.SGD([logits], lr=1.0)
    for _ in range(20):
        optimizer.zero_grad()
        loss(logits, LABELS).sum().backward()
        optimizer.step()
    assert logits.argmax(1).tolist() == LABELS.tolist()


@pytest.mark.parametrize("name", NAMES)
def test_labels_are_the_probabilities_0_and_1(name: str) -> None:
    loss = build_loss(LossConfig.model_validate({"name": name}), num_classes=3)
    torch.testing.assert_close(loss(LOGITS, F.one_hot(LABELS, 3).float()), loss(LOGITS, LABELS))


@pytest.mark.parametrize("name", ["cross_entropy", "focal"])
def test_the_loss_of_a_mixed_image_is_the_mixture_of_its_losses(name: str) -> None:
    loss = build_loss(LossConfig.model_validate({"name": name, "label_smoothing": 0.1}), num_classes=3)
    mixed = torch.tensor([[0.7, 0.3, 0.0], [0.0, 0.4, 0.6]])
    expected = 0.7 * loss(LOGITS, torch.tensor([0, 0])), 0.3 * loss(LOGITS, torch.tensor([1, 1]))
    assert loss(LOGITS, mixed)[0].item() == pytest.approx((expected[0] + expected[1])[0].item(), rel=1e-6)


def test_without_gamma_focal_is_cross_entropy() -> None:
    focal = build_loss(LossConfig(name="focal", focal_gamma=0.0, label_smoothing=0.2), num_classes=3)
    entropy = build_loss(LossConfig(label_smoothing=0.2), num_classes=3)
    torch.testing.assert_close(focal(LOGITS, LABELS), entropy(LOGITS, LABELS))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
def test_focal_has_finite_gradients_where_a_class_is_certain(gamma: float) -> None:
    logits = torch.tensor([[200.0, 0.0, -200.0], [200.0, 0.0, -200.0]], requires_grad=True)
    losses = build_loss(LossConfig(name="focal", focal_gamma=gamma), num_classes=3)(logits, LABELS)
    losses.sum().backward()
    assert losses[0].item() == pytest.approx(0, abs=1e-6)
    assert losses[1].item() == pytest.approx(400)
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_class_weights_multiply_the_loss_of_each_image(name: str) -> None:
    config = LossConfig.model_validate({"name": name})
    plain, weighted = build_loss(config, 3), build_loss(config, 3, (2.0, 1.0, 0.25))
    torch.testing.assert_close(weighted(LOGITS, LABELS), plain(LOGITS, LABELS) * torch.tensor([2.0, 0.25]))
    mixed = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.2, 0.8]])
    torch.testing.assert_close(weighted(LOGITS, mixed), plain(LOGITS, mixed) * torch.tensor([1.5, 0.4]))


def test_weighted_cross_entropy_is_torchs_before_the_mean() -> None:
    weights = torch.tensor([2.0, 1.0, 0.25])
    losses = build_loss(LossConfig(label_smoothing=0.0), 3, weights.tolist())(LOGITS, LABELS)
    torch.testing.assert_close(losses, F.cross_entropy(LOGITS, LABELS, weight=weights, reduction="none"))


def test_the_sum_of_weighted_losses_does_not_depend_on_how_a_step_is_cut() -> None:
    loss = build_loss(LossConfig(), 3, (2.0, 1.0, 0.25))
    whole, parts = loss(LOGITS, LABELS), [loss(LOGITS[part], LABELS[part]) for part in (slice(0, 1), slice(1, 2))]
    assert torch.equal(whole, torch.cat(parts))


def test_weights_stay_float32_under_autocast() -> None:
    loss, mixed = build_loss(LossConfig(), 3, (2.001, 1.0, 0.25)), torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.2, 0.8]])
    expected = loss(LOGITS, mixed)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(loss(LOGITS, mixed), expected)


def test_evaluations_smooth_and_weigh_nothing() -> None:
    config = LossConfig(class_weights=(2.0, 1.0, 0.25), label_smoothing=0.3)
    expected = F.cross_entropy(LOGITS, LABELS, reduction="none")
    torch.testing.assert_close(build_evaluation_loss(config, 3)(LOGITS, LABELS), expected)
    focal = LossConfig(name="focal", focal_gamma=1.0, label_smoothing=0.3)
    without = build_loss(LossConfig(name="focal", focal_gamma=1.0), 3)
    assert torch.equal(build_evaluation_loss(focal, 3)(LOGITS, LABELS), without(LOGITS, LABELS))
