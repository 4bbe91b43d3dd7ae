"""An optimizer and an average in pieces: the bits of whole ones, for every optimizer and number of processes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from signs_dist.distributed.ordered_norm import BLOCK
from signs_dist.distributed.sharded_tree import ShardedTree, flat_like, flat_view
from tests.distributed.sharded_learner import Learner, train_in_threads

pytestmark = pytest.mark.usefixtures("one_thread")

OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {"name": "sgd", "lr": 0.05, "weight_decay": 0.01},
    "sgd without momentum": {"name": "sgd", "lr": 0.05, "momentum": 0.0},
    "adam": {"name": "adam", "lr": 0.01},
    "adamw, two groups": {"name": "adamw", "lr": 0.01, "weight_decay": 0.1, "decay_norms_and_biases": False},
    "adagrad": {"name": "adagrad", "lr": 0.01},
    "rmsprop": {"name": "rmsprop", "lr": 0.01, "momentum": 0.9},
}


@pytest.fixture(autouse=True)
def _several_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("signs_dist.distributed.gradient_tree.BUCKET_BYTES", 9_000)


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    differing = [name for name in one if not torch.equal(one[name], other[name])]
    assert differing == []


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_pieces_give_the_bits_of_one_process(name: str, world_size: int) -> None:
    whole = Learner(OPTIMIZERS[name], clip_norm=0.5)
    whole.train(range(4))
    for learner in train_in_threads(world_size, OPTIMIZERS[name], range(4), clip_norm=0.5):
        assert_equal(learner.weights(), whole.weights())
        assert_equal(learner.seen_average, whole.average.weights())  # type: ignore[union-attr]


@pytest.mark.parametrize("shards", [True, False])
def test_a_norm_that_is_clipped_has_the_same_bits_on_any_number_of_processes(shards: bool) -> None:
    whole = Learner(OPTIMIZERS["sgd"], clip_norm=0.01)
    whole.train(range(3))
    for learner in train_in_threads(3, OPTIMIZERS["sgd"], range(3), clip_norm=0.01, shards=shards):
        assert [norm.item() for norm in learner.norms] == [norm.item() for norm in whole.norms]
        assert_equal(learner.weights(), whole.weights())
    assert min(norm.item() for norm in whole.norms) > 0.01


def test_no_process_keeps_more_than_its_part() -> None:
    whole = Learner(OPTIMIZERS["adam"])
    whole.train(range(1))
    total = whole.num_kept()
    kept = [learner.num_kept() for learner in train_in_threads(4, OPTIMIZERS["adam"], range(1))]
    assert sum(kept) == total
    assert max(kept) < 0.35 * total  # blocks of so small a network are not divided evenly


def test_tensors_are_cut_between_blocks() -> None:
    """Fused kernels compute the end of a tensor otherwise: another cut would give other bits now and then."""
    num_cuts = 0
    for learner in train_in_threads(3, OPTIMIZERS["adam"], range(0)):
        assert isinstance(learner.tree, ShardedTree)
        for parameter in learner.parameters:
            bounds = learner.tree.bounds(parameter)
            num_cuts += len(bounds) - 1
            assert [start % BLOCK for _, start, _ in bounds] == [0] * len(bounds)
            assert [end for _, _, end in bounds] == [*(start for _, start, _ in bounds[1:]), parameter.numel()]
    assert num_cuts > 0


def test_whole_gradients_are_not_kept() -> None:
    for learner in train_in_threads(2, OPTIMIZERS["sgd"], range(1)):
        assert [parameter.grad for parameter in learner.model.parameters()] == [None] * len(learner.parameters)


def test_the_order_of_the_memory_is_that_of_the_layout() -> None:
    plain = torch.arange(24.0).reshape(1, 2, 3, 4)
    turned = plain.to(memory_format=torch.channels_last)
    assert flat_view(turned).tolist() == plain.permute(0, 2, 3, 1).reshape(-1).tolist()
    assert torch.equal(flat_like(plain, turned), flat_view(turned))
    flat_view(turned)[0] = 100.0
    assert turned[0, 0, 0, 0] == 100.0
