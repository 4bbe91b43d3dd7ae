"""In fast mode torch's ZeroRedundancyOptimizer spreads the optimizer: each process keeps the state of some parameters.

It gathers its state on the process that writes a checkpoint, and loads the state of one optimizer over all parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.distributed.optim import ZeroRedundancyOptimizer

from signs_dist.checkpointing.tensors import Copier, loaded_groups, numbered_groups, put_optimizer
from signs_dist.distributed.group import Group
from signs_dist.learning.quick_start import without_compiler
from signs_dist.learning.weight_average import WeightAverage


class ZeroState:
    """An optimizer of torch's kind for several processes, with the methods of `ShardedState`.

    Args:
        groups: as `parameter_groups` returns them.
        kind: the class of the optimizer.
        arguments: its arguments beside the groups.
        group: all processes.

    Attributes:
        optimizer: steps this process's parameters, and sends them to the other processes.
        parameters: of all groups, in their order.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        kind: type[torch.optim.Optimizer],
        arguments: Mapping[str, Any],
        group: Group,
    ) -> None:
        self.parameters: list[nn.Parameter] = [parameter for each in groups for parameter in each["params"]]
        self._is_main = group.rank == 0
        self.optimizer = ZeroRedundancyOptimizer(groups, optimizer_class=without_compiler(kind), **arguments)

    def param_groups(self, optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
        """The groups in the state dict of an optimizer over whole parameters."""
        return numbered_groups(optimizer.param_groups)

    def share_weights(self) -> None:
        """Nothing is left to do: the optimizer's step has sent the weights."""

    def ship(
        self, optimizer: torch.optim.Optimizer, average: WeightAverage | None, copier: Copier
    ) -> tuple[None, dict[str, Any]]:
        """Gather the state on rank 0, and copy it there. All processes call this. As `ShardedState.ship`."""
        self.optimizer.consolidate_state_dict(to=0)
        if not self._is_main:
            return None, {}
        state = self.optimizer.state_dict()["state"]
        parts = {
            "ema": average.state_dict() if average is not None else None,
            "optimizer": {"state": state, "param_groups": self.param_groups(optimizer)},
        }
        content = copier.copy(parts)
        held: Any = self.optimizer
        held._all_state_dicts = []  # else rank 0 keeps the state of all until the next save
        return None, content

    def load(self, optimizer: torch.optim.Optimizer, saved: Mapping[str, Any], source: Path) -> None:
        """Take this process's part of the state of an optimizer over whole parameters.

        Raises:
            UserError: the state belongs to an optimizer of other parameters.
        """
        groups = loaded_groups(self.param_groups(optimizer), saved["param_groups"], source)
        # Not by its own `load_state_dict`: it would keep a second copy, and have a fused kernel's steps on the CPU.
        local, numbers = self.optimizer.optim, {each: number for number, each in enumerate(self.parameters)}
        own_groups, state, first = [], {}, 0
        for group, own, whole in zip(groups, local.param_groups, self.optimizer.param_groups, strict=True):
            for own_number, parameter in enumerate(own["params"], first):
                if numbers[parameter] in saved["state"]:
                    state[own_number] = saved["state"][numbers[parameter]]
            own_groups.append({**group, "params": own["params"]})
            first += len(own["params"])
            whole["lr"] = group["lr"]  # each step takes it from here
        put_optimizer(local, {"state": state, "param_groups": numbered_groups(own_groups)}, source)
