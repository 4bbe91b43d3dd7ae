"""The plan: how a batch is cut, and that any number of shards together take what one takes."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest

from signs_dist.data.order import BalancedOrder
from signs_dist.data.plan import EpochPlan, MicroBatches, Shard, cut_global_batch, require_full_step
from signs_dist.errors import UserError
from tests.data.chi_square import chi_square, chi_square_limit


@pytest.mark.parametrize(
    ("size", "count", "parts"),
    [
        (8, 3, (3, 3, 2)),
        (8, 1, (8,)),
        (8, 4, (2, 2, 2, 2)),
        (7, 4, (2, 2, 2, 1)),
        (1, 4, (1, 0, 0, 0)),
        (0, 2, (0, 0)),
    ],
)
def test_the_first_parts_get_the_one_more(size: int, count: int, parts: tuple[int, ...]) -> None:
    bounds = [Shard(index, count).bounds(size) for index in range(count)]
    assert tuple(end - first for first, end in bounds) == parts
    assert [number for bound in bounds for number in range(*bound)] == list(range(size))


@pytest.mark.parametrize(
    ("micro_batches", "world_size", "counts", "text"),
    [
        (MicroBatches(32, 8), 3, (3, 3, 2), "256 = 8 micro-batches of 32 over 3 ranks (3, 3, 2)"),
        (MicroBatches(32, 8), 4, (2, 2, 2, 2), "256 = 8 micro-batches of 32 over 4 ranks (2 each)"),
        (MicroBatches(32, 1), 1, (1,), "32 = 1 micro-batch of 32 on 1 process"),
        (MicroBatches(32, 8), 1, (8,), "256 = 8 micro-batches of 32 on 1 process"),
        (
            MicroBatches(2, 12),
            9,
            (2,) * 3 + (1,) * 6,
            "24 = 12 micro-batches of 2 over 9 ranks (2 on 3 ranks, 1 on 6)",
        ),
    ],
)
def test_micro_batches_over_ranks(
    micro_batches: MicroBatches, world_size: int, counts: tuple[int, ...], text: str
) -> None:
    assert micro_batches.counts(world_size) == counts
    assert micro_batches.describe(world_size) == text
    numbers = [micro_batches.of(Shard(rank, world_size)) for rank in range(world_size)]
    assert tuple(map(len, numbers)) == counts
    assert list(itertools.chain(*numbers)) == list(range(micro_batches.count))


@pytest.mark.parametrize(
    ("global_batch", "micro_batch", "world_size", "num_replicas", "expected"),
    [
        (32, None, 1, 1, MicroBatches(32, 1)),
        (32, None, 4, 1, MicroBatches(8, 4)),
        (32, None, 1, 2, MicroBatches(16, 2)),
        (256, 32, 1, 1, MicroBatches(32, 8)),
        (256, 32, 3, 1, MicroBatches(32, 8)),
        (256, 32, 8, 1, MicroBatches(32, 8)),
        (256, 32, 1, 3, MicroBatches(32, 8)),
        (3, None, 3, 1, MicroBatches(1, 3)),
    ],
)
def test_a_global_batch_is_cut(
    global_batch: int, micro_batch: int | None, world_size: int, num_replicas: int, expected: MicroBatches
) -> None:
    assert cut_global_batch(global_batch, micro_batch, world_size, num_replicas=num_replicas) == expected
    assert expected.global_batch == global_batch


@pytest.mark.parametrize(
    ("global_batch", "micro_batch", "world_size", "num_replicas", "message"),
    [
        (100, 8, 1, 1, "train.global_batch=100 does not divide into micro-batches of 8. Nearest: 96 or 104."),
        (100, 8, 13, 1, "train.global_batch=100 does not divide into micro-batches of 8. Nearest: 104."),
        (
            32,
            None,
            3,
            1,
            "train.global_batch=32 does not divide over 3 processes. "
            "Type train.micro_batch=8 (4 micro-batches: 2, 1, 1) or train.global_batch=33 or 30.",
        ),
        (
            33,
            None,
            1,
            2,
            "train.global_batch=33 does not divide over 2 GPUs. "
            "Type train.micro_batch=11 (3 micro-batches: 2, 1) or train.global_batch=32 or 34.",
        ),
        (2, None, 3, 1, "train.global_batch=2 does not divide over 3 processes. Type train.global_batch=3."),
        (
            32,
            16,
            3,
            1,
            "train.global_batch=32 is 2 micro-batches of 16, too few for 3 processes. Use at most 2 processes, "
            "or type train.micro_batch=8 (4 micro-batches: 2, 1, 1) or train.global_batch=48.",
        ),
        (
            32,
            32,
            1,
            2,
            "train.global_batch=32 is 1 micro-batch of 32, too few for 2 GPUs. Use at most 1 GPU, "
            "or type train.micro_batch=16 (2 micro-batches: 1 each) or train.global_batch=64.",
        ),
        (
            32,
            64,
            1,
            1,
            "train.micro_batch=64 is more than train.global_batch=32. "
            "Type train.micro_batch=32 (1 micro-batch) or train.global_batch=64.",
        ),
    ],
)
def test_a_cut_that_cannot_be_is_refused_with_what_can(
    global_batch: int, micro_batch: int | None, world_size: int, num_replicas: int, message: str
) -> None:
    with pytest.raises(UserError) as caught:
        cut_global_batch(global_batch, micro_batch, world_size, num_replicas=num_replicas)
    assert str(caught.value) == message


def refusal(global_batch: int, micro_batch: int | None, world_size: int) -> str:
    """The message, or "" if the cut is legal."""
    try:
        cut_global_batch(global_batch, micro_batch, world_size)
    except UserError as error:
        return str(error)
    return ""


def test_every_value_that_a_refusal_names_works() -> None:
    num_sizes = num_batches = 0
    for global_batch, micro_batch, world_size in itertools.product(range(1, 25), (None, 1, 3, 5, 8), range(1, 8)):
        message = refusal(global_batch, micro_batch, world_size)
        sizes = re.findall(r"[Tt]ype train\.micro_batch=(\d+)", message)
        batches = re.findall(r"(?:Nearest: |train\.global_batch=)(\d+)(?: or (\d+))?\.$", message)
        assert all(refusal(global_batch, int(size), world_size) == "" for size in sizes), message
        assert all(refusal(int(other), micro_batch, world_size) == "" for other in filter(None, sum(batches, ())))
        assert bool(batches) == bool(message)
        num_sizes, num_batches = num_sizes + len(sizes), num_batches + len(batches)
    assert num_sizes > 100
    assert num_batches > 300


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


@pytest.mark.parametrize("micro_batch", [1, 2, 4])
@pytest.mark.parametrize("balanced", [False, True])
def test_another_number_of_shards_gives_the_same_samples_in_the_same_order(micro_batch: int, balanced: bool) -> None:
    order = BalancedOrder(np.arange(103) ** 2 % 7, 4) if balanced else None
    plan = EpochPlan(103, 20, seed=4, micro_batch=micro_batch, order=order)
    for epoch, step in itertools.product(range(3), range(plan.num_steps)):
        alone = plan.samples(epoch, step, Shard(0, 1)).tolist()
        assert len(alone) == 20
        for count in (2, 3, 4, 5):
            parts = [plan.samples(epoch, step, Shard(index, count)).tolist() for index in range(count)]
            assert list(itertools.chain(*parts)) == alone
            assert tuple(len(part) // micro_batch for part in parts) == plan.micro_batches.counts(count)
            assert all(len(part) % micro_batch == 0 for part in parts)


def test_the_size_of_micro_batches_does_not_change_the_samples() -> None:
    whole = EpochPlan(50, 12, 0).block(1, 0, 4, Shard())
    for micro_batch in (1, 3, 12):
        assert np.array_equal(EpochPlan(50, 12, 0, micro_batch=micro_batch).block(1, 0, 4, Shard()), whole)


def test_without_a_micro_batch_a_step_is_one() -> None:
    plan = EpochPlan(50, 12, 0)
    assert plan.micro_batches == MicroBatches(12, 1)
    assert EpochPlan(50, 12, 0, micro_batch=3).micro_batches == MicroBatches(3, 4)
    with pytest.raises(UserError, match="1 micro-batch of 12 cannot be shared by 2 processes: each process needs one"):
        plan.samples(0, 0, Shard(0, 2))


def test_several_steps_at_once_are_those_one_by_one() -> None:
    plan = EpochPlan(103, 10, seed=4, micro_batch=2)
    for shard in (Shard(), Shard(0, 3), Shard(2, 3)):
        block = plan.block(2, 3, 5, shard)
        assert block.tolist() == [plan.samples(2, step, shard).tolist() for step in range(3, 8)]


def test_a_step_does_not_depend_on_the_number_of_steps_before_it() -> None:
    plan = EpochPlan(64, 8, 0)
    assert not np.array_equal(plan.samples(0, 0, Shard()), plan.samples(1, 0, Shard()))
    assert np.array_equal(plan.samples(5, 3, Shard()), EpochPlan(64, 8, 0).samples(5, 3, Shard()))
    assert not np.array_equal(plan.samples(5, 3, Shard()), EpochPlan(64, 8, 1).samples(5, 3, Shard()))


def test_a_global_batch_larger_than_the_set_is_refused_and_one_as_large_is_not() -> None:
    assert EpochPlan(num_samples=32, global_batch=32, seed=0).num_steps == 1
    with pytest.raises(UserError, match=r"^global_batch=33 is more than num_samples=32\. Type global_batch=32 or less"):
        EpochPlan(num_samples=32, global_batch=33, seed=0)


def test_too_few_training_images_for_a_step_are_refused_with_the_name_of_the_setting() -> None:
    require_full_step(32, 32)
    with pytest.raises(
        UserError, match=r"^train\.global_batch=33 is more than the 32 training images\. Type train\.global_batch=32 or"
    ):
        require_full_step(33, 32)


def test_a_plan_whose_parts_do_not_fit_together_cannot_be() -> None:
    with pytest.raises(AssertionError):
        EpochPlan(32, 8, 0, order=BalancedOrder(np.zeros(31, np.int64), 0))
    with pytest.raises(UserError, match="micro_batch=3 does not divide global_batch=8"):
        EpochPlan(32, 8, 0, micro_batch=3)
