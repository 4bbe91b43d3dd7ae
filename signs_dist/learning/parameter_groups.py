"""Which learning rate and weight decay each parameter has: the groups of an optimizer."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from typing import Any

from torch import nn

from signs_dist.config.settings import OptimConfig
from signs_dist.errors import UserError
from signs_dist.models.blocks import depth_by_parameter
from signs_dist.models.trainable import frozen_parameters
from signs_dist.models.weight_names import shortened

LR_SCALE = "lr_scale"
"""Entry of a group: the factor on the learning rate of the run. Groups without it have that rate."""


def parameter_groups(model: nn.Module, config: OptimConfig, *, thaws: bool = False) -> list[dict[str, Any]]:
    """The parameters that train as the optimizer's groups, each with its learning rate and weight decay.

    By default it is one group, or one with weight decay and one without. With `optim.groups`, `optim.layer_decay` or a
    thaw, there is a group for each entry and depth, of weights and of vectors; it has an entry LR_SCALE. Each group
    keeps the order of `model.named_parameters()`. No rate and no decay changes which parameter is in which group.

    Args:
        model: the network, frozen where it is to be frozen at the start.
        config: the optimizer's settings.
        thaws: whether the frozen parameters will train later. They are in groups of their own: kernels that take a
            whole group need the state of all its parameters, and these have none before the thaw.

    Raises:
        UserError: an entry of `optim.groups` decides nothing. The message lists names of parameters.
    """
    frozen = frozenset(frozen_parameters(model)) if thaws else frozenset()
    named = {name: each for name, each in model.named_parameters() if each.requires_grad or name in frozen}
    if not (frozen or config.groups or config.layer_decay is not None):
        return _two_groups(list(named.values()), config)
    numbers = _entry_by_name(named, config)
    depths = depth_by_parameter(model) if config.layer_decay is not None else {}
    scales = _scale_by_depth(depths, config.layer_decay)
    groups: dict[tuple[bool, int, int, bool], dict[str, Any]] = {}
    for name, parameter in named.items():
        entry = config.groups[numbers[name]] if name in numbers else {}
        scale = entry["lr"] / config.lr if "lr" in entry else scales.get(name, 1.0)
        decays = parameter.ndim > 1 or config.decay_norms_and_biases
        about: dict[str, Any] = {
            "params": [],
            "lr": config.lr * scale,
            "weight_decay": float(entry.get("weight_decay", config.weight_decay)) if decays else 0.0,
            LR_SCALE: scale,
        }
        depth = -1 if "lr" in entry else depths.get(name, -1)
        key = (name in frozen, numbers.get(name, -1), depth, parameter.ndim > 1)
        groups.setdefault(key, about)["params"].append(parameter)
    return list(groups.values())


def _two_groups(trainable: list[nn.Parameter], config: OptimConfig) -> list[dict[str, Any]]:
    if config.decay_norms_and_biases or config.weight_decay == 0:
        return [{"params": trainable}]
    decaying = [parameter for parameter in trainable if parameter.ndim > 1]
    others = [parameter for parameter in trainable if parameter.ndim <= 1]
    groups: list[dict[str, Any]] = [{"params": decaying}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def _entry_by_name(named: Mapping[str, nn.Parameter], config: OptimConfig) -> dict[str, int]:
    """The index of the entry of `optim.groups` for each parameter: the first whose pattern matches its name."""
    found: dict[str, int] = {}
    for number, entry in enumerate(config.groups):
        matching = [name for name in named if fnmatch.fnmatchcase(name, entry["match"])]
        taken = [name for name in matching if name not in found]
        if not taken:
            why = "matches parameters of earlier entries only" if matching else "matches no parameter that trains"
            raise UserError(
                f"optim.groups entry {number + 1}: {entry['match']} {why}. Names: {shortened(named, 12)}. "
                f"A pattern is written with *, such as {next(iter(named)).partition('.')[0]}.*"
            )
        found |= dict.fromkeys(taken, number)
    return found


def _scale_by_depth(depths: Mapping[str, int], decay: float | None) -> dict[str, float]:
    """The factor on the learning rate of each parameter: 1 for the last layers, times `decay` for each block before.

    Source: Clark et al., arXiv:2003.10555; Bao et al., arXiv:2106.08254.
    """
    deepest = max(depths.values(), default=0)
    return {name: (1.0 if decay is None else decay) ** (deepest - depth) for name, depth in depths.items()}
