"""Digests of what a training step computes: of each tensor by name, and of many together."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from signs_dist.distributed.sharded_average import ShardedAverage
from signs_dist.distributed.sharded_state import ShardedState
from signs_dist.diverging.facts import Digests
from signs_dist.models.weights import named_weights, plain_name
from signs_dist.training.loop import TrainingState

NUM_DIGITS = 16
"""Of a SHA-256, in hex: two tensors have the same by chance once in 10^19 comparisons."""
ONLY_SPEED = ("params", "param_names", "foreach", "fused", "capturable", "differentiable")
"""Entries of an optimizer's group that say how it computes, or which parameters it has."""


def digest_of(tensor: Tensor) -> str:
    """A digest of the bits, the type and the shape of a tensor, whatever its memory layout."""
    plain = tensor.detach().cpu().contiguous()
    hasher = hashlib.sha256(f"{plain.dtype}\0{list(plain.shape)}\0".encode())
    hasher.update(plain.reshape(-1).view(torch.uint8).numpy().data if plain.numel() else b"")
    return hasher.hexdigest()[:NUM_DIGITS]


def together(digests: Mapping[str, str]) -> str:
    """One digest of many, whatever their order; "" of none."""
    if not digests:
        return ""
    text = "\n".join(f"{name}\0{digests[name]}" for name in sorted(digests))
    return hashlib.sha256(text.encode()).hexdigest()[:NUM_DIGITS]


def digests_of(tensors: Iterable[tuple[str, Tensor]]) -> Digests:
    """The digest of each tensor, by plain name."""
    return {plain_name(name): digest_of(tensor) for name, tensor in tensors}


def of_weights(model: nn.Module) -> Digests:
    """Of each parameter."""
    return digests_of(model.named_parameters())


def of_buffers(model: nn.Module) -> Digests:
    """Of each buffer, also of those that no checkpoint holds."""
    return digests_of(model.named_buffers())


def of_gradients(model: nn.Module) -> Digests:
    """Of the gradient of each parameter that has one."""
    named = ((name, parameter.grad) for name, parameter in model.named_parameters())
    return digests_of((name, gradient) for name, gradient in named if gradient is not None)


def of_average(state: TrainingState) -> Digests:
    """Of each averaged weight; none without an average. All processes call this."""
    average = state.average
    if average is None:
        return {}
    if isinstance(average, ShardedAverage):  # each process has only a part: put together, they are in the model
        with average.swapped_into(state.model):
            weights = weights_and_buffers(state.model)
    else:
        weights = digests_of(average.weights().items())
    return {"updates": str(average.num_updates), **weights}


def of_optimizer(state: TrainingState) -> Digests:
    """Of each entry of the optimizer's state, as `parameter:entry`. All processes call this.

    None where each process of fast mode has only a part of it.
    """
    names = {id(parameter): plain_name(name) for name, parameter in state.model.named_parameters()}
    if isinstance(state.sharding, ShardedState):
        whole = state.sharding.collect(state.optimizer)["state"]
        kept = {names[id(state.sharding.parameters[number])]: entries for number, entries in whole.items()}
    elif state.sharding is not None:
        return {}
    else:
        kept = {names[id(each)]: entries for each, entries in state.optimizer.state.items() if id(each) in names}
    return {
        f"{name}:{entry}": digest_of(value) if isinstance(value, Tensor) else repr(value)
        for name, entries in kept.items()
        for entry, value in entries.items()
    }


def entries_of(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """What each group of an optimizer says of its next step, as plain values."""
    return [
        {name: _plain(value) for name, value in group.items() if name not in ONLY_SPEED}
        for group in optimizer.param_groups
    ]


def weights_and_buffers(model: nn.Module) -> Digests:
    """Of each parameter and each buffer, in the order of the model."""
    return digests_of(named_weights(model).items())


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.item() if value.numel() == 1 else digest_of(value)
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else repr(value)
