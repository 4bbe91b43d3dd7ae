"""How long sums over the processes of a run take: of the gradient, in fast and in exact mode, and of one number."""

from __future__ import annotations

import torch
from torch import nn

from signs_dist.benching.figures import Sums
from signs_dist.data.plan import MicroBatches, Shard
from signs_dist.distributed.gradient_tree import GradientTree
from signs_dist.distributed.group import Group
from signs_dist.training.bare import synchronize
from signs_dist.tuning.rounds import Share, measure


class _Exact:
    """Sums gradients of one in the fixed order of exact mode, without a network that computes them."""

    def __init__(self, model: nn.Module, micro_batches: MicroBatches, shard: Shard, group: Group) -> None:
        # Parameters of its own: the tree's hooks stay on them.
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._parameters = [nn.Parameter(parameter.detach().clone()) for parameter in trained]
        self._numbers = micro_batches.of(shard)
        self._tree = GradientTree(self._parameters, 0, micro_batches, shard, group)
        self._device = group.device

    def work(self, num_sums: int) -> None:
        nothing = torch.zeros(0, device=self._device)
        for _ in range(num_sums):
            for number in self._numbers:
                self._tree.begin(number, nothing, is_last=number == self._numbers[-1])
                total = torch.stack([parameter.sum() for parameter in self._parameters]).sum()
                total.backward()  # type: ignore[no-untyped-call]
                self._tree.end()
            self._tree.finish()
            for parameter in self._parameters:
                parameter.grad = None
        synchronize(self._device)


def measure_sums(
    model: nn.Module, micro_batches: MicroBatches, shard: Shard, group: Group, *, seconds: float, share: Share
) -> Sums:
    """Measure sums over all processes. All of them call this.

    Args:
        model: the network, for the size of its gradient.
        micro_batches: of a step.
        shard: which of them this process computes.
        group: all processes.
        seconds: to spend on each kind of sum, about.
        share: gives the value of rank 0 on all processes.
    """
    num_values = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    gradient = torch.zeros(num_values, device=group.device)
    number = torch.zeros(1, device=group.device)

    def repeat(tensor: torch.Tensor, num_sums: int) -> None:
        for _ in range(num_sums):
            group.sum(tensor)
        synchronize(group.device)

    exact = _Exact(model, micro_batches, shard, group)
    found = measure(
        {
            "fast": lambda num_sums: repeat(gradient, num_sums),
            "exact": exact.work,
            "number": lambda num_sums: repeat(number, num_sums),
        },
        seconds=seconds,
        share=share,
    )
    return Sums(4 * num_values, found["fast"].seconds, found["exact"].seconds, found["number"].seconds)
