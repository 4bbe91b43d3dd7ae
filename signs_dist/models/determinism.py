"""Find layers that give different bits each time. Exact mode refuses a network with such a layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

_UNSTABLE_ON_CUDA: tuple[type[nn.Module], ...] = (
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveAvgPool3d,
    nn.AdaptiveMaxPool2d,
    nn.AvgPool3d,
    nn.FractionalMaxPool2d,
    nn.FractionalMaxPool3d,
    nn.MaxUnpool1d,
    nn.MaxUnpool2d,
    nn.MaxUnpool3d,
    nn.ReflectionPad1d,
    nn.ReflectionPad2d,
    nn.ReflectionPad3d,
)
"""Layers that raise under torch.use_deterministic_algorithms on CUDA, according to its documentation."""

_UNSTABLE_MODES = ("linear", "bilinear", "bicubic", "trilinear")


def unstable_on_cuda(model: nn.Module) -> list[str]:
    """The layers of a network that have no deterministic CUDA kernel, as `name (Type)`."""
    return [f"{name} ({type(module).__name__})" for name, module in model.named_modules() if _is_unstable(module)]


def _is_unstable(module: nn.Module) -> bool:
    if isinstance(module, (nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)) and _is_one(module.output_size):
        return False  # to one pixel: PyTorch computes the mean instead, which is deterministic
    if isinstance(module, nn.EmbeddingBag):
        return module.mode == "max"
    if isinstance(module, nn.Upsample):
        return module.mode in _UNSTABLE_MODES
    return isinstance(module, _UNSTABLE_ON_CUDA)


def _is_one(size: object) -> bool:
    return size == 1 or (isinstance(size, tuple) and all(side == 1 for side in size))


def find_unstable_layer(model: nn.Module, compute_loss: Callable[[], Tensor]) -> str:
    """Compute a loss and its gradients twice, and name the first layer whose bits differ.

    Afterwards the buffers are restored and the gradients cleared. Layers are compared in the order of their calls, then
    parameters by their gradients.

    Args:
        model: the plain model.
        compute_loss: computes the loss of the same images with the same seed at each call.

    Returns:
        The name of a layer, "the network" if it has no submodules, "the loss", "the gradient of" a parameter, or "" if
        all is equal.
    """
    buffers = [buffer.clone() for buffer in model.buffers()]
    runs = []
    for _ in range(2):
        outputs: list[tuple[str, Tensor]] = []
        handles = [
            module.register_forward_hook(_recorder(outputs, name or "the network"))
            for name, module in model.named_modules()
            if not any(True for _ in module.children())
        ]
        try:
            model.zero_grad(set_to_none=True)
            loss = compute_loss()
            loss.backward()  # type: ignore[no-untyped-call]
        finally:
            for handle in handles:
                handle.remove()
        gradients = [
            (f"the gradient of {name}", parameter.grad.clone())
            for name, parameter in model.named_parameters()
            if parameter.grad is not None
        ]
        runs.append([*outputs, ("the loss", loss.detach().clone()), *gradients])
        with torch.no_grad():
            for buffer, before in zip(model.buffers(), buffers, strict=True):
                buffer.copy_(before)
    model.zero_grad(set_to_none=True)
    first, second = runs
    if len(first) != len(second):
        return "the order of the layers"
    return next(_differing(first, second), "")


def _recorder(outputs: list[tuple[str, Tensor]], name: str) -> Callable[[nn.Module, object, object], None]:
    def record(module: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, Tensor):
            outputs.append((name, output.detach().clone()))

    return record


def _differing(first: list[tuple[str, Tensor]], second: list[tuple[str, Tensor]]) -> Iterator[str]:
    for (name, one), (_, other) in zip(first, second, strict=True):
        if not same_bits(one, other):
            yield name


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors have equal shapes and values; a value that is not a number equals another such value."""
    return one.shape == other.shape and torch.equal(one.nan_to_num(), other.nan_to_num())
