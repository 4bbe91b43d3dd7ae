"""Optimizers, their parameter groups, and gradient clipping."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from signs_dist.config.settings import OptimConfig
from signs_dist.learning.parameter_groups import LR_SCALE, parameter_groups
from signs_dist.learning.quick_start import without_compiler


def build_optimizer(model: nn.Module, config: OptimConfig, *, thaws: bool = False) -> torch.optim.Optimizer:
    """The optimizer that `config` names over the trainable parameters of `model`, at the learning rate `config.lr`.

    Build it after the model is on its device: the fused form (one kernel per step) is used if the device has it.
    `parameter_groups` says which parameter has which rate and decay; with `thaws`, the frozen ones are there as well.
    """
    groups = parameter_groups(model, config, thaws=thaws)
    parameters = [parameter for group in groups for parameter in group["params"]]
    common: dict[str, Any] = {"lr": config.lr, "weight_decay": config.weight_decay}
    if config.eps is not None:
        common["eps"] = config.eps
    if config.betas is not None:
        common["betas"] = config.betas
    if config.name == "sgd":
        momentum = 0.9 if config.momentum is None else config.momentum
        nesterov = momentum > 0 if config.nesterov is None else config.nesterov
        fused = _has_fused(parameters, "cpu", "cuda")
        return without_compiler(torch.optim.SGD)(groups, momentum=momentum, nesterov=nesterov, fused=fused, **common)
    if config.name == "adam":
        return without_compiler(torch.optim.Adam)(groups, fused=_has_fused(parameters, "cpu", "cuda"), **common)
    if config.name == "adamw":
        return without_compiler(torch.optim.AdamW)(groups, fused=_has_fused(parameters, "cpu", "cuda"), **common)
    if config.name == "adagrad":
        return without_compiler(torch.optim.Adagrad)(groups, fused=_has_fused(parameters, "cpu"), **common)
    alpha = 0.99 if config.alpha is None else config.alpha
    return without_compiler(torch.optim.RMSprop)(groups, alpha=alpha, momentum=config.momentum or 0.0, **common)


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


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every parameter group the learning rate `lr`, times the factor of the group."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get(LR_SCALE, 1.0)


def _has_fused(parameters: list[nn.Parameter], *device_types: str) -> bool:
    return all(parameter.device.type in device_types and torch.is_floating_point(parameter) for parameter in parameters)
