"""Trying a network of a library without memory for its weights: whether it can be built, and takes images of a size."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

REFUSALS = (TypeError, ValueError, RuntimeError, AssertionError, ZeroDivisionError, IndexError)
"""What networks raise for an argument or an image size that they do not take."""


class EmptyOnMeta(TorchFunctionMode):
    """Within it, new parameters and buffers are on the meta device, without memory; other tensors are computed.

    `torch.device("meta")` as a context would put all tensors there, and RegNet, which computes its widths, would fail.
    """

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if function in (torch.empty, torch.zeros, torch.ones) and kwargs.get("device") is None:
            kwargs["device"] = "meta"
        return function(*args, **kwargs)


def forward_on_meta(model: nn.Module, image_size: int) -> None:
    """A forward pass in eval mode without numbers. `model` is moved to the meta device. Raises what the pass raises."""
    with torch.inference_mode():
        model.to("meta").eval()(torch.empty(2, 3, image_size, image_size, device="meta"))


def describe_refusal(error: Exception) -> str:
    """The first line of an error, without a stop at its end; its class if it says nothing."""
    return str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
