"""Orders as a function of (seed, epoch): uniform, independent, balanced where asked, from any position on."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from signs_dist.data.order import BalancedOrder, Order, Permutation, ShuffledOrder, permute
from signs_dist.data.randomness import Stream, stream_key, stream_keys
from tests.data.chi_square import chi_square, chi_square_limit, pair_table

Indices = npt.NDArray[np.int64]
WholeOrder = Callable[[int, int], Indices]
"""From (size, key) to the order of all samples."""


def our_order(size: int, key: int) -> Indices:
    return Permutation(size, key)(np.arange(size))


def identity(size: int, key: int) -> Indices:
    return np.arange(size)


def shift(size: int, key: int) -> Indices:
    return (np.arange(size) + key) % size


def stride(size: int, key: int) -> Indices:
    """An affine order, a tempting shortcut: the size must be prime."""
    return (np.arange(size) * (1 + key % (size - 1)) + key // size) % size


def labels_of(sizes: list[int]) -> Indices:
    """Labels of classes of these sizes, well mixed."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    return np.random.default_rng(0).permutation(labels)


def whole(order: Order, epoch: int) -> Indices:
    return order(epoch, np.arange(order.num_samples))


@pytest.mark.parametrize("sizes", [range(1, 301), (1_000, 65_536, 65_537, 1_000_003)], ids=["1..300", "large"])
def test_a_permutation_is_a_bijection(sizes: range | tuple[int, ...]) -> None:
    for size in sizes:
        order = our_order(size, stream_key(0, Stream.ORDER, size))
        assert order.dtype == np.int64
        assert np.array_equal(np.bincount(order, minlength=size), np.ones(size)), size


def test_a_position_of_a_billion_needs_no_memory() -> None:
    size = 10**9
    tracemalloc.start()
    try:
        sent = Permutation(size, 3)(np.arange(0, size, size // 50))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(set(sent.tolist())) == 50
    assert ((sent >= 0) & (sent < size)).all()
    assert peak < 100_000


def test_the_same_key_gives_the_same_order_and_positions_can_be_asked_in_any_order() -> None:
    order = our_order(1000, 5)
    backwards = np.arange(1000)[::-1]
    assert np.array_equal(Permutation(1000, 5)(backwards), order[backwards])
    assert not np.array_equal(our_order(1000, 6), order)


def test_an_order_stays_what_it_is_from_version_to_version() -> None:
    # A run that was begun with one version is resumed with another.
    assert ShuffledOrder(1000, 3)(1, np.arange(5)).tolist() == [494, 60, 87, 876, 606]
    assert ShuffledOrder(65_537, 3)(1, np.arange(5)).tolist() == [59820, 44536, 60033, 58882, 19840]
    assert BalancedOrder(np.arange(30) % 3, 3)(1, np.arange(9)).tolist() == [23, 3, 16, 6, 11, 13, 2, 19, 12]


def test_many_permutations_at_once_are_those_one_by_one() -> None:
    sizes = np.array([1, 2, 3, 10, 50, 10**9, 10**6 + 3])
    keys = stream_keys(0, Stream.MEMBERS, sizes)
    together = permute(sizes - 1, sizes, keys)
    one_by_one = [
        Permutation(size, key)(np.array([size - 1])).item()
        for size, key in zip(sizes.tolist(), keys.tolist(), strict=True)
    ]
    assert together.tolist() == one_by_one


def test_keys_of_many_are_those_one_by_one() -> None:
    counters = np.array([0, 1, 7, 2**40])
    keys = stream_keys(2**63 - 1, Stream.ORDER, 5, counters)
    assert keys.dtype == np.uint64
    assert keys.tolist() == [stream_key(2**63 - 1, Stream.ORDER, 5, counter) for counter in counters.tolist()]


@pytest.mark.parametrize(("order", "good"), [(our_order, True), (identity, False)])
@pytest.mark.parametrize("size", [2, 3, 5, 12, 17])
def test_every_position_gets_every_sample_equally_often(size: int, order: WholeOrder, good: bool) -> None:
    num_keys = 1500
    counts = np.zeros((size, size), np.int64)
    for epoch in range(num_keys):
        counts[np.arange(size), order(size, stream_key(0, Stream.ORDER, epoch))] += 1
    assert (chi_square(counts, num_keys / size) < chi_square_limit((size - 1) ** 2)) == good


@pytest.mark.parametrize(("order", "good"), [(our_order, True), (shift, False)])
def test_every_order_of_four_samples_is_equally_likely(order: WholeOrder, good: bool) -> None:
    legal = {orders: number for number, orders in enumerate(itertools.permutations(range(4)))}
    counts = np.zeros(len(legal), np.int64)
    for epoch in range(3000):
        counts[legal[tuple(order(4, stream_key(0, Stream.ORDER, epoch)).tolist())]] += 1
    assert (chi_square(counts, 3000 / len(legal)) < chi_square_limit(len(legal) - 1)) == good


@pytest.mark.parametrize(("order", "good"), [(our_order, True), (identity, False), (shift, False), (stride, False)])
def test_where_a_sample_goes_says_nothing_about_its_neighbours(order: WholeOrder, good: bool) -> None:
    size = 20_011
    sent = order(size, stream_key(2, Stream.ORDER, 0)) / size
    for distance in (1, 2, 32):
        cells = pair_table(sent[:-distance], sent[distance:], 16)
        assert (chi_square(cells, (size - distance) / 256) < chi_square_limit(255)) == good, distance


@pytest.mark.parametrize(("order", "good"), [(our_order, True), (identity, False), (shift, False)])
@pytest.mark.parametrize("size", [17, 216, 20_011])
def test_neighbours_do_not_stay_neighbours(size: int, order: WholeOrder, good: bool) -> None:
    # Of n samples' n - 1 neighbouring pairs one stays in order by chance, on average: a Poisson number over epochs.
    num_epochs = 400 if size < 1000 else 20
    kept = 0
    for epoch in range(num_epochs):
        kept += int((np.diff(order(size, stream_key(1, Stream.ORDER, epoch))) == 1).sum())
    expected = num_epochs * (size - 1) / size
    assert (abs(kept - expected) < 5 * expected**0.5) == good


@pytest.mark.parametrize(("order", "good"), [(our_order, True), (identity, False), (shift, False)])
def test_epochs_and_seeds_are_independent(order: WholeOrder, good: bool) -> None:
    size = 20_011
    for one, other in (((0, 0), (0, 1)), ((0, 1), (0, 2)), ((0, 0), (1, 0))):
        keys = [stream_key(seed, Stream.ORDER, epoch) for seed, epoch in (one, other)]
        first, second = (order(size, key) / size for key in keys)
        assert (chi_square(pair_table(first, second, 16), size / 256) < chi_square_limit(15 * 15)) == good


@pytest.mark.parametrize(("order", "good"), [(our_order, True), (identity, False), (shift, False)])
def test_epochs_are_not_correlated(order: WholeOrder, good: bool) -> None:
    # The correlation of two independent orders of n is 0 ± 1 / sqrt(n - 1).
    size, num_epochs = 1080, 40
    orders = np.stack([order(size, stream_key(0, Stream.ORDER, epoch)) for epoch in range(num_epochs)])
    pairs = np.corrcoef(orders)[np.triu_indices(num_epochs, 1)]
    assert bool((abs(pairs) < 5 / (size - 1) ** 0.5).all()) == good


SIZES = [[1], [5, 5, 5], [40, 7, 1], [100, 0, 30, 3], [9, 1, 1, 1, 1, 1]]


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_every_block_of_a_balanced_order_has_each_class_once(sizes: list[int]) -> None:
    labels = labels_of(sizes)
    order = BalancedOrder(labels, 0)
    classes = set(labels.tolist())
    assert (order.num_samples, order.num_classes) == (len(labels), len(classes))
    for epoch in range(5):
        drawn = labels[whole(order, epoch)]
        for start in range(0, len(drawn), len(classes)):
            block = drawn[start : start + len(classes)].tolist()
            assert len(set(block)) == len(block)
            assert start + len(classes) > len(drawn) or set(block) == classes


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_a_balanced_order_uses_the_members_of_a_class_equally_often(sizes: list[int]) -> None:
    labels = labels_of(sizes)
    order = BalancedOrder(labels, 0)
    for epoch in range(5):
        counts = np.bincount(whole(order, epoch), minlength=len(labels))
        for label in set(labels.tolist()):
            of_class = counts[labels == label]
            assert of_class.max() - of_class.min() <= 1
            assert abs(of_class.sum() - len(labels) / order.num_classes) <= 1
        # From any position on, not only over an epoch: a class of n has used all its members after n blocks.
        drawn = whole(order, epoch)
        for label, size in enumerate(sizes):
            uses = drawn[labels[drawn] == label]
            rounds = [uses[start : start + size] for start in range(0, len(uses) if size else 0, size or 1)]
            assert all(len(set(used.tolist())) == len(used) for used in rounds)


def test_a_balanced_order_draws_each_round_of_a_class_anew() -> None:
    labels = labels_of([400, 10])
    drawn = whole(BalancedOrder(labels, 0), 0)
    small = drawn[labels[drawn] == 1][:200].reshape(20, 10)
    assert len({tuple(used) for used in small.tolist()}) == 20


def test_a_large_class_shows_other_members_in_other_epochs() -> None:
    labels = labels_of([90, 5, 5])
    order = BalancedOrder(labels, 0)
    seen = np.zeros(100, np.int64)
    for epoch in range(300):
        seen += np.bincount(whole(order, epoch), minlength=100)
    large = seen[labels == 0]
    assert chi_square(large, large.mean()) < chi_square_limit(89)


@pytest.mark.parametrize("order", [ShuffledOrder(103, 4), BalancedOrder(labels_of([60, 40, 3]), 4)], ids=["s", "b"])
def test_any_position_is_known_without_those_before_it(order: Order) -> None:
    positions = np.arange(103)
    for epoch in range(3):
        expected = whole(order, epoch)
        assert expected.dtype == np.int64
        assert np.array_equal(order(epoch, positions[::-1]), expected[::-1])
        assert [order(epoch, positions[at : at + 1]).item() for at in positions] == expected.tolist()
        for start in (1, 7, 102):
            assert np.array_equal(order(epoch, positions[start:]), expected[start:])


@pytest.mark.parametrize("kind", ["shuffled", "balanced"])
def test_orders_differ_by_epoch_and_by_seed_only(kind: str) -> None:
    def order(seed: int) -> Order:
        return ShuffledOrder(100, seed) if kind == "shuffled" else BalancedOrder(labels_of([50, 50]), seed)

    orders = {tuple(whole(order(seed), epoch).tolist()) for seed in range(5) for epoch in range(5)}
    assert len(orders) == 25
    assert np.array_equal(whole(order(2), 3), whole(order(2), 3))


def test_the_classes_of_a_block_come_in_every_order_equally_often() -> None:
    labels = labels_of([3000, 3000, 3000])
    order = BalancedOrder(labels, 1)
    legal = {orders: number for number, orders in enumerate(itertools.permutations(range(3)))}
    blocks = labels[whole(order, 0)].reshape(3000, 3)
    numbers = np.array([legal[tuple(block)] for block in blocks.tolist()])
    assert chi_square(np.bincount(numbers, minlength=6), 500) < chi_square_limit(5)
    neighbours = np.bincount(numbers[:-1] * 6 + numbers[1:], minlength=36)
    assert chi_square(neighbours, 2999 / 36) < chi_square_limit(35)
    other = np.array([legal[tuple(block)] for block in labels[whole(order, 1)].reshape(3000, 3).tolist()])
    assert chi_square(np.bincount(numbers * 6 + other, minlength=36), 3000 / 36) < chi_square_limit(35)


def test_a_balanced_order_of_many_classes_needs_memory_for_its_samples_only() -> None:
    order = BalancedOrder(np.arange(100_000) % 1000, 0)
    tracemalloc.start()
    try:
        order(0, np.arange(50_000, 50_032))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 200_000  # a list of the epoch would be 800,000
