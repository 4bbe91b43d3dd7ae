"""Which parameters train: freezing the backbone and thawing it, training mode with a frozen part, counting."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

from torch import nn
from torch.nn.parameter import UninitializedParameter

from signs_dist.errors import UserError

_FROZEN_MARK = "signs_dist_frozen"
"""Attribute of a module that stays in eval mode."""
_FROZEN_NAMES = "signs_dist_frozen_parameters"
"""Attribute of a network: what `thaw` lets train."""


def head_names(model: nn.Module) -> tuple[str, ...]:
    """Dotted names of the layers that give the logits; () if there are none. Nearly all networks have one.

    They are what the network's own `get_classifier` returns, as in timm; else the submodule `head` if there is one;
    else the last linear layer, else the last convolution: last in the order of registration, as in all networks of
    torchvision.
    """
    if named := _named_by_the_network(model):
        return named
    if isinstance(getattr(model, "head", None), nn.Module):
        return ("head",)
    for kind in (nn.Linear, nn.Conv2d):
        names: list[str] = [name for name, module in model.named_modules() if isinstance(module, kind)]
        if names:
            return (names[-1],)
    return ()


def _named_by_the_network(model: nn.Module) -> tuple[str, ...]:
    ask: Any = getattr(model, "get_classifier", None)
    if not callable(ask):
        return ()
    answer = ask()
    layers = answer if isinstance(answer, (tuple, list)) else (answer,)
    return tuple(
        name
        for name, module in model.named_modules()
        if name and any(module is layer for layer in layers) and any(True for _ in module.parameters())
    )


def freeze_backbone(model: nn.Module) -> None:
    """Freeze all of `model` but its head: `requires_grad` is False, and the layers stay in eval mode.

    Eval mode keeps BatchNorm's running statistics and turns dropout off. To keep eval mode, call `set_training_mode`
    instead of `model.train()`. The names in `state_dict` do not change. `thaw` undoes it.

    Raises:
        UserError: the network has no layer that can be the head.
    """
    heads = head_names(model)
    if not heads:
        raise UserError(
            "model.freeze=backbone finds no head in this network: it has no submodule `head`, no linear layer and no "
            "convolution. Name its last layer `head`, or set model.freeze=none."
        )
    trainable = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    model.requires_grad_(False)
    for head in heads:
        model.get_submodule(head).requires_grad_(True)
    for name, module in model.named_modules():
        is_of_head = any(
            name in ("", head) or head.startswith(f"{name}.") or name.startswith(f"{head}.") for head in heads
        )
        if not is_of_head:
            setattr(module, _FROZEN_MARK, True)
    frozen = tuple(name for name in trainable if not model.get_parameter(name).requires_grad)
    setattr(model, _FROZEN_NAMES, frozen)


def frozen_parameters(model: nn.Module) -> tuple[str, ...]:
    """Names of the parameters that `freeze_backbone` has frozen and `thaw` will let train; () if it froze none.

    The layers that hold them are in eval mode after `set_training_mode`, so what they compute for an image is the same
    in every epoch until the thaw.
    """
    names: tuple[str, ...] = getattr(model, _FROZEN_NAMES, ())
    return names


def thaw(model: nn.Module) -> None:
    """Undo `freeze_backbone`: what it has frozen trains, and all layers follow `set_training_mode`."""
    for name in frozen_parameters(model):
        model.get_parameter(name).requires_grad_(True)
    setattr(model, _FROZEN_NAMES, ())
    for module in model.modules():
        if getattr(module, _FROZEN_MARK, False):
            delattr(module, _FROZEN_MARK)


@contextlib.contextmanager
def thawed(model: nn.Module) -> Iterator[None]:
    """Within the block, what `freeze_backbone` has frozen trains; afterwards it is frozen again, in training mode."""
    thaw(model)
    set_training_mode(model)
    try:
        yield
    finally:
        freeze_backbone(model)
        set_training_mode(model)


def frozen_layers(model: nn.Module) -> tuple[str, ...]:
    """Names of the layers that `set_training_mode` keeps in eval mode."""
    return tuple(name for name, module in model.named_modules() if getattr(module, _FROZEN_MARK, False))


def keep_frozen(model: nn.Module, layers: Iterable[str]) -> None:
    """Let `set_training_mode` keep these layers in eval mode: for layers that replaced frozen ones of the same name."""
    for name in layers:
        setattr(model.get_submodule(name), _FROZEN_MARK, True)


def set_training_mode(model: nn.Module) -> None:
    """`model.train()`, but frozen layers stay in eval mode. Also for a model inside DDP or DataParallel."""
    model.train()
    for module in model.modules():
        if getattr(module, _FROZEN_MARK, False):
            module.eval()


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Number of all parameters, and of the trainable ones."""
    total = sum(parameter.numel() for parameter in model.parameters())
    trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return total, trainable


def require_trainable(model: nn.Module) -> None:
    """Raise `UserError` if no parameter of `model` is trainable. Call it before the first step."""
    lazy = [name for name, value in model.named_parameters() if isinstance(value, UninitializedParameter)]
    if lazy:
        raise UserError(
            f"the size of {lazy[0]} is not known before the first image (a lazy layer). Give the layer its input size, "
            f"as in nn.Linear(64, 10)."
        )
    total, trainable = count_parameters(model)
    if total == 0:
        raise UserError("the model has no parameters, so there is nothing to train. Give it layers with weights.")
    if trainable == 0:
        raise UserError(
            f"no parameter is trainable: all {total:,} parameters of the model are frozen. "
            f"Set model.freeze=none, or keep requires_grad=True on the parameters to train."
        )
