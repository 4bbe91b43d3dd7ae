"""Any data set by a plan: the same samples, drawn alike, by any number of workers and processes."""

from __future__ import annotations

import itertools
import random
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from signs_dist.data.plan import EpochPlan, Shard
from signs_dist.data.plan_loader import plan_loader
from signs_dist.distributed.connect import ConnectedProcesses
from signs_dist.errors import UserError

# Python 3.12 warns when a process with threads forks; torch's loader workers are forks.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
CPU = torch.device("cpu")
PLAN = EpochPlan(20, 8, seed=3, micro_batch=2)


class Drawn(Dataset[Any]):
    """Each sample draws from all three generators."""

    def __init__(self, size: int = 20) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"number": index, "draws": torch.tensor([random.random(), np.random.random(), float(torch.rand(()))])}


class BrokenImage(Drawn):
    def __getitem__(self, index: int) -> dict[str, Any]:
        raise UserError("photo.jpg is broken")


class Endless(IterableDataset[int]):
    def __iter__(self) -> Iterator[int]:
        return itertools.count()


def processes(rank: int = 0, world_size: int = 1) -> ConnectedProcesses:
    return ConnectedProcesses(rank, world_size, CPU, is_exact=True, group=None)


def epoch_of(epoch: int, first_step: int = 0, *, rank: int = 0, world_size: int = 1, **more: Any) -> list[Any]:
    return list(plan_loader(Drawn(), PLAN, processes(rank, world_size), epoch, first_step, **more))


def joined(batches: list[Any], name: str) -> Tensor:
    return torch.cat([batch[name] for batch in batches])


def test_samples_are_those_of_the_plan() -> None:
    for epoch in (0, 5):
        numbers = joined(epoch_of(epoch), "number").tolist()
        assert numbers == PLAN.block(epoch, 0, 2, Shard()).reshape(-1).tolist()


@pytest.mark.parametrize("num_workers", [0, 1, 2])
def test_draws_depend_on_epoch_and_sample_alone(num_workers: int) -> None:
    expected = epoch_of(1)
    assert not torch.equal(joined(epoch_of(2), "draws")[:1], joined(expected, "draws")[:1])
    found = epoch_of(1, num_workers=num_workers)
    assert torch.equal(joined(found, "draws"), joined(expected, "draws"))
    for step in range(2):
        parts = [epoch_of(1, step, rank=rank, world_size=3, num_workers=num_workers)[0] for rank in range(3)]
        assert [len(part["number"]) for part in parts] == [4, 2, 2]
        assert torch.equal(joined(parts, "draws"), expected[step]["draws"])


def test_a_sample_draws_otherwise_in_another_epoch_and_with_another_seed() -> None:
    def draws(plan: EpochPlan, epoch: int) -> dict[int, list[float]]:
        batches = list(plan_loader(Drawn(), plan, processes(), epoch))
        return dict(zip(joined(batches, "number").tolist(), joined(batches, "draws").tolist(), strict=True))

    plan = EpochPlan(20, 20, seed=3)
    first, second, other = draws(plan, 0), draws(plan, 1), draws(EpochPlan(20, 20, seed=4), 0)
    assert all(first[number] != second[number] for number in range(20))
    assert all(first[number] != other[number] for number in range(20))
    assert len({value for row in first.values() for value in row}) == 60


@pytest.mark.parametrize("num_workers", [0, 1])
def test_the_callers_generators_stay_as_they_are(num_workers: int) -> None:
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # type: ignore[index]
    for _ in plan_loader(Drawn(), PLAN, processes(), 0, num_workers=num_workers):
        assert random.getstate() == before[0]
        assert np.random.get_state()[1].tolist() == before[1]  # type: ignore[index]
        assert torch.equal(torch.get_rng_state(), before[2])


def test_an_epoch_begins_at_any_step_and_loads_nothing_before_it() -> None:
    asked: list[int] = []

    class Counting(Drawn):
        def __getitem__(self, index: int) -> dict[str, Any]:
            asked.append(index)
            return super().__getitem__(index)

    batches = list(plan_loader(Counting(), PLAN, processes(), 1, 1))
    assert torch.equal(joined(batches, "draws"), epoch_of(1)[1]["draws"])
    assert asked == PLAN.samples(1, 1, Shard()).tolist()
    assert epoch_of(1, 2) == []
    with pytest.raises(ValueError, match="start_step=3 is not in 0 to 2, the steps of an epoch"):
        epoch_of(1, 3)


def test_the_users_own_collate_function_makes_the_batch() -> None:
    batches = epoch_of(0, collate_fn=lambda samples: [sample["number"] for sample in samples])
    assert batches == [PLAN.samples(0, step, Shard()).tolist() for step in range(2)]


def test_what_a_plan_cannot_serve_is_refused() -> None:
    with pytest.raises(UserError, match=r"the plan is for 20 samples, and the data set has 21. Type EpochPlan\(len"):
        plan_loader(Drawn(21), PLAN, processes(), 0)
    with pytest.raises(UserError, match="with __getitem__ and __len__, not Endless"):
        plan_loader(Endless(), PLAN, processes(), 0)
    with pytest.raises(UserError, match="4 micro-batches of 2 cannot be shared by 5 processes"):
        plan_loader(Drawn(), PLAN, processes(0, 5), 0)


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan")])
def test_a_time_without_an_end_is_refused(seconds: float) -> None:
    with pytest.raises(UserError, match="type a number of seconds above 0"):
        plan_loader(Drawn(), PLAN, processes(), 0, timeout_seconds=seconds)


def test_workers_for_which_there_is_no_room_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/" + "x" * 120)
    plan_loader(Drawn(), PLAN, processes(), 0)  # no workers, no sockets
    with pytest.raises(UserError, match="the path of the temporary directory has 121 bytes"):
        plan_loader(Drawn(), PLAN, processes(), 0, num_workers=1)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_error_of_the_users_input_arrives_as_it_is(num_workers: int) -> None:
    with pytest.raises(UserError, match=r"^photo.jpg is broken$"):
        list(plan_loader(BrokenImage(), PLAN, processes(), 0, num_workers=num_workers))
