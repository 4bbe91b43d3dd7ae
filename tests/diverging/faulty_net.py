"""A small network with a fault that one side of a comparison has: which, in which layer, step and micro-batch."""

from __future__ import annotations

import collections
import os
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from signs_dist.data.plan import Shard
from signs_dist.distributed.moving_buffers import Buffers
from signs_dist.distributed.step_sync import ExactSync
from signs_dist.learning.weight_average import WeightAverage

NUM_MICRO_BATCHES = 8
CHANGE = 1 + 2.0**-10
_VISITS: collections.Counter[bytes] = collections.Counter()
"""How often a layer that changes its order has seen an input. No attribute of it: those go back with the state."""


class FaultyNet(nn.Module):
    """Convolutions with BatchNorm, dropout and a head.

    Args:
        num_classes, image_size: as for every network.
        fault: `kind@layer`; "" for none.
        at_step: the step in which the fault acts, from 1; 0 for each.
        at_part: the number of the micro-batch; -1 for each.
        ranks: `all`, or `others` than rank 0.
        dropout: probability.
        momentum, eps: of BatchNorm.
    """

    def __init__(
        self,
        num_classes: int,
        image_size: int,
        fault: str = "",
        at_step: int = 0,
        at_part: int = -1,
        ranks: str = "all",
        dropout: float = 0.3,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.kind, _, self.where = fault.partition("@")
        self.at_step, self.at_part, self.ranks = at_step, at_part, ranks
        self.rank, self.world_size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        self.first = Shard(self.rank, self.world_size).bounds(NUM_MICRO_BATCHES)[0]
        self.last_step, self.calls = 0, 0
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.bn1 = _BatchNorm(4, momentum=momentum, eps=eps)
        self.conv2 = _Conv(4, 8, 3, padding=1)
        self.bn2 = _BatchNorm(8, momentum=momentum, eps=eps)
        self.drop = _Dropout(dropout)
        self.fc = nn.Linear(8 * (image_size // 4) ** 2, num_classes)
        for layer in (self.bn1, self.conv2, self.bn2, self.drop):
            layer.net = (self,)  # no submodule
        self._plant()

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images."""
        if self.training:
            self.steps += 1
            step = int(self.steps)
            self.calls = self.calls + 1 if step == self.last_step else 0
            self.last_step = step
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(images))), 2)
        x = F.max_pool2d(F.relu(self.bn2(self.conv2(x))), 2)
        return self.fc(self.drop(x.flatten(1)))

    def is_on(self, kind: str, layer: nn.Module | None = None) -> bool:
        """Whether a fault acts now."""
        if not self.training or kind != self.kind or (layer is not None and layer is not getattr(self, self.where)):
            return False
        if self.ranks == "others" and self.rank == 0:
            return False
        is_step = self.at_step in (0, self.last_step)
        return is_step and self.at_part in (-1, self.first + self.calls)

    def _plant(self) -> None:
        if self.kind == "start":
            with torch.no_grad():
                self.get_parameter(self.where).view(-1)[0].mul_(CHANGE)
        elif self.kind in ("forward", "world", "backward"):
            getattr(self, self.where).register_forward_hook(self._change_output)
        elif self.kind == "gradient":
            self.get_parameter(self.where).register_hook(
                lambda gradient: gradient * CHANGE if self.is_on("gradient") else gradient
            )
        elif self.kind in ("reduction", "clipping", "optimizer", "average", "buffers"):
            self._plant_in_toolkit()

    def _change_output(self, layer: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        if self.is_on("forward"):
            return output * CHANGE
        if self.is_on("world"):
            return output * (1 + (self.world_size - 1) * 2.0**-10)
        return _Scaled.apply(output) if self.is_on("backward") else output

    def _plant_in_toolkit(self) -> None:
        """Let one process do otherwise what all do alike after the micro-batches."""
        kind, is_on = self.kind, lambda: self.is_on(self.kind)

        def change(owner: type, name: str, after: bool) -> None:
            original = getattr(owner, name)

            def changed(own: Any, *arguments: Any, **named: Any) -> Any:
                if after:
                    result = original(own, *arguments, **named)
                    if is_on():
                        self.get_parameter(self.where).grad.mul_(CHANGE)
                    return result
                return None if is_on() else original(own, *arguments, **named)

            setattr(owner, name, changed)

        if kind == "reduction":
            change(ExactSync, "finish", after=True)
        elif kind == "clipping":
            change(ExactSync, "clip", after=False)
        elif kind == "average":
            change(WeightAverage, "update", after=False)
        elif kind == "buffers":
            change(Buffers, "move", after=False)
        else:
            register_optimizer_step_post_hook(self._change_weight)

    @torch.no_grad()
    def _change_weight(self, *_: Any) -> None:
        if self.is_on("optimizer"):
            self.get_parameter(self.where).mul_(CHANGE)


class _Scaled(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, tensor: Tensor) -> Tensor:
        return tensor.view_as(tensor)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return gradient * CHANGE


class _BatchNorm(nn.BatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        if not self.net[0].is_on("other_batch", self):
            return super().forward(x)
        mean, variance = x[:-1].mean((0, 2, 3), keepdim=True), x[:-1].var((0, 2, 3), keepdim=True)
        return (x - mean) / (variance + self.eps).sqrt() * self.weight[:, None, None] + self.bias[:, None, None]


class _Conv(nn.Conv2d):
    """As with atomic additions: the order of the sum over the input channels changes from call to call."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.net[0].is_on("shaky", self):
            return super().forward(x)
        # Not at random: two of a few orders would often be one.
        seen, num_channels = x.detach().contiguous().numpy().tobytes(), x.shape[1]
        first = _VISITS[seen]
        _VISITS[seen] += 1
        total = torch.zeros(())
        for number in range(num_channels):
            channel = (first + number) % num_channels
            part = slice(channel, channel + 1)
            total = total + F.conv2d(x[:, part], self.weight[:, part], padding=1)
        return total + self.bias[:, None, None]


class _Dropout(nn.Dropout):
    def forward(self, x: Tensor) -> Tensor:
        net = self.net[0]
        if not net.is_on("rank_seed", self):
            return super().forward(x)
        generator = torch.Generator().manual_seed(net.rank)
        return x * (torch.rand(x.shape, generator=generator) >= self.p) / (1 - self.p)
