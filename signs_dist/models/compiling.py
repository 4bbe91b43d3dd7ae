"""A network through torch.compile, for training.

The network itself stays as it is: it is saved, evaluated and exported under its own names. Only the training pass goes
through the compiled function, which reads and moves the same parameters and buffers.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from signs_dist.data.generators import device_generator_kept
from signs_dist.errors import UserError
from signs_dist.models.trainable import set_training_mode

Mode = Literal["default", "reduce-overhead", "max-autotune"]
Compute = Callable[[Tensor], Tensor]
"""From images [B, 3, H, W] to logits [B, C]."""
OWN_GRAPHS = ("reduce-overhead", "max-autotune")
"""Modes of torch.compile that make CUDA graphs of their own."""


def compile_network(model: nn.Module, mode: bool | Mode, compiler: Callable[..., Any] | None = None) -> Compute | None:
    """What computes the training pass of `model` in place of the module; None where it is not compiled.

    The compiler works at the first call for each size of the images, see `try_compiled`.

    Args:
        model: the plain network.
        mode: train.compile.
        compiler: called as torch.compile; None: torch.compile.
    """
    if mode is False:
        return None
    name = "default" if mode is True else mode
    # For each size by itself: progressive sizes have few, and kernels for any size are slower.
    compiled: Compute = (compiler or torch.compile)(model, mode=name, dynamic=False)
    if name not in OWN_GRAPHS:
        return compiled

    def compute(images: Tensor) -> Tensor:
        # A copy: the logits of a graph may not be read after its next replay, and hits are counted later.
        return compiled(images).clone()

    return compute


def require_one_pass(mode: bool | Mode, device_type: str, num_passes: int) -> None:
    """Refuse several micro-batches a step where torch.compile makes CUDA graphs.

    The gradient of a micro-batch is in the memory of its graph, and PyTorch refuses to add to it after the next replay.

    Args:
        mode: train.compile.
        device_type: of the network.
        num_passes: micro-batches of a step on a process, the most of all processes.

    Raises:
        UserError: it says what to type.
    """
    if mode in OWN_GRAPHS and device_type == "cuda" and num_passes > 1:
        raise UserError(
            f"train.compile={mode} makes CUDA graphs, in which PyTorch cannot add the gradients of {num_passes} "
            f"micro-batches. Type train.compile=default, or a larger train.micro_batch, one for each process"
        )


def try_compiled(model: nn.Module, compute: Compute, images: Tensor, mode: bool | Mode) -> None:
    """Let the compiler work on a training pass over `images`: forward and backward.

    Gradients, buffers and torch's generator are afterwards as before.

    Args:
        model: the plain network.
        compute: from `compile_network`, in the precision of the run.
        images: [B, 3, H, W], in the shape and the memory order of the run's micro-batches.
        mode: train.compile, for the message.

    Raises:
        UserError: the compiler cannot compile the network, or its result does not run.
    """
    was_training = model.training
    before = {name: value.detach().clone() for name, value in model.named_buffers()}
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    set_training_mode(model)
    try:
        with device_generator_kept(images.device):
            torch.autograd.grad(compute(images).float().sum(), parameters, allow_unused=True)
    except UserError:
        raise
    except Exception as error:  # the compiler raises errors of many kinds: of its own, of Triton, of the C++ compiler
        typed = "true" if mode is True else mode
        raise UserError(
            f"train.compile={typed}: torch.compile fails for this network on this machine: {_reason(error)}. Type "
            f"train.compile=false{_about_kept_kernels(str(error))}"
        ) from error
    finally:
        model.train(was_training)
        with torch.no_grad():
            for name, value in model.named_buffers():
                value.copy_(before[name])


def _about_kept_kernels(told: str) -> str:
    """What else helps if the compiler names a file of the folder where it keeps kernels for later runs.

    A compilation that was killed leaves such a file unfinished, and each later run then fails on it.
    """
    folder = os.environ.get("TORCHINDUCTOR_CACHE_DIR", "")  # the compiler sets it where the user has not
    return (
        f". Or remove {folder}, where a compilation that was cut short may have left it"
        if folder and folder in told
        else ""
    )


def _reason(error: Exception) -> str:
    """What the compiler says in its first lines: the first may only name the part of it that raised."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    told = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    return told.rstrip(".")
