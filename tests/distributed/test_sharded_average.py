"""An average in pieces: what is cut, what is whole, and how it gets into the network and out of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from signs_dist.checkpointing.tensors import plain_weights
from signs_dist.distributed.sharded_average import ShardedAverage
from tests.distributed.sharded_learner import Learner
from tests.distributed.thread_group import ThreadGroup, in_threads

SGD = {"name": "sgd", "lr": 0.1}


def test_parameters_are_cut_and_buffers_are_whole() -> None:
    def work(group: ThreadGroup) -> tuple[Any, ...]:
        average = Learner(SGD, group).average
        assert isinstance(average, ShardedAverage)
        return average.names, set(average.spread), average.weights()["1.running_mean"].shape

    for names, spread, shape in in_threads(2, work):
        assert set(names) - spread == {"1.running_mean", "1.running_var", "1.num_batches_tracked"}
        assert names[:2] == ("0.weight", "0.bias")
        assert shape == (37,)


def test_the_network_has_the_whole_average_within_the_block_and_its_own_weights_after_it() -> None:
    def work(group: ThreadGroup) -> tuple[Any, ...]:
        learner = Learner(SGD, group)
        learner.train(range(2))
        before = learner.weights()
        with learner.average.swapped_into(learner.model):
            within = plain_weights(learner.model)
        after = learner.weights()
        return within, all(torch.equal(before[name], after[name]) for name in before)

    whole = Learner(SGD)
    whole.train(range(2))
    for within, is_unchanged in in_threads(3, work):
        assert is_unchanged
        assert all(torch.equal(within[name], tensor) for name, tensor in whole.average.weights().items())


def test_an_average_of_another_network_is_an_error() -> None:
    def work(group: ThreadGroup) -> None:
        learner = Learner(SGD, group)
        with pytest.raises(KeyError, match="other"):
            learner.average.load_state_dict({"num_updates": 1, "weights": learner.weights() | {"other": torch.ones(1)}})

    in_threads(2, work)
