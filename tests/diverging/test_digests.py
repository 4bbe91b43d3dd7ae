"""Digests are of bits, types and shapes, and of nothing else."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from signs_dist.diverging.digests import (
    digest_of,
    entries_of,
    of_average,
    of_buffers,
    of_gradients,
    of_weights,
    together,
)
from signs_dist.diverging.facts import Digests
from tests.distributed.sharded_learner import Learner
from tests.distributed.thread_group import ThreadGroup, in_threads


def test_a_digest_is_of_the_bits_and_not_of_the_memory_layout() -> None:
    images = torch.arange(48.0).reshape(2, 3, 2, 4)
    assert digest_of(images) == digest_of(images.contiguous(memory_format=torch.channels_last))
    others = [images.double(), images.reshape(-1), images + 1, images.bfloat16(), torch.tensor(1.0), torch.zeros(0)]
    assert len({digest_of(each) for each in [images, *others]}) == 7
    assert digest_of(torch.tensor(0.0)) != digest_of(torch.tensor(-0.0))


def test_many_digests_together_do_not_depend_on_their_order() -> None:
    assert together({"a": "1", "b": "2"}) == together({"b": "2", "a": "1"})
    assert together({"a": "1", "b": "2"}) != together({"a": "2", "b": "1"})
    assert together({}) == ""


def test_tensors_of_a_network_by_name() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    assert list(of_weights(net)) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert list(of_buffers(net)) == ["1.running_mean", "1.running_var", "1.num_batches_tracked"]
    assert of_gradients(net) == {}
    net(torch.ones(2, 2)).sum().backward()
    assert list(of_gradients(net)) == ["0.weight", "0.bias", "1.weight", "1.bias"]


def test_entries_of_groups_are_plain_and_say_what_is_computed() -> None:
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=0.1, betas=(0.8, 0.9), foreach=True)
    (entries,) = entries_of(optimizer)
    assert (entries["lr"], entries["betas"]) == (0.1, [0.8, 0.9])
    assert not {"params", "foreach", "fused"} & entries.keys()


def test_an_average_in_pieces_has_the_digests_of_a_whole_one() -> None:
    def digests(group: ThreadGroup | None) -> tuple[Digests, bool]:
        learner = Learner({"name": "sgd", "lr": 0.1}, group)
        learner.train(range(2))
        before = learner.weights()
        state: Any = SimpleNamespace(average=learner.average, model=learner.model)
        found = of_average(state)
        return found, all(torch.equal(before[name], tensor) for name, tensor in learner.weights().items())

    whole, _ = digests(None)
    assert {"updates", "0.weight", "1.running_mean"} <= whole.keys()
    assert in_threads(2, digests) == [(whole, True)] * 2
    assert of_average(SimpleNamespace(average=None)) == {}  # type: ignore[arg-type]
