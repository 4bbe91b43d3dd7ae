"""Which devices a process uses."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from signs_dist.distributed.device_choice import choose_device, describe_device, plan_process, torch_devices
from signs_dist.environment.devices import DevicePlan
from signs_dist.errors import UserError
from tests.distributed.contexts import context

CPU = torch.device("cpu")


def test_a_command_of_one_device() -> None:
    assert choose_device(context(), "cpu") == CPU
    with pytest.raises(UserError, match="torchrun started 2 processes, and this command is one"):
        choose_device(dataclasses.replace(context(), launcher="torchrun", world_size=2), "cpu")
    with pytest.raises(UserError, match="--device cuda:x"):
        choose_device(context(), "cuda:x")


def test_planned_devices_are_torchs() -> None:
    assert torch_devices(DevicePlan("cpu", (), (), "")) == [CPU]
    assert torch_devices(DevicePlan("cuda", (1, 3), ("5", "7"), ""))[1] == torch.device("cuda", 3)


def test_a_process_on_the_cpu_looks_for_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: pytest.fail("the CPU was asked for"))
    assert plan_process(context(), device="cpu").kind == "cpu"


def test_without_a_gpu_each_process_uses_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert plan_process(context(world_size=3, rank=2)).kind == "cpu"
    assert describe_device(CPU) == "cpu"
