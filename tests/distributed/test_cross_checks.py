"""Who recomputes what, and who is named: decisions as tables."""

from __future__ import annotations

import dataclasses

import pytest

from signs_dist.data.plan import MicroBatches, Shard
from signs_dist.distributed.cross_checks import (
    RECEIVED,
    REPLICAS,
    Recomputation,
    Row,
    Verdict,
    choose_thirds,
    compare_received,
    compare_replicas,
    find_disputes,
    recomputations,
    settle,
)

SAME = ((1, 1), (2, 2))
OTHER = ((1, 1), (3, 3))
OTHER_IMAGES = ((7, 7), (3, 3))
THIRD = ((1, 1), (4, 4))


def rows(*replicas: str) -> list[Row]:
    """A row for each rank; letters say what its copies are, in the order of REPLICAS."""
    return [Row(SAME, SAME, tuple((ord(letter),) for letter in each.ljust(len(REPLICAS), "="))) for each in replicas]


@pytest.mark.parametrize("world_size", [2, 3, 4, 5])
def test_over_time_each_pair_and_each_micro_batch_is_covered(world_size: int) -> None:
    micro_batches = MicroBatches(2, 7)
    seen = set()
    for check in range((world_size - 1) * 4):
        tasks = recomputations(check, micro_batches, world_size)
        assert [task.checker for task in tasks] == list(range(world_size))
        assert sorted(task.owner for task in tasks) == list(range(world_size)), "each is recomputed by one other"
        for task in tasks:
            assert task.owner != task.checker
            assert task.number in micro_batches.of(Shard(task.owner, world_size))
            seen.add((task.owner, task.checker, task.number))
    pairs = [(one, other) for one in range(world_size) for other in range(world_size) if one != other]
    wanted = {(one, other, number) for one, other in pairs for number in micro_batches.of(Shard(one, world_size))}
    assert seen == wanted


def test_a_single_process_recomputes_each_of_its_micro_batches_in_turn() -> None:
    tasks = [recomputations(check, MicroBatches(2, 3), 1) for check in range(4)]
    assert tasks == [[Recomputation(number, 0, 0)] for number in (0, 1, 2, 0)]


@pytest.mark.parametrize(
    ("replicas", "verdict"),
    [
        (("a", "a", "a"), None),
        (("a", "b", "a"), Verdict((1,), True, "the weights")),
        (("aa", "aa", "ab", "aa"), Verdict((2,), True, "the buffers")),
        (("aaa", "bab", "aaa"), Verdict((1,), True, "the weights and the optimizer's state")),
        (("aaaa", "bbbb", "aaaa"), Verdict((1,), True, f"{', '.join(REPLICAS[:3])} and {REPLICAS[3]}")),
        (("a", "b", "c", "a", "a"), Verdict((1, 2), True, "the weights")),
        (("a", "b"), Verdict((0, 1), False, "the weights")),
        (("aa", "ab"), Verdict((0, 1), False, "the buffers")),
        (("a", "b", "c"), Verdict((0, 1, 2), False, "the weights")),
        (("a", "a", "b", "b"), Verdict((0, 1, 2, 3), False, "the weights")),
        (("a",), None),
    ],
)
def test_more_than_half_of_the_copies_are_right(replicas: tuple[str, ...], verdict: Verdict | None) -> None:
    assert compare_replicas(rows(*replicas)) == verdict


@pytest.mark.parametrize(
    ("digests", "verdict"),
    [
        ("aaa", None),
        ("a", None),
        ("aba", Verdict((1,), True, RECEIVED)),
        ("ab", Verdict((0, 1), False, RECEIVED)),
        ("aabb", Verdict((0, 1, 2, 3), False, RECEIVED)),
    ],
)
def test_all_processes_have_received_the_same(digests: str, verdict: Verdict | None) -> None:
    assert compare_received(digests) == verdict


def disputed(world_size: int, **changes: tuple[tuple[int, int], tuple[int, int]]) -> list[Row]:
    """Rows of which some differ: own1=… is what rank 1 found itself, again2=… what rank 2 recomputed."""
    found = rows(*["a"] * world_size)
    for name, value in changes.items():
        rank = int(name[-1])
        found[rank] = dataclasses.replace(found[rank], **{name[:-1]: value})
    return found


@pytest.mark.parametrize(
    ("world_size", "changes", "third", "verdict"),
    [
        # Check 0: rank r recomputes the micro-batch number r + 1 of rank r + 1.
        (3, {"own1": OTHER}, {1: SAME}, Verdict((1,), True, "the gradient of micro-batch 1")),
        (3, {"again0": OTHER}, {1: SAME}, Verdict((0,), True, "the gradient of micro-batch 1")),
        (3, {"own1": OTHER_IMAGES}, {1: SAME}, Verdict((1,), True, "the images of micro-batch 1")),
        (3, {"own1": OTHER}, {1: THIRD}, Verdict((0, 1), False, "the gradient of micro-batch 1")),
        # Always wrong: as owner and as checker.
        (
            4,
            {"own1": OTHER, "again1": OTHER},
            {1: SAME, 2: SAME},
            Verdict((1,), True, "the gradient of micro-batch 1 and the gradient of micro-batch 2"),
        ),
        # With three processes the third one of a dispute may be wrong in another: it is named all the same.
        (
            3,
            {"own1": OTHER, "again1": THIRD},
            {1: SAME, 2: SAME},
            Verdict((1,), True, "the gradient of micro-batch 1 and the gradient of micro-batch 2"),
        ),
        (2, {"own1": OTHER}, {}, Verdict((0, 1), False, "the gradient of micro-batch 1")),
        (1, {"own0": OTHER}, {}, Verdict((0,), True, "the gradient of micro-batch 0")),
    ],
)
def test_the_one_whom_the_third_contradicts_is_named(
    world_size: int,
    changes: dict[str, tuple[tuple[int, int], tuple[int, int]]],
    third: dict[int, tuple[tuple[int, int], tuple[int, int]]],
    verdict: Verdict,
) -> None:
    tasks = recomputations(0, MicroBatches(1, world_size), world_size)
    found = disputed(world_size, **changes)
    disputes = find_disputes(found, tasks)
    assert settle(disputes, found, third) == verdict
    assert set(choose_thirds(disputes, world_size)) == set(third)


def test_without_a_difference_there_is_no_dispute() -> None:
    assert find_disputes(disputed(3), recomputations(5, MicroBatches(1, 3), 3)) == []


@pytest.mark.parametrize(
    ("pairs", "world_size", "thirds"),
    [
        ([(0, 1)], 2, {}),
        ([(0, 0)], 1, {}),
        ([(0, 1)], 3, {0: 2}),
        ([(0, 1), (1, 2)], 4, {0: 3, 1: 3}),  # rank 3 has no dispute of its own
        ([(0, 1), (1, 2)], 3, {0: 2, 1: 0}),
    ],
)
def test_the_third_is_neither_of_the_two(pairs: list[tuple[int, int]], world_size: int, thirds: dict[int, int]) -> None:
    disputes = [Recomputation(number, owner, checker) for number, (owner, checker) in enumerate(pairs)]
    assert choose_thirds(disputes, world_size) == thirds


def test_a_row_is_read_from_its_numbers() -> None:
    assert Row.from_numbers(range(16)) == Row(
        ((0, 1), (2, 3)), ((4, 5), (6, 7)), ((8, 9), (10, 11), (12, 13), (14, 15))
    )
