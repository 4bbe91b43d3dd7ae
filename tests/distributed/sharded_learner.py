"""A small network that learns as exact mode does, on threads in place of processes."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from signs_dist.checkpointing.tensors import Copier, plain_weights, put_optimizer, put_weights, save
from signs_dist.config.settings import OptimConfig
from signs_dist.data.plan import MicroBatches, Shard
from signs_dist.distributed.gradient_tree import GradientTree
from signs_dist.distributed.sharded_average import ShardedAverage
from signs_dist.distributed.sharded_state import ShardedState
from signs_dist.distributed.sharded_tree import ShardedTree
from signs_dist.learning.optim import optimizer_of_groups
from signs_dist.learning.parameter_groups import parameter_groups
from signs_dist.learning.weight_average import WeightAverage
from signs_dist.models.trainable import freeze_backbone
from signs_dist.models.weights import read_plain
from tests.distributed.thread_group import ThreadGroup, in_threads

NUM_MICRO_BATCHES = 4
_SEEDED = threading.Lock()


def make_network() -> nn.Module:
    """Tensors that are cut between processes, and small ones that are not; in channels_last, with a buffer."""
    with _SEEDED:  # the generator is one for all threads
        torch.manual_seed(0)
        layers = (nn.Conv2d(3, 37, 3), nn.BatchNorm2d(37), nn.ReLU(), nn.Flatten(), nn.Linear(592, 9), nn.Linear(9, 3))
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


class Learner:
    """One rank: a network, an optimizer and an average, whole or in pieces."""

    def __init__(
        self,
        optim: dict[str, Any],
        group: Any = None,
        *,
        shards: bool = True,
        clip_norm: float | None = None,
        is_frozen: bool = False,
    ) -> None:
        self.model, self.group, self.clip_norm = make_network(), group, clip_norm
        self.config = OptimConfig(**optim)
        if is_frozen:  # all but the last layer; the optimizer has the frozen parameters too, for a thaw
            freeze_backbone(self.model)
        self.parameters = [each for each in self.model.parameters() if each.requires_grad]
        self.shard = Shard(group.rank, group.world_size) if group is not None else Shard(0, 1)
        self.micro_batches = MicroBatches(2, NUM_MICRO_BATCHES)
        groups = parameter_groups(self.model, self.config, thaws=is_frozen)
        common = (self.parameters, 1, self.micro_batches, self.shard, group)
        self.sharding: ShardedState | None = None
        self.tree = ShardedTree(*common) if group is not None and shards else GradientTree(*common)
        if isinstance(self.tree, ShardedTree):
            self.sharding = ShardedState(self.tree, groups, group)
            self.optimizer = optimizer_of_groups(self.sharding.own_groups(), self.config)
            self.average: WeightAverage = ShardedAverage(self.model, 0.9, self.tree)
        else:
            self.optimizer = optimizer_of_groups(groups, self.config)
            self.average = WeightAverage(self.model, 0.9)
        self.norms: list[Tensor] = []
        self.seen_average: dict[str, Tensor] = {}

    def train(self, steps: Iterable[int]) -> None:
        """Train, and look at the average as an evaluation does."""
        for step in steps:
            self._step(step)
        with self.average.swapped_into(self.model):
            self.seen_average = plain_weights(self.model)

    def _step(self, step: int) -> None:
        images = torch.randn(8, 3, 6, 6, generator=torch.Generator().manual_seed(step))
        numbers = self.micro_batches.of(self.shard)
        self.optimizer.zero_grad(set_to_none=True)
        for number in numbers:
            # BatchNorm's statistics are those of one batch, as after the step of a real run.
            part = images[number * 2 : number * 2 + 2]
            self.tree.begin(number, torch.ones(1), is_last=number == numbers[-1])
            self.model.eval()(part).square().mean().backward()
            self.tree.end()
        self.tree.finish()
        if self.clip_norm is not None:
            self.norms.append(self.tree.clip(self.clip_norm))
        self.optimizer.step()
        if isinstance(self.tree, ShardedTree):
            self.tree.share_weights()
        self.average.update()

    def weights(self) -> dict[str, Tensor]:
        """The network's weights, copied."""
        return plain_weights(self.model)

    def num_kept(self) -> int:
        """The numbers that optimizer and average keep of the parameters."""
        tensors = [value for state in self.optimizer.state.values() for value in state.values()]
        names = {name for name, _ in self.model.named_parameters()}
        tensors += [each for name, each in self.average.weights().items() if name in names]
        return sum(tensor.numel() for tensor in tensors if isinstance(tensor, Tensor) and tensor.dim() > 0)

    def save(self, path: Path) -> None:
        """Write a checkpoint: rank 0 writes, the others send."""
        content: dict[str, Any] = {"model": self.weights()}
        if self.sharding is None:
            content |= {"ema": self.average.state_dict(), "optimizer": self.optimizer.state_dict()}
            save(path, Copier().copy(content))
            return
        shipment, spread = self.sharding.ship(self.optimizer, self.average, Copier())
        if self.shard.index == 0:
            save(path, {**content, **spread})
            shipment.drain()
        else:
            shipment.send()

    def load(self, path: Path) -> None:
        """Resume from a checkpoint."""
        content = read_plain(path)
        put_weights(self.model, content["model"], path)
        self.average.load_state_dict(content["ema"])
        if self.sharding is not None:
            self.sharding.load(self.optimizer, content["optimizer"], path)
        else:
            put_optimizer(self.optimizer, content["optimizer"], path)


def train_in_threads(world_size: int, optim: dict[str, Any], steps: range, **settings: Any) -> list[Learner]:
    """The learners of all ranks after some steps."""

    def work(group: ThreadGroup) -> Learner:
        learner = Learner(optim, group, **settings)
        learner.train(steps)
        return learner

    return in_threads(world_size, work)
