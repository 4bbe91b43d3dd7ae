"""Which parameters train: freezing the backbone, training mode with a frozen part, counting."""

from __future__ import annotations

from torch import nn
from torch.nn.parameter import UninitializedParameter

from signs_dist.errors import UserError

_FROZEN_MARK = "signs_dist_frozen"


def head_name(model: nn.Module) -> str:
    """Dotted name of the layer that gives the logits; "" if there is none.

    It is the submodule `head` if there is one, else the last linear layer, else the last convolution: last in the
    order of registration, as in all networks of torchvision.
    """
    if isinstance(getattr(model, "head", None), nn.Module):
        return "head"
    for kind in (nn.Linear, nn.Conv2d):
        names: list[str] = [name for name, module in model.named_modules() if isinstance(module, kind)]
        if names:
            return names[-1]
    return ""


def freeze_backbone(model: nn.Module) -> None:
    """Freeze all of `model` but its head: `requires_grad` is False, and the layers stay in eval mode.

    Eval mode keeps BatchNorm's running statistics and turns dropout off. To keep eval mode, call `set_training_mode`
    instead of `model.train()`. The names in `state_dict` do not change.

    Raises:
        UserError: the network has no layer that can be the head.
    """
    head = head_name(model)
    if not head:
        raise UserError(
            "model.freeze=backbone finds no head in this network: it has no submodule `head`, no linear layer and no "
            "convolution. Name its last layer `head`, or set model.freeze=none."
        )
    model.requires_grad_(False)
    model.get_submodule(head).requires_grad_(True)
    for name, module in model.named_modules():
        holds_head = name in ("", head) or head.startswith(f"{name}.")
        if not holds_head:
            setattr(module, _FROZEN_MARK, True)


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
