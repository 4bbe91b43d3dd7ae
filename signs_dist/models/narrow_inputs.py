"""Convolutions whose input is narrower than their stride: oneDNN computes their gradient wrongly in bfloat16.

Its kernel for AVX512_BF16 (oneDNN 3.12, in torch 2.14) does not write the gradient of a kernel's columns that see
nothing but padding. What was in the memory before counts as gradient: often NaN, and other numbers each time. Stride 2
on images of one pixel is such a case, as in resnet18 for images of 16 pixels. float32 is right.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from signs_dist.errors import UserError


@contextlib.contextmanager
def refusing_narrow_inputs(model: nn.Module, name: str, image_size: int) -> Iterator[None]:
    """Refuse a network whose forward pass, within the block, gives a convolution fewer pixels than its stride.

    Args:
        model: that is tried.
        name: `model.name`, for the message.
        image_size: side of the images in pixels.

    Raises:
        UserError: the message names the layer, and what to type.
    """
    found: list[str] = []

    def watch(layer: str) -> Any:
        def look(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            if inputs and isinstance(inputs[0], Tensor) and is_narrow(module, tuple(inputs[0].shape[-2:])):
                found.append(layer)

        return look

    layers = [(layer, module) for layer, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    hooks = [module.register_forward_pre_hook(watch(layer)) for layer, module in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
    if found:
        raise UserError(
            f"model.name={name} on images of {image_size} pixels: {found[0]} gets fewer pixels than its stride, and "
            f"the CPU's bfloat16 kernel computes a wrong gradient there. Type train.precision=float32, or a larger "
            f"data.image_size."
        )


def is_narrow(convolution: nn.Module, size: tuple[int, ...]) -> bool:
    """Whether a convolution's input of `size`, (height, width) in pixels, is smaller than its stride."""
    if not isinstance(convolution, nn.Conv2d):
        return False
    sides = zip(convolution.kernel_size, convolution.stride, size, strict=True)
    return any(kernel > 1 and stride > pixels for kernel, stride, pixels in sides)
