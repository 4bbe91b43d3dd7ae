"""The optimizer that torch spreads over the processes of fast mode, loaded from that of one process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed
from torch import nn

from signs_dist.errors import UserError

SOURCE = Path("checkpoint.pt")
ADAM = {"lr": 0.1, "fused": True}


@pytest.fixture(autouse=True)
def _group_of_one() -> Iterator[None]:
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def make_state(device: str) -> Any:
    from signs_dist.distributed.zero_state import ZeroState

    parameters = [nn.Parameter(torch.ones(size, device=device)) for size in (2, 5, 3)]  # torch sorts them by size
    groups = [{"params": parameters[:2], "lr_scale": 1.0}, {"params": parameters[2:], "lr_scale": 2.0}]
    return ZeroState(groups, torch.optim.AdamW, ADAM, SimpleNamespace(rank=0))  # type: ignore[arg-type]


def saved_state() -> dict[str, Any]:
    state = {
        number: {
            "step": torch.tensor(3.0),
            "exp_avg": torch.full((size,), 1.0 + number),
            "exp_avg_sq": torch.ones(size),
        }
        for number, size in enumerate((2, 5, 3))
    }
    return {"state": state, "param_groups": [{"lr": 0.2, "params": [0, 1]}, {"lr": 0.4, "params": [2]}]}


def test_each_parameter_gets_its_own_state_and_rate_and_no_second_copy_is_kept() -> None:
    sharding, saved = make_state("cpu"), saved_state()
    sharding.load(sharding.optimizer, saved, SOURCE)
    for number, parameter in enumerate(sharding.parameters):
        own = sharding.optimizer.optim.state[parameter]
        assert own["exp_avg"].tolist() == saved["state"][number]["exp_avg"].tolist()
        assert own["exp_avg"].data_ptr() != saved["state"][number]["exp_avg"].data_ptr()
    assert [group["lr"] for group in sharding.optimizer.param_groups] == [0.2, 0.4]
    assert not sharding.optimizer.state
    assert None not in saved["state"].values()


def test_the_steps_of_a_fused_kernel_are_where_its_parameters_are() -> None:
    sharding = make_state("meta")  # stands for a GPU
    sharding.load(sharding.optimizer, saved_state(), SOURCE)
    states = sharding.optimizer.optim.state.values()
    assert {state["step"].device.type for state in states} == {"meta"}


def test_what_is_loaded_is_what_is_saved() -> None:
    from signs_dist.checkpointing.tensors import Copier

    sharding, saved = make_state("cpu"), saved_state()
    sharding.load(sharding.optimizer, saved, SOURCE)
    _, content = sharding.ship(sharding.optimizer, None, Copier())
    for number, state in saved["state"].items():
        assert all(torch.equal(content["optimizer"]["state"][number][name], value) for name, value in state.items())
    assert [group["params"] for group in content["optimizer"]["param_groups"]] == [[0, 1], [2]]


def test_an_optimizer_of_other_parameters_is_refused() -> None:
    sharding, saved = make_state("cpu"), saved_state()
    with pytest.raises(UserError, match="holds an optimizer of other parameters"):
        sharding.load(sharding.optimizer, {**saved, "param_groups": saved["param_groups"][:1]}, SOURCE)
