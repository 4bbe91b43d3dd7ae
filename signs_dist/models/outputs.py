"""Whether a network gives one logit for each image and class, tried before it trains."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from signs_dist.errors import UserError
from signs_dist.models.weights import find_name_clash
from signs_dist.monitoring.diagnosis import find_place

NUM_TRIED = 2
"""Images of the trial."""


def require_logits(
    model: nn.Module,
    name: str,
    *,
    num_classes: int,
    image_size: int,
    autocast: contextlib.AbstractContextManager[object] | None = None,
) -> None:
    """Try a network in eval mode on black images, and refuse another output than logits. It is left as it was.

    Args:
        model: on its device.
        name: `model.name`, for messages.
        num_classes: number of logits.
        image_size: side of the images in pixels.
        autocast: the context of the forward pass; None for float32.

    Raises:
        UserError: the network fails, or gives something else. The message names the classes and the outputs.
    """
    device = next(itertools.chain(model.parameters(), model.buffers()), torch.zeros(())).device
    images = torch.zeros(NUM_TRIED, 3, image_size, image_size, device=device)
    with _left_as_it_was(model, device), torch.no_grad(), autocast or contextlib.nullcontext():
        try:
            output = model(images)
        except (UserError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            place = find_place(error)
            raise UserError(
                f"model.name={name} fails for images [{NUM_TRIED}, 3, {image_size}, {image_size}]: "
                f"{type(error).__name__}: {error}{f' at {place}' if place else ''}"
            ) from error
    if problem := describe_output(output, NUM_TRIED, num_classes):
        raise UserError(f"model.name={name} {problem}")


def describe_output(output: Any, num_images: int, num_classes: int) -> str:
    """What is wrong with the output of a network, as the end of a sentence; "" for logits floating [B, C].

    Args:
        output: for a batch of images.
        num_images: B.
        num_classes: C.
    """
    wanted = f"It must return one tensor of logits, floating [{num_images}, {num_classes}] for {num_images} images."
    if not isinstance(output, Tensor):
        kind = "nothing (None)" if output is None else f"a {type(output).__name__}"
        return f"returns {kind}. {wanted}"
    if output.ndim == 2 and output.shape[0] == num_images and output.shape[1] != num_classes:
        return (
            f"has {output.shape[1]} outputs, and the data {num_classes} classes. Let its last layer have `num_classes` "
            f"outputs, which it is given when it is built."
        )
    if tuple(output.shape) != (num_images, num_classes):
        return f"returns a tensor {list(output.shape)}. {wanted}"
    if not output.is_floating_point():
        return f"returns {str(output.dtype).removeprefix('torch.')}. {wanted}"
    return ""


def require_own_names(model: nn.Module, name: str) -> None:
    """Refuse a network in which two tensors have one name without the prefixes of wrappers: one would not be saved.

    Raises:
        UserError: the message names both.
    """
    if clash := find_name_clash(model.state_dict()):
        raise UserError(
            f"model.name={name} has {clash} among its weights. `module.` is the prefix of wrappers such as "
            f"DataParallel: rename the submodule."
        )


@contextlib.contextmanager
def _left_as_it_was(model: nn.Module, device: torch.device) -> Iterator[None]:
    """The network in eval mode; after the block its modes, its buffers and torch's generators are as before."""
    modes = [(module, module.training) for module in model.modules()]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else ()):
        try:
            model.eval()
            yield
        finally:
            for module, is_training in modes:
                module.training = is_training
            with torch.no_grad():
                for buffer, before in buffers:
                    buffer.copy_(before)
