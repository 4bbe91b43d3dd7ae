from __future__ import annotations

import pytest
import torch

from signs_dist.errors import UserError
from signs_dist.models import count_parameters
from signs_dist.models.signs_net import signs_net


def test_signs_net_has_the_published_size() -> None:
    """The tutorial's network: 3 convolutions of 32, 64, 128; 8192 → 128 → 6; BatchNorm after all but the last."""
    convolutions = (3 * 9 + 1) * 32 + (32 * 9 + 1) * 64 + (64 * 9 + 1) * 128
    norms = 2 * (32 + 64 + 128 + 128)
    linear = (8 * 8 * 128 + 1) * 128 + (128 + 1) * 6
    assert count_parameters(signs_net(6, 64)) == (convolutions + norms + linear,) * 2


def test_signs_net_drops_with_the_given_probability() -> None:
    model = signs_net(6, 64, dropout=0.8)
    dropped = model.get_submodule("dropout").train()(torch.ones(100, 128)).eq(0).float().mean().item()
    assert dropped == pytest.approx(0.8, abs=0.02)


@pytest.mark.parametrize(("image_size", "legal"), [(60, "56 or 64"), (5, "8 or 8"), (100, "96 or 104")])
def test_an_image_size_that_cannot_be_halved_three_times_is_refused(image_size: int, legal: str) -> None:
    with pytest.raises(UserError, match=f"data.image_size={image_size} .* Take a multiple of 8, such as {legal}"):
        signs_net(6, image_size)
