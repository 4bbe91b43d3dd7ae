"""Checkpoints of an optimizer in pieces: those of a whole one, taken up by any number of processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from signs_dist.checkpointing.tensors import Copier, save
from signs_dist.config.settings import OptimConfig
from signs_dist.data.plan import MicroBatches, Shard
from signs_dist.distributed.sharded_average import ShardedAverage
from signs_dist.distributed.sharded_state import ShardedState
from signs_dist.distributed.sharded_tree import ShardedTree
from signs_dist.errors import UserError
from signs_dist.learning.optim import optimizer_of_groups
from signs_dist.learning.parameter_groups import parameter_groups
from signs_dist.models.weights import read_plain
from tests.distributed.sharded_learner import Learner, train_in_threads
from tests.distributed.test_sharded_tree import OPTIMIZERS, assert_equal
from tests.distributed.thread_group import ThreadGroup, in_threads

pytestmark = pytest.mark.usefixtures("one_thread")


def values(content: Any) -> Any:
    """Tensors as lists, so that two contents can be compared."""
    if isinstance(content, torch.Tensor):
        return [str(content.dtype), list(content.shape), content.tolist()]
    if isinstance(content, dict):
        return {name: values(value) for name, value in content.items()}
    return [values(value) for value in content] if isinstance(content, (list, tuple)) else content


@pytest.mark.parametrize("is_frozen", [False, True], ids=["all", "head"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_checkpoint_does_not_know_that_the_optimizer_was_in_pieces(
    name: str, is_frozen: bool, tmp_path: Path
) -> None:
    """Before a thaw too: Adagrad keeps a state for frozen parameters."""
    whole = Learner(OPTIMIZERS[name], is_frozen=is_frozen)
    whole.train(range(2))
    whole.save(tmp_path / "whole.pt")

    def work(group: ThreadGroup) -> None:
        learner = Learner(OPTIMIZERS[name], group, is_frozen=is_frozen)
        learner.train(range(2))
        learner.save(tmp_path / "pieces.pt")

    in_threads(3, work)
    assert values(read_plain(tmp_path / "pieces.pt")) == values(read_plain(tmp_path / "whole.pt"))


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize(("before", "after"), [(3, 2), (1, 4), (4, 1), (2, 0)], ids=str)
def test_training_goes_on_at_another_size_and_with_the_switch_flipped(
    name: str, before: int, after: int, tmp_path: Path
) -> None:
    """A size of 1 is one process; 0 stands for two processes with whole optimizers."""

    def go(world_size: int, work: Any) -> list[Any]:
        if world_size == 1:
            return [work(None, True)]
        return in_threads(world_size or 2, lambda group: work(group, world_size > 0))

    def first(group: Any, shards: bool) -> None:
        learner = Learner(OPTIMIZERS[name], group, shards=shards, clip_norm=0.5)
        learner.train(range(2))
        if group is None or group.rank == 0 or shards:
            learner.save(tmp_path / "checkpoint.pt")

    def second(group: Any, shards: bool) -> Learner:
        learner = Learner(OPTIMIZERS[name], group, shards=shards, clip_norm=0.5)
        learner.load(tmp_path / "checkpoint.pt")
        learner.train(range(2, 4))
        return learner

    whole = Learner(OPTIMIZERS[name], clip_norm=0.5)
    whole.train(range(4))
    go(before, first)
    for learner in go(after, second):
        assert_equal(learner.weights(), whole.weights())
        assert_equal(learner.seen_average, whole.average.weights())


def test_the_process_that_writes_alone_makes_the_content() -> None:
    def work(group: ThreadGroup) -> set[str]:
        learner = Learner(OPTIMIZERS["adam"], group)
        learner.train(range(1))
        assert learner.sharding is not None
        return set(learner.sharding.ship(learner.optimizer, learner.average, Copier())[1])

    assert in_threads(3, work) == [{"ema", "optimizer"}, set(), set()]


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    one_group = {"name": "adam", "weight_decay": 0.0}
    Learner(one_group).save(tmp_path / "checkpoint.pt")

    def work(group: ThreadGroup) -> str:
        with pytest.raises(UserError, match="holds an optimizer of other parameters") as caught:
            Learner(OPTIMIZERS["adamw, two groups"], group).load(tmp_path / "checkpoint.pt")
        return str(caught.value)

    assert len(set(in_threads(2, work))) == 1


@pytest.mark.parametrize(("name", "is_frozen"), [("adam", False), ("adagrad", True)])
def test_the_whole_state_is_the_same_on_every_process(name: str, is_frozen: bool) -> None:
    whole = Learner(OPTIMIZERS[name], is_frozen=is_frozen)
    whole.train(range(2))

    def work(group: ThreadGroup) -> Any:
        learner = Learner(OPTIMIZERS[name], group, is_frozen=is_frozen)
        learner.train(range(2))
        assert isinstance(learner.sharding, ShardedState)
        return values(learner.sharding.collect(learner.optimizer))

    for found in in_threads(3, work):
        assert found == values(whole.optimizer.state_dict())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_process_without_any_piece_steps_averages_and_saves(name: str, tmp_path: Path) -> None:
    """Three processes and two blocks: the third process has nothing."""

    def work(group: ThreadGroup) -> int:
        model, config = torch.nn.Linear(3, 2), OptimConfig(**OPTIMIZERS[name])
        tree = ShardedTree(list(model.parameters()), 0, MicroBatches(1, 3), Shard(group.rank, 3), group)  # type: ignore[arg-type]
        sharding = ShardedState(tree, parameter_groups(model, config), group)  # type: ignore[arg-type]
        optimizer = optimizer_of_groups(sharding.own_groups(), config)
        average = ShardedAverage(model, 0.9, tree)
        tree.begin(group.rank, torch.zeros(0), is_last=True)
        model(torch.ones(1, 3)).sum().backward()
        tree.end()
        tree.finish()
        tree.clip(1.0)
        optimizer.step()
        tree.share_weights()
        average.update()
        shipment, spread = sharding.ship(optimizer, average, Copier())
        if group.rank == 0:
            save(tmp_path / "checkpoint.pt", spread)
        else:
            shipment.send()
        with average.swapped_into(model):
            return sum(piece is not None for piece in tree.pieces.values())

    assert in_threads(3, work) == [1, 1, 0]
    content = read_plain(tmp_path / "checkpoint.pt")
    assert {name: tensor.numel() for name, tensor in content["ema"]["weights"].items()} == {"weight": 6, "bias": 2}


def test_a_process_without_a_piece_trains_too() -> None:
    """Four processes and a network of few blocks: in some buckets a process has nothing to step."""
    whole = Learner(OPTIMIZERS["sgd"])
    whole.train(range(2))
    learners = train_in_threads(4, OPTIMIZERS["sgd"], range(2))
    for learner in learners:
        assert_equal(learner.weights(), whole.weights())
