"""The network alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from signs_dist.training.bare import BareNetwork, seconds_per_image
from signs_dist.tuning.variants import Variant
from tests.training.parts import make_config

CPU = torch.device("cpu")


@pytest.mark.parametrize("channels_last", [True, False])
def test_it_is_the_network_of_the_config_in_one_memory_format(tmp_path: Path, channels_last: bool) -> None:
    config = make_config(tmp_path, "model.name=signs_net", "model.args={channels: 4, dropout: 0}")
    network = BareNetwork(config, 3, 8, CPU, channels_last=channels_last)
    (weight, *_) = (parameter for parameter in network.model.parameters() if parameter.dim() == 4)
    assert weight.is_contiguous(memory_format=torch.channels_last) == channels_last


def test_steps_train_in_the_asked_threads_and_leave_no_trace(tmp_path: Path) -> None:
    network = BareNetwork(make_config(tmp_path, "optim.lr=1000000"), 3, 8, CPU, channels_last=True)
    seen: list[int] = []
    network.model.register_forward_hook(lambda *_: seen.append(torch.get_num_threads()))
    before, state = torch.get_num_threads(), torch.random.get_rng_state()
    weights = [parameter.detach().clone() for parameter in network.model.parameters()]
    network.way(before + 1, "float32")(3)
    assert seen == [before + 1] * 3
    assert torch.get_num_threads() == before
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not all(torch.equal(old, new) for old, new in zip(weights, network.model.parameters(), strict=True))
    assert all(bool(parameter.isfinite().all()) for parameter in network.model.parameters())


def test_the_precision_is_that_of_the_forward_pass(tmp_path: Path) -> None:
    network = BareNetwork(make_config(tmp_path), 3, 8, CPU, channels_last=True)
    seen: list[torch.dtype] = []
    network.model.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    network.way(1, "float32")(1)
    network.way(1, "bfloat16")(1)
    assert seen == [torch.float32, torch.bfloat16]


def test_a_step_is_split_into_its_parts(tmp_path: Path) -> None:
    found = BareNetwork(make_config(tmp_path), 3, 8, CPU, channels_last=True).split(0.0, 1, "float32")
    assert list(found) == ["forward and loss", "backward", "optimizer"]
    assert all(seconds > 0 for seconds in found.values())


def test_a_first_look(tmp_path: Path) -> None:
    assert seconds_per_image(make_config(tmp_path), 3, 2, CPU, Variant(1, channels_last=True, precision="float32")) > 0
