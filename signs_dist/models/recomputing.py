"""Gradient checkpointing: a block keeps its input only, and computes its inner values again in the backward pass.

It takes less memory and more time. The bits are those without it: torch restores its generator, so that dropout draws
the same, and the second pass of a block works on copies of its buffers, so that BatchNorm's statistics move once.
Source: torch.utils.checkpoint; Chen et al., arXiv:1604.06174.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from signs_dist.errors import UserError
from signs_dist.models.blocks import block_names


def recompute_blocks(model: nn.Module, name: str) -> None:
    """Let the blocks of `model` that have several layers compute their inner values again in the backward pass.

    The names in `state_dict` and the modules stay; the classes of the blocks become subclasses.

    Args:
        model: the network.
        name: `model.name`, for the message.

    Raises:
        UserError: no block has several layers.
    """
    blocks = [model.get_submodule(block) for block in block_names(model)]
    large = [block for block in blocks if any(True for _ in block.children())]
    if not large:
        raise UserError(
            f"model.gradient_checkpointing=true does nothing for model.name={name}: none of its blocks has several "
            f"layers, whose values could be computed again. Set it to false."
        )
    for block in large:
        block.__class__ = _recomputing(type(block))


def _recomputing(kind: Any) -> Any:
    """A subclass of a block's class. nn.DataParallel copies a module's class, but not functions set on the module."""

    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if not (self.training and torch.is_grad_enabled()):
            return kind.forward(self, *args, **kwargs)
        from torch.utils.checkpoint import checkpoint

        return checkpoint(
            functools.partial(kind.forward, self),
            *args,
            use_reentrant=False,
            context_fn=lambda: (contextlib.nullcontext(), _on_copied_buffers(self)),
            **kwargs,
        )

    return type(kind.__name__, (kind,), {"forward": forward, "__module__": __name__})


@contextlib.contextmanager
def _on_copied_buffers(module: nn.Module) -> Iterator[None]:
    """Within the block, the buffers of `module` are copies, which are dropped after it."""
    owners = [(owner, dict(owner._buffers)) for owner in module.modules() if owner._buffers]
    for owner, buffers in owners:
        owner._buffers.update({name: value.clone() for name, value in buffers.items() if value is not None})
    try:
        yield
    finally:
        for owner, buffers in owners:
            owner._buffers.update(buffers)
