"""What torch.export cannot trace is told."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from signs_dist.errors import UserError
from signs_dist.exporting.tracing import describe_failure, trace_network, trace_whole
from signs_dist.inference.whole_network import WholeNetwork


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(images.mean(dim=(2, 3)))


class Branching(Plain):
    def forward(self, images: Tensor) -> Tensor:
        values = images.mean(dim=(2, 3))
        if values.sum() > 0:
            values = -values
        return self.head(values)


class OfTwo(Plain):
    def forward(self, images: Tensor) -> Tensor:
        return self.head(images.reshape(2, 3, -1).mean(dim=2))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "told"),
    [
        (Branching(), ["GuardOnDataDependentSymNode", "test_tracing.py:", "in forward", "`if values.sum() > 0:`"]),
        (OfTwo(), ["batch", "constant (2)"]),
    ],
)
def test_a_network_that_cannot_be_traced(
    network: nn.Module, told: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError) as caught:
        trace_network(network.eval(), 16, "own:Net")
    message = str(caught.value)
    assert all(words in message for words in ["torch.export cannot trace model.name=own:Net", *told])
    assert "type --format safetensors" in message
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_number_height_and_width_are_free() -> None:
    whole = WholeNetwork(Plain(), image_size=16, mean=(0.5,) * 3, std=(0.5,) * 3, flip_average=False).eval()
    traced = trace_whole(whole, "own:Net").module()
    for shape in ((1, 16, 16, 3), (5, 20, 30, 3), (2, 9, 70, 3)):
        images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
        torch.testing.assert_close(traced(images), whole(images))


def test_a_message_over_several_lines_is_cut() -> None:
    told = describe_failure(ValueError("first   thing.\nsecond"), "own:Net")
    assert told.startswith("torch.export cannot trace model.name=own:Net: ValueError: first thing. Its graph")
