"""The fixed tree: the same bits whoever adds what."""

from __future__ import annotations

import gc
import math
import weakref
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from signs_dist.data.plan import MicroBatches, Shard
from signs_dist.distributed.gradient_tree import GradientTree, TreeSum, local_nodes
from tests.distributed.thread_group import ThreadGroup, in_threads

pytestmark = pytest.mark.usefixtures("one_thread")


def reference_sum(leaves: Sequence[Tensor]) -> Tensor:
    """Neighbours pairwise, level by level; a last one without neighbour moves up."""
    level = [leaf.clone() for leaf in leaves]
    while len(level) > 1:
        level = [
            level[place] + level[place + 1] if place + 1 < len(level) else level[place]
            for place in range(0, len(level), 2)
        ]
    return level[0]


def leaves_of(count: int) -> list[Tensor]:
    torch.manual_seed(count)
    return [torch.randn(50) * 10.0 ** torch.randint(-6, 6, (50,)) for _ in range(count)]


@pytest.mark.parametrize("num_leaves", range(1, 18))
def test_any_split_gives_the_bits_of_the_tree(num_leaves: int) -> None:
    leaves = leaves_of(num_leaves)
    expected = reference_sum(leaves)
    for world_size in range(1, num_leaves + 1):
        whole = TreeSum(num_leaves)
        for rank in range(world_size):
            first, end = Shard(rank, world_size).bounds(num_leaves)
            part = TreeSum(num_leaves)
            for leaf in range(first, end):
                part.push((0, leaf), leaves[leaf].clone())
            nodes = part.take()
            assert [node for node, _ in nodes] == local_nodes(range(first, end), num_leaves)
            for node, vector in nodes:
                whole.push(node, vector)
        ((node, total),) = whole.take()
        assert node == whole.root
        assert torch.equal(total, expected)


def test_another_order_of_adding_gives_other_bits() -> None:
    leaves = leaves_of(8)
    assert not torch.equal(sum(leaves[1:], start=leaves[0]), reference_sum(leaves))


@pytest.mark.parametrize(
    ("leaves", "num_leaves", "nodes"),
    [
        (range(8), 8, [(3, 0)]),
        (range(4), 8, [(2, 0)]),  # a whole subtree travels as one vector
        (range(3, 6), 8, [(0, 3), (1, 2)]),
        (range(6, 7), 7, [(1, 3)]),  # the last one of an odd number moves up by itself
        (range(3), 3, [(2, 0)]),
        (range(1), 1, [(0, 0)]),
    ],
)
def test_what_a_process_sends(leaves: range, num_leaves: int, nodes: list[tuple[int, int]]) -> None:
    assert local_nodes(leaves, num_leaves) == nodes


def test_vectors_that_were_added_are_free_again() -> None:
    freed: list[Tensor] = []
    tree = TreeSum(4, freed.append)
    for leaf in range(4):
        tree.push((0, leaf), torch.ones(1))
    assert len(freed) == 3


def network() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5), nn.Linear(5, 3))
    model.register_parameter("unused", nn.Parameter(torch.ones(7)))
    return model.to(memory_format=torch.channels_last)


def step_gradients(
    model: nn.Module, images: Tensor, count: int, rank: int, world_size: int, group: Any
) -> tuple[list[Tensor], Tensor]:
    """Gradients of two steps of one rank over `count` micro-batches, and the second step's extras."""
    parameters = list(model.parameters())
    micro_batches = MicroBatches(len(images) // count, count)
    tree = GradientTree(parameters, 2, micro_batches, Shard(rank, world_size), group)
    numbers = micro_batches.of(Shard(rank, world_size))
    found: list[Tensor] = []
    for scale in (1.0, 3.0):
        for number in numbers:
            part = images[number * micro_batches.size : (number + 1) * micro_batches.size]
            loss = (model(part) * scale).square().sum()
            if number == numbers.start:
                for parameter in parameters:
                    parameter.grad = None
            tree.begin(number, torch.tensor([1.0, float(number)]), is_last=number == numbers[-1])
            loss.backward()  # type: ignore[no-untyped-call]
            tree.end()
        extras = tree.finish()
        found += [parameter.grad.clone() for parameter in parameters if parameter.grad is not None]
    assert len(found) == 2 * len(parameters)
    return found, extras


@pytest.mark.parametrize(("count", "world_size"), [(4, 2), (4, 4), (8, 3), (5, 2), (7, 4), (3, 3)])
def test_gradients_are_the_same_bits_on_any_number_of_processes(
    count: int, world_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "signs_dist.distributed.gradient_tree.BUCKET_BYTES", 600
    )  # several buckets for so small a network
    torch.manual_seed(1)
    images = torch.randn(count * 2, 1, 6, 6)
    expected, extras = step_gradients(network(), images, count, 0, 1, None)
    models = [network() for _ in range(world_size)]

    def work(group: ThreadGroup) -> tuple[list[Tensor], Tensor]:
        return step_gradients(models[group.rank], images, count, group.rank, world_size, group)

    found = in_threads(world_size, work)
    for gradients, theirs in found:
        assert all(torch.equal(one, other) for one, other in zip(gradients, expected, strict=True))
        assert torch.equal(theirs, extras)
    assert extras.tolist() == [count, sum(range(count))]


def test_gradients_are_the_sum_over_micro_batches() -> None:
    torch.manual_seed(1)
    images = torch.randn(8, 1, 6, 6)
    found, _ = step_gradients(network(), images, 4, 0, 1, None)
    model = network()
    model(images).square().sum().backward()
    for parameter, gradient in zip(model.parameters(), found[: len(found) // 2], strict=True):
        expected = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(gradient, expected)
        assert gradient.stride() == parameter.stride()  # fused optimizers want the parameter's own layout


def test_a_network_is_freed_when_its_training_is_over() -> None:
    model = network()
    step_gradients(model, torch.randn(4, 1, 6, 6), 2, 0, 1, None)
    parameter = weakref.ref(next(model.parameters()))
    assert parameter() is not None
    del model
    gc.collect()
    assert parameter() is None


def test_a_gradient_that_is_no_number_does_not_stay_between_the_gradients() -> None:
    """With float16 the first steps often overflow: the scaler skips them, and the next one is as any other."""
    parameter = nn.Parameter(torch.zeros(3))
    tree = GradientTree([parameter], 0, MicroBatches(1, 1), Shard(), None)
    norms = []
    for value in (float("nan"), 2.0):
        parameter.grad = None
        tree.begin(0, torch.zeros(0), is_last=True)
        (parameter * torch.tensor([value, 1.0, 2.0])).sum().backward()
        tree.end()
        tree.finish()
        norms.append(float(tree.clip(1.5)))
    assert math.isnan(norms[0])
    assert norms[1] == pytest.approx(3)
    assert parameter.grad is not None
    assert parameter.grad.tolist() == pytest.approx([1, 0.5, 1])


def test_a_backward_pass_aside_is_seen_and_is_in_no_sum() -> None:
    torch.manual_seed(0)
    used, unused = nn.Parameter(torch.randn(5, 3)), nn.Parameter(torch.ones(2))
    tree = GradientTree([used, unused], 1, MicroBatches(1, 2), Shard(0, 1), None)
    inputs = torch.randn(2, 5, 3)
    seen: list[tuple[int, int, Tensor]] = []

    def step(*, aside: bool) -> Tensor:
        used.grad = unused.grad = None
        if aside:
            with tree.aside(1):
                (used * inputs[1]).sum().backward()
        for number in range(2):
            tree.begin(number, torch.ones(1), is_last=number == 1)
            (used * inputs[number]).sum().backward()
            tree.end()
        assert tree.finish().tolist() == [2.0]
        assert used.grad is not None
        assert unused.grad is not None
        assert not unused.grad.any()
        return used.grad.clone()

    plain = step(aside=False)
    tree.on_leaf = lambda number, first, vector: seen.append((number, first, vector.clone()))
    assert torch.equal(step(aside=True), plain)
    assert [number for number, _, _ in seen] == [1, 0, 1]
    assert torch.equal(seen[0][2], seen[2][2]), "the same micro-batch gives the same vector"
    assert not torch.equal(seen[0][2], seen[1][2])
    tree.on_leaf = None
    assert torch.equal(step(aside=False), plain)
    assert len(seen) == 3
