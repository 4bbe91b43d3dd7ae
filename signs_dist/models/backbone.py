"""A network in two parts: its head, and all that is computed before it, the backbone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from signs_dist.errors import UserError
from signs_dist.models.trainable import head_names


class _HeadReachedError(Exception):
    """Ends a forward pass at the head. It never leaves this file."""


def head_of(model: nn.Module) -> nn.Module:
    """The layer that gives the logits. Raises `UserError` if there is none, or more than one."""
    return model.get_submodule(name_of_head(model))


def name_of_head(model: nn.Module) -> str:
    """The dotted name of the layer that gives the logits. Raises `UserError` if there is none, or more than one."""
    names = head_names(model)
    if not names:
        raise UserError(
            "model.cache_features finds no head in this network: it has no submodule `head`, no linear layer and no "
            "convolution. Name its last layer `head`, or set model.cache_features=false."
        )
    if len(names) > 1:
        raise UserError(
            f"model.cache_features needs a network with one head; this one has {len(names)}: {', '.join(names)}. Set "
            f"model.cache_features=false."
        )
    return names[0]


def compute_features(model: nn.Module, images: Tensor) -> Tensor:
    """What the backbone gives to the head for images; the head is not computed.

    Args:
        model: in eval mode.
        images: float32 [B, 3, H, W], prepared.

    Returns:
        [B, …] in the type of the forward pass.

    Raises:
        UserError: the forward pass does not call the head with one tensor of a row for each image.
    """
    with _caught_before(head_of(model)) as caught, contextlib.suppress(_HeadReachedError):
        model(images)
    if len(caught) != 1 or caught[0].ndim < 2 or len(caught[0]) != len(images):
        raise UserError(_unsuited(model))
    return caught[0]


def require_head_last(model: nn.Module, images: Tensor) -> None:
    """Refuse a network that computes something after its head, or gives the head more than the backbone's output.

    Args:
        model: in eval mode.
        images: float32 [B, 3, H, W], prepared; a few suffice.

    Raises:
        UserError: the head, given the features, does not give the bits of the network's logits.
    """
    if not torch.equal(head_of(model)(compute_features(model, images)), model(images)):
        raise UserError(_unsuited(model))


@contextlib.contextmanager
def _caught_before(head: nn.Module) -> Iterator[list[Tensor]]:
    """Within it, a forward pass ends at the head. Gives the list into which the head's input is put."""
    caught: list[Tensor] = []

    def catch(module: nn.Module, inputs: tuple[object, ...]) -> None:
        if len(inputs) == 1 and isinstance(inputs[0], Tensor):
            caught.append(inputs[0])
        raise _HeadReachedError

    handle = head.register_forward_pre_hook(catch)
    try:
        yield caught
    finally:
        handle.remove()


def _unsuited(model: nn.Module) -> str:
    return (
        f"model.cache_features needs a network whose last operation is its head, called with one tensor of features; "
        f"in this network `{name_of_head(model)}` is not. Set model.cache_features=false."
    )
