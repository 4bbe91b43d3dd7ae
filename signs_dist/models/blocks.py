"""The blocks of a network in the order of its layers: for layer-wise learning rates and gradient checkpointing."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from torch import nn

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_MOST = 0.5
"""A module with more than this share of the network's parameters is no block: it holds the blocks."""


def block_names(model: nn.Module) -> list[str]:
    """Dotted names of the blocks of a network, in the order of registration; each has parameters.

    nn.Sequential, nn.ModuleList and nn.ModuleDict hold blocks, and so does a module that is most of the network, such
    as the encoder of a transformer. Every other module is a block: a residual block, an encoder layer, a convolution.
    """
    return [name for name, module in _blocks(model) if not _is_norm(module)]


def depth_by_parameter(model: nn.Module) -> dict[str, int]:
    """The depth of each parameter of a network by its name: 0 for the first layers, the largest for the head.

    For networks of timm it is what their `group_matcher` says, else the number of the block. A normalisation layer
    belongs to the block before it, and a parameter outside of all blocks, such as a class token, to depth 0.
    """
    matcher: Any = getattr(model, "group_matcher", None)
    if callable(matcher) and (inspect.getmodule(type(model)) or inspect).__name__.startswith("timm."):
        from timm.models import group_parameters

        return {str(name): int(depth) for name, depth in group_parameters(model, matcher(), reverse=True).items()}
    depths = {name: 0 for name, _ in model.named_parameters()}
    depth = -1
    for block, module in _blocks(model):
        depth += 0 if _is_norm(module) and depth >= 0 else 1
        depths |= {f"{block}.{name}": depth for name, _ in module.named_parameters()}
    return {name: depths[name] for name, _ in model.named_parameters()}


def _blocks(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The blocks by name, with the normalisation layers between them."""
    total = _count(model)
    waiting = list(reversed([*model.named_children()]))
    while waiting:
        name, module = waiting.pop()
        children = [(f"{name}.{child}", inner) for child, inner in module.named_children()]
        if not _count(module):
            continue
        if children and (isinstance(module, _CONTAINERS) or _count(module) > _MOST * total):
            waiting += reversed(children)
        else:
            yield name, module


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _is_norm(module: nn.Module) -> bool:
    """Whether a module has no layer below it and vectors only, as normalisation layers do."""
    is_leaf = not any(True for _ in module.children())
    return is_leaf and all(parameter.ndim <= 1 for parameter in module.parameters())
