from __future__ import annotations

import pytest
import torch
from torch import nn

from signs_dist.errors import UserError
from signs_dist.models import count_parameters
from signs_dist.models.signs_fast import signs_fast


def test_it_has_seven_layers_and_the_size_of_its_banner() -> None:
    model = signs_fast(6, 64)
    layers = [module for module in model.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
    assert len(layers) == 7
    assert count_parameters(model) == (288_902, 288_902)


def test_the_width_and_the_first_block_set_all_channels() -> None:
    model = signs_fast(6, 64, width=4)
    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    assert [layer.out_channels for layer in layers] == [4, 4, 8, 8, 16, 16]
    assert model.get_submodule("stem")(torch.rand(1, 3, 64, 64)).shape == (1, 4, 32, 32)


def test_the_smallest_image() -> None:
    assert signs_fast(6, 16, width=4)(torch.rand(2, 3, 16, 16)).shape == (2, 6)
    with pytest.raises(UserError, match=r"data.image_size=15 is too small for signs_fast. Type data.image_size=16"):
        signs_fast(6, 15)
