from __future__ import annotations

import itertools
import statistics
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler

from signs_dist.data.plan import EpochPlan, EvaluationSampler, Permutation, PlanBatchSampler, PlanSampler, Shard
from signs_dist.data.randomness import Stream, stream_key
from signs_dist.errors import UserError
from tests.data.chi_square import chi_square, chi_square_limit, pair_table

Order = Callable[[int, int], npt.NDArray[np.int64]]
"""From (size, key) to the order of all samples."""


def our_order(size: int, key: int) -> npt.NDArray[np.int64]:
    return Permutation(size, key)(np.arange(size))


def identity(size: int, key: int) -> npt.NDArray[np.int64]:
    return np.arange(size)


def shift(size: int, key: int) -> npt.NDArray[np.int64]:
    return (np.arange(size) + key) % size


def stride(size: int, key: int) -> npt.NDArray[np.int64]:
    """An affine order, a tempting shortcut: the size must be prime."""
    return (np.arange(size) * (1 + key % (size - 1)) + key // size) % size


class Numbers(Dataset[int]):
    """A user's own map-style data set."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __getitem__(self, index: int) -> int:
        return index

    def __len__(self) -> int:
        return self.size


@pytest.mark.parametrize("sizes", [range(1, 301), (1_000, 65_536, 65_537, 1_000_003)], ids=["1..300", "large"])
def test_a_permutation_is_a_bijection(sizes: range | tuple[int, ...]) -> None:
    for size in sizes:
        order = our_order(size, stream_key(0, Stream.ORDER, size))
        assert order.dtype == np.int64
        assert np.array_equal(np.bincount(order, minlength=size), np.ones(size)), size


def test_a_billion_samples_cost_microseconds_and_no_memory() -> None:
    size, seconds = 10**9, []
    tracemalloc.start()
    try:
        for position in range(0, size, size // 50):
            started = time.perf_counter()
            sent = Permutation(size, 3)(np.array([position]))
            seconds.append(time.perf_counter() - started)
            assert 0 <= sent[0] < size
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert statistics.median(seconds) < 2e-3  # about 150 microseconds; a list of all would take seconds
    assert peak < 100_000


def test_the_same_key_gives_the_same_order_and_positions_can_be_asked_in_any_order() -> None:
    order = our_order(1000, 5)
    backwards = np.arange(1000)[::-1]
    assert np.array_equal(Permutation(1000, 5)(backwards), order[backwards])
    assert not np.array_equal(our_order(1000, 6), order)


@pytest.mark.parametrize(("order", "good"), [(our_order, True), (identity, False)])
@pytest.mark.parametrize("size", [2, 3, 5, 12, 17])
def test_every_position_gets_every_sample_equally_often(size: int, order: Order, good: bool) -> None:
    num_keys = 1500
    counts = np.zeros((size, size), np.int64)
    for epoch in range(num_keys):
        counts[np.arange(size), order(size, stream_key(0, Stream.ORDER, epoch))] += 1
    assert (chi_square(counts, num_keys / size) < chi_square_limit((size - 1) ** 2)) == good


@pytest.mark.parametrize(("order", "good"), [(our_order, True), (shift, False)])
def test_every_order_of_four_samples_is_equally_likely(order: Order, good: bool) -> None:
    legal = {orders: number for number, orders in enumerate(itertools.permutations(range(4)))}
    counts = np.zeros(len(legal), np.int64)
    for epoch in range(3000):
        counts[legal[tuple(order(4, stream_key(0, Stream.ORDER, epoch)).tolist())]] += 1
    assert (chi_square(counts, 3000 / len(legal)) < chi_square_limit(len(legal) - 1)) == good


@pytest.mark.parametrize(("order", "good"), [(our_order, True), (identity, False), (shift, False), (stride, False)])
def test_neighbours_are_not_kept(order: Order, good: bool) -> None:
    size = 20_011
    sent = order(size, stream_key(2, Stream.ORDER, 0)) / size
    for distance in (1, 2, 32):
        cells = pair_table(sent[:-distance], sent[distance:], 16)
        assert (chi_square(cells, (size - distance) / 256) < chi_square_limit(255)) == good, distance


@pytest.mark.parametrize(("order", "good"), [(our_order, True), (identity, False), (shift, False)])
def test_epochs_and_seeds_are_independent(order: Order, good: bool) -> None:
    size = 20_011
    for one, other in (((0, 0), (0, 1)), ((0, 1), (0, 2)), ((0, 0), (1, 0))):
        keys = [stream_key(seed, Stream.ORDER, epoch) for seed, epoch in (one, other)]
        first, second = (order(size, key) / size for key in keys)
        assert (chi_square(pair_table(first, second, 16), size / 256) < chi_square_limit(15 * 15)) == good


def test_an_epoch_takes_each_sample_at_most_once_and_the_left_outs_rotate() -> None:
    plan = EpochPlan(num_samples=100, global_batch=32, seed=0)
    assert (plan.num_steps, plan.num_left_out) == (3, 4)
    left_out = np.zeros(100, np.int64)
    for epoch in range(400):
        seen = np.concatenate([plan.samples(epoch, step, Shard()) for step in range(plan.num_steps)])
        assert len(set(seen.tolist())) == len(seen) == 96
        left_out[np.setdiff1d(np.arange(100), seen)] += 1
    assert left_out.sum() == 400 * 4
    assert chi_square(left_out, 16) < chi_square_limit(99)


def test_another_number_of_shards_gives_the_same_samples_in_the_same_order() -> None:
    plan = EpochPlan(num_samples=103, global_batch=10, seed=4)  # 10 does not divide by 3 or 4
    for epoch, step in itertools.product(range(3), range(plan.num_steps)):
        alone = plan.samples(epoch, step, Shard(0, 1)).tolist()
        for count in (2, 3, 4):
            parts = [plan.samples(epoch, step, Shard(index, count)).tolist() for index in range(count)]
            assert list(itertools.chain(*parts)) == alone
            assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_step_does_not_depend_on_the_number_of_steps_before_it() -> None:
    plan = EpochPlan(64, 8, 0)
    assert not np.array_equal(plan.samples(0, 0, Shard()), plan.samples(1, 0, Shard()))
    assert np.array_equal(plan.samples(5, 3, Shard()), EpochPlan(64, 8, 0).samples(5, 3, Shard()))
    assert not np.array_equal(plan.samples(5, 3, Shard()), EpochPlan(64, 8, 1).samples(5, 3, Shard()))


def test_a_global_batch_larger_than_the_set_is_refused_and_one_as_large_is_not() -> None:
    assert EpochPlan(num_samples=32, global_batch=32, seed=0).num_steps == 1
    with pytest.raises(
        UserError, match=r"train.global_batch=33 is more than the 32 training images. Type train.global"
    ):
        EpochPlan(num_samples=32, global_batch=33, seed=0)


def sampler_of(num_samples: int = 50, batch: int = 8, shard: Shard | None = None) -> PlanSampler:
    return PlanSampler(Numbers(num_samples), EpochPlan(num_samples, batch, 0), shard or Shard())


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
        with pytest.raises(ValueError, match=f"start_step={wrong} is not in an epoch of 6 steps"):
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
    plan = EpochPlan(50, 8, 0)
    assert sorted(seen) == sorted(int(i) for step in range(6) for i in plan.samples(2, step, Shard()))


def test_batch_keys_carry_epoch_and_step() -> None:
    sampler = sampler_of(shard=Shard(1, 2))
    sampler.set_epoch(9, 4)
    keys = list(PlanBatchSampler(sampler))
    assert [(key.epoch, key.step, len(key.samples)) for key in keys] == [(9, 4, 4), (9, 5, 4)]


def test_evaluation_takes_every_sample_exactly_once() -> None:
    for size, count, batch in itertools.product(range(1, 41), range(1, 5), range(1, 9)):
        samplers = [EvaluationSampler(size, batch, Shard(index, count)) for index in range(count)]
        keys = [list(sampler) for sampler in samplers]
        assert [sample for part in keys for key in part for sample in key.samples.tolist()] == list(range(size))
        assert [len(sampler) for sampler in samplers] == [len(part) for part in keys]
        assert all(1 <= len(key.samples) <= batch for part in keys for key in part)
        assert all(len(key.samples) == batch for part in keys for key in part[:-1])


def test_a_shard_may_have_nothing_to_evaluate() -> None:
    assert [len(list(EvaluationSampler(2, 8, Shard(index, 4)))) for index in range(4)] == [0, 1, 0, 1]
