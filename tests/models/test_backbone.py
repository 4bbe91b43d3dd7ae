from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from signs_dist.errors import UserError
from signs_dist.models.backbone import compute_features, head_of, require_head_last
from signs_dist.models.registry import build_registered


class ScalesAfterHead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(12, 3)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(images.flatten(1))
        return logits * 2


class CallsHeadWithTwo(nn.Module):
    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(12, 3)

        def forward(self, features: Tensor, more: Tensor) -> Tensor:
            logits: Tensor = self.layer(features + more)
            return logits

    def __init__(self) -> None:
        super().__init__()
        self.head = self.Head()

    def forward(self, images: Tensor) -> Tensor:
        flat = images.flatten(1)
        logits: Tensor = self.head(flat, flat)
        return logits


class HeadIsNotUsed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(12, 3)

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, :3]


def test_the_head_on_the_features_gives_the_networks_logits() -> None:
    torch.manual_seed(0)
    model = build_registered("signs_net", num_classes=3, image_size=16, args={"channels": 4, "dropout": 0.5}).eval()
    images = torch.randn(5, 3, 16, 16)
    with torch.inference_mode():
        require_head_last(model, images)
        features = compute_features(model, images)
        assert len(features) == 5
        assert torch.equal(head_of(model)(features), model(images))
    assert not head_of(model)._forward_pre_hooks  # nothing is left behind


@pytest.mark.parametrize(
    "model", [ScalesAfterHead(), CallsHeadWithTwo(), HeadIsNotUsed()], ids=lambda m: type(m).__name__
)
def test_a_network_that_does_not_end_with_its_head_is_refused(model: nn.Module) -> None:
    with torch.inference_mode(), pytest.raises(UserError, match="needs a network whose last operation is its head"):
        require_head_last(model, torch.ones(2, 3, 2, 2))


def test_a_network_without_a_head_is_refused() -> None:
    with pytest.raises(UserError, match="finds no head"):
        head_of(nn.Sequential(nn.Flatten()))
