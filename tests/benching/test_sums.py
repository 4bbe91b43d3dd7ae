"""Sums over processes, which stand in for each other here; real ones sum in test_bench.py."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from signs_dist.benching.sums import measure_sums
from signs_dist.data.plan import MicroBatches, Shard
from signs_dist.distributed.group import Pending
from signs_dist.distributed.ordered_norm import BLOCK


class Done:
    def wait(self) -> None:
        return


@dataclasses.dataclass
class Mirror:
    """Rank 0 of two processes that hold the same numbers."""

    summed: list[int] = dataclasses.field(default_factory=list)
    gathered: list[int] = dataclasses.field(default_factory=list)
    rank: int = 0
    world_size: int = 2
    device: torch.device = dataclasses.field(default_factory=lambda: torch.device("cpu"))

    def sum(self, tensor: Tensor) -> Tensor:
        self.summed.append(tensor.numel())
        return tensor.mul_(2)

    def start_exchange(self, pieces: Tensor, num_pieces: Sequence[int]) -> Pending:
        return Pending(Done(), torch.cat([pieces[0], pieces[0]]))

    def start_gather(self, chunk: Tensor, out: Tensor) -> Pending:
        self.gathered.append(out.numel())
        return Pending(Done(), out.copy_(torch.cat([chunk, chunk])))


def test_a_gradient_is_summed_in_both_modes_and_a_number() -> None:
    model = nn.Linear(9, 2)
    model.bias.requires_grad = False
    group: Any = Mirror()
    sums = measure_sums(model, MicroBatches(4, 4), Shard(0, 2), group, seconds=0.001, share=lambda value: value)
    assert sums.num_bytes == 4 * 18
    assert set(group.summed) == {18, 1}
    assert set(group.gathered) == {2 * BLOCK}  # filled up to a block for each process
    assert min(sums.seconds, sums.exact_seconds, sums.latency_seconds) > 0
    assert model.weight.grad is None
