"""Samplers follow the plan, from any step on, on any number of shards."""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler

from signs_dist.data.order import BalancedOrder, Indices, ShuffledOrder
from signs_dist.data.plan import EpochPlan, Shard
from signs_dist.data.samplers import NUM_AHEAD, EvaluationSampler, PlanBatchSampler, PlanSampler
from signs_dist.errors import UserError


class Numbers(Dataset[int]):
    """A user's own map-style data set."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __getitem__(self, index: int) -> int:
        return index

    def __len__(self) -> int:
        return self.size


def sampler_of(num_samples: int = 50, batch: int = 8, shard: Shard | None = None) -> PlanSampler:
    return PlanSampler(Numbers(num_samples), EpochPlan(num_samples, batch, 0, micro_batch=2), shard or Shard())


def test_the_sampler_is_a_distributed_sampler_that_refuses_to_repeat_an_epoch_silently() -> None:
    sampler = sampler_of()
    assert isinstance(sampler, DistributedSampler)
    with pytest.raises(RuntimeError, match="call set_epoch"):
        next(iter(sampler))
    sampler.set_epoch(0)
    first = list(sampler)
    assert len(first) == len(sampler) == 48
    with pytest.raises(RuntimeError, match="call set_epoch"):
        list(sampler)
    sampler.set_epoch(0)
    assert list(sampler) == first
    sampler.set_epoch(1)
    assert list(sampler) != first


def test_start_step_goes_on_where_the_epoch_was_left() -> None:
    sampler = sampler_of()
    sampler.set_epoch(3)
    whole = list(sampler)
    for start_step in range(7):
        sampler.set_epoch(3, start_step)
        assert len(sampler) == 48 - 8 * start_step
        assert len(PlanBatchSampler(sampler)) == 6 - start_step
        assert list(sampler) == whole[8 * start_step :]
    sampler.set_epoch(4)
    assert len(list(sampler)) == 48
    for wrong in (-1, 7):
        with pytest.raises(ValueError, match=f"start_step={wrong} is not in 0 to 6, the steps of an epoch"):
            sampler.set_epoch(0, wrong)


def test_a_pass_keeps_its_epoch_when_the_next_one_is_set_meanwhile() -> None:
    sampler = sampler_of()
    sampler.set_epoch(0)
    whole = list(sampler)
    sampler.set_epoch(0)
    under_way = iter(sampler)
    begun = [next(under_way)]
    sampler.set_epoch(1, 2)
    assert begun + list(under_way) == whole


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_plain_data_loader_over_a_users_own_data_set_follows_the_plan(count: int) -> None:
    seen = []
    for index in range(count):
        sampler = sampler_of(shard=Shard(index, count))
        loader = DataLoader(Numbers(50), batch_size=2, sampler=sampler)
        with pytest.raises(RuntimeError, match="call set_epoch"):
            next(iter(loader))
        sampler.set_epoch(2)
        ours = [number for batch in loader for number in batch.tolist()]
        assert len(ours) == len(sampler)
        seen += ours
    plan = EpochPlan(50, 8, 0, micro_batch=2)
    assert sorted(seen) == sorted(int(i) for step in range(6) for i in plan.samples(2, step, Shard()))


def test_batch_keys_carry_epoch_and_step() -> None:
    sampler = sampler_of(shard=Shard(1, 2))
    sampler.set_epoch(9, 4)
    keys = list(PlanBatchSampler(sampler))
    assert [(key.epoch, key.step, len(key.samples)) for key in keys] == [(9, 4, 4), (9, 5, 4)]


class CountingOrder:
    """A shuffled order that knows how many positions were asked for."""

    def __init__(self, num_samples: int) -> None:
        self.num_samples = num_samples
        self.num_asked = 0
        self._order = ShuffledOrder(num_samples, 0)

    def __call__(self, epoch: int, positions: Indices) -> Indices:
        self.num_asked += len(positions)
        return self._order(epoch, positions)


def test_a_billion_samples_on_4096_ranks_begin_with_one_step_of_one_rank() -> None:
    num_samples, count = 10**9, 4096
    order = CountingOrder(num_samples)
    tracemalloc.start()
    try:
        plan = EpochPlan(num_samples, 32 * count, 0, micro_batch=32, order=order)
        sampler = PlanSampler(Numbers(num_samples), plan, Shard(4000, count))
        sampler.set_epoch(3, 5000)
        first = next(iter(sampler))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    position = 5000 * plan.global_batch + 4000 * 32
    assert [first] == ShuffledOrder(num_samples, 0)(3, np.array([position])).tolist()
    assert order.num_asked == 32
    assert peak < 10**6  # PyTorch's own makes a list of them all, 8 GB and more


def test_no_more_positions_are_computed_ahead_than_are_used() -> None:
    order = CountingOrder(50_000)
    sampler = PlanSampler(Numbers(50_000), EpochPlan(50_000, 8, 0, order=order), Shard())
    sampler.set_epoch(0)
    next(iter(sampler))
    assert order.num_asked == NUM_AHEAD
    order.num_asked = 0
    sampler.set_epoch(0)
    assert len(list(sampler)) == order.num_asked == 50_000


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_balanced_pass_is_the_same_samples_on_any_number_of_shards(count: int) -> None:
    labels = np.repeat([0, 1, 2], [70, 25, 5])
    plan = EpochPlan(100, 12, 0, micro_batch=3, order=BalancedOrder(labels, 0))
    seen: list[list[int]] = []
    for index in range(count):
        sampler = PlanSampler(Numbers(100), plan, Shard(index, count))
        sampler.set_epoch(1)
        seen.append(list(sampler))
        assert len(seen[-1]) == len(sampler)
    together = list(itertools.chain(*seen))
    assert sorted(together) == sorted(plan.block(1, 0, 8, Shard()).reshape(-1).tolist())
    assert np.bincount(labels[together]).tolist() == [32, 32, 32]


def test_evaluation_takes_every_sample_exactly_once_in_the_batches_of_one_process() -> None:
    for size, batch in itertools.product(range(1, 41), range(1, 9)):
        whole = [key.samples.tolist() for key in EvaluationSampler(size, batch, Shard())]
        assert whole == [list(range(start, min(start + batch, size))) for start in range(0, size, batch)]
        for count in range(1, 5):
            samplers = [EvaluationSampler(size, batch, Shard(index, count)) for index in range(count)]
            keys = [list(sampler) for sampler in samplers]
            assert [key.samples.tolist() for part in keys for key in part] == whole
            assert [key.step for part in keys for key in part] == list(range(len(whole)))
            assert [len(sampler) for sampler in samplers] == [len(part) for part in keys]
            assert max(map(len, keys)) - min(map(len, keys)) <= 1


def test_a_shard_may_have_nothing_to_evaluate() -> None:
    assert [len(list(EvaluationSampler(9, 8, Shard(index, 4)))) for index in range(4)] == [1, 1, 0, 0]
    assert list(EvaluationSampler(0, 8, Shard())) == []


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_in_place_of_a_distributed_sampler_in_a_users_data_loader(count: int, num_workers: int) -> None:
    """What a loop that was written for DistributedSampler relies on: set_epoch, lengths, attributes, any workers."""
    plan = EpochPlan(50, 12, 0, micro_batch=2)
    for epoch in range(2):
        steps: list[list[int]] = [[] for _ in range(plan.num_steps)]
        for index in range(count):
            shard = Shard(index, count)
            sampler = PlanSampler(Numbers(50), plan, shard)
            assert (sampler.num_replicas, sampler.rank, sampler.drop_last) == (count, index, True)
            assert (sampler.num_samples, sampler.total_size) == (len(sampler), 48)
            loader = DataLoader(
                Numbers(50), batch_size=plan.num_own(shard), sampler=sampler, num_workers=num_workers, shuffle=False
            )
            sampler.set_epoch(epoch)
            assert len(loader) == plan.num_steps
            for step, batch in enumerate(loader):
                steps[step] += batch.tolist()
        assert steps == [plan.samples(epoch, step, Shard()).tolist() for step in range(plan.num_steps)]


def test_more_shards_than_micro_batches_are_refused() -> None:
    with pytest.raises(UserError, match="4 micro-batches of 2 cannot be shared by 5 processes"):
        sampler_of(shard=Shard(4, 5))
