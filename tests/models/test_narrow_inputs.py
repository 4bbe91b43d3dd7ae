"""Convolutions that get fewer pixels than their stride are refused in bfloat16 on a CPU: their gradient is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from signs_dist.errors import UserError
from signs_dist.models.narrow_inputs import is_narrow, refusing_narrow_inputs
from signs_dist.training.prepare import prepare
from tests.training.parts import make_config, make_process


@pytest.mark.parametrize(
    ("kernel", "stride", "size", "expected"),
    [
        (3, 2, (1, 1), True),
        (3, 2, (2, 2), False),
        (3, 3, (2, 2), True),
        (3, 2, (8, 1), True),
        (1, 2, (1, 1), False),
        (5, 1, (1, 1), False),
        (7, 2, (2, 2), False),
    ],
)
def test_which_inputs_are_narrow(kernel: int, stride: int, size: tuple[int, int], expected: bool) -> None:
    assert is_narrow(nn.Conv2d(2, 2, kernel, stride, kernel // 2), size) is expected
    assert not is_narrow(nn.Linear(2, 2), size)


@pytest.mark.parametrize(("kernel", "stride", "side"), [(3, 2, 2), (3, 1, 1), (1, 2, 1), (5, 2, 2), (7, 2, 4)])
def test_the_gradient_of_all_others_is_right_in_bfloat16(kernel: int, stride: int, side: int) -> None:
    torch.manual_seed(0)
    convolution = nn.Conv2d(16, 16, kernel, stride, kernel // 2, bias=False).to(memory_format=torch.channels_last)
    images = torch.randn(4, 16, side, side)
    gradients = []
    for enabled in (True, False):
        convolution.weight.grad = None
        poisoned = [torch.full((2**power,), float("nan")) for power in range(10, 20)]
        del poisoned  # what the kernel does not write is NaN then
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            output = convolution(images)
        output.backward(torch.full_like(output, 0.37))
        assert convolution.weight.grad is not None
        gradients.append(convolution.weight.grad.clone())
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0.1, atol=0.05)


def test_it_names_the_first_layer_and_leaves_no_hook() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 2, 1))
    told = r"model\.name=own on images of 2 pixels: 1 gets fewer pixels than its stride"
    with pytest.raises(UserError, match=told), refusing_narrow_inputs(network, "own", 2):
        network(torch.zeros(1, 3, 2, 2))
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_a_run_is_refused_and_told_what_to_type(tmp_path: Path) -> None:
    config = make_config(tmp_path, "model.name=torchvision:resnet18", "train.precision=bfloat16")
    with pytest.raises(UserError, match=r"layer4\.0\.conv1 gets .* Type train\.precision=float32"):
        prepare(config, make_process())
    prepare(make_config(tmp_path, "model.name=torchvision:resnet18", "train.precision=float32"), make_process())
