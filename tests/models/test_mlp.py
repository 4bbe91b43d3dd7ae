from __future__ import annotations

from torch import nn

from signs_dist.models import count_parameters
from signs_dist.models.mlp import mlp


def test_mlp_is_a_plain_sequential_with_the_layers_asked_for() -> None:
    model = mlp(6, 8, hidden=(10, 5), dropout=0.3)
    assert isinstance(model, nn.Sequential)
    assert [type(layer).__name__ for layer in model] == [
        "Flatten", "Linear", "ReLU", "Dropout", "Linear", "ReLU", "Dropout", "Linear",
    ]  # fmt: skip
    assert count_parameters(model)[0] == (192 + 1) * 10 + (10 + 1) * 5 + (5 + 1) * 6
    assert len(list(mlp(6, 8, hidden=()).children())) == 2
