"""Optimizers, their parameter groups, and gradient clipping."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from signs_dist.config.dotted_names import is_dotted
from signs_dist.config.settings import OptimConfig
from signs_dist.learning.own_parts import build_own_optimizer
from signs_dist.learning.parameter_groups import LR_SCALE, parameter_groups
from signs_dist.learning.quick_start import without_compiler


def build_optimizer(model: nn.Module, config: OptimConfig, *, thaws: bool = False) -> torch.optim.Optimizer:
    """The optimizer that `config` names over the trainable parameters of `model`, at the learning rate `config.lr`.

    `parameter_groups` says which parameter has which rate and decay; with `thaws`, the frozen ones are there as well.
    """
    return optimizer_of_groups(parameter_groups(model, config, thaws=thaws), config)


def optimizer_of_groups(groups: list[dict[str, Any]], config: OptimConfig) -> torch.optim.Optimizer:
    """The optimizer that `config` names, over `groups` as `parameter_groups` returns them.

    Build it when the parameters are on their device: if it has a fused form, one kernel per step, that is used.
    """
    if is_dotted(config.name):
        return build_own_optimizer(groups, config)
    kind, arguments = kind_of_optimizer([parameter for group in groups for parameter in group["params"]], config)
    return without_compiler(kind)(groups, **arguments)


def kind_of_optimizer(
    parameters: list[nn.Parameter], config: OptimConfig
) -> tuple[type[torch.optim.Optimizer], dict[str, Any]]:
    """The class of a built-in optimizer, and the arguments that it gets beside its groups of `parameters`."""
    common: dict[str, Any] = {"lr": config.lr, "weight_decay": config.weight_decay}
    if config.eps is not None:
        common["eps"] = config.eps
    if config.betas is not None:
        common["betas"] = config.betas
    if config.name == "sgd":
        momentum = 0.9 if config.momentum is None else config.momentum
        nesterov = momentum > 0 if config.nesterov is None else config.nesterov
        fused = _has_fused(parameters, "cpu", "cuda")
        return torch.optim.SGD, {"momentum": momentum, "nesterov": nesterov, "fused": fused, **common}
    if config.name == "adam":
        return torch.optim.Adam, {"fused": _has_fused(parameters, "cpu", "cuda"), **common}
    if config.name == "adamw":
        return torch.optim.AdamW, {"fused": _has_fused(parameters, "cpu", "cuda"), **common}
    if config.name == "adagrad":
        return torch.optim.Adagrad, {"fused": _has_fused(parameters, "cpu"), **common}
    alpha = 0.99 if config.alpha is None else config.alpha
    return torch.optim.RMSprop, {"alpha": alpha, "momentum": config.momentum or 0.0, **common}


def state_names(name: Any, momentum: Any) -> frozenset[str]:
    """What an optimizer keeps for each parameter after its first step, by the names of torch.optim.

    Args:
        name: optim.name.
        momentum: optim.momentum; None for its default.
    """
    has_momentum = name == "sgd" if momentum is None else bool(momentum)
    names = {
        "sgd": (),
        "adam": ("step", "exp_avg", "exp_avg_sq"),
        "adamw": ("step", "exp_avg", "exp_avg_sq"),
        "adagrad": ("step", "sum"),
        "rmsprop": ("step", "square_avg"),
    }
    own = names.get(name, ()) if isinstance(name, str) else ()
    return frozenset((*own, "momentum_buffer") if has_momentum and name in ("sgd", "rmsprop") else own)


def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float) -> Tensor:
    """Scale all gradients down so that their total 2-norm is at most `max_norm`.

    Returns:
        The norm before, a scalar tensor on the gradients' device. It is not finite if a gradient is not.
    """
    return torch.nn.utils.clip_grad_norm_(parameters, max_norm)


def begin_momentum(optimizer: torch.optim.Optimizer) -> None:
    """Let SGD's momentum begin at zero, for a first step that the scaler of float16 may skip.

    torch's fused SGD allocates the momentum in its first step and lets the kernel fill it. A kernel that skips the step
    leaves it as it was allocated, and the next step would read that. From zero the first step has the same result.
    """
    if not isinstance(optimizer, torch.optim.SGD):
        return
    for group in optimizer.param_groups:
        if not group["momentum"]:
            continue
        for parameter in group["params"]:
            if parameter.grad is not None and optimizer.state[parameter].get("momentum_buffer") is None:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every parameter group the learning rate `lr`, times the factor of the group."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get(LR_SCALE, 1.0)


def _has_fused(parameters: list[nn.Parameter], *device_types: str) -> bool:
    return all(parameter.device.type in device_types and torch.is_floating_point(parameter) for parameter in parameters)
