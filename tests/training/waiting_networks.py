"""Networks whose training pass cannot be recorded as a CUDA graph, because the host waits for the device."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from signs_dist.training.stepper import Stepper


class Waits(nn.Module):
    """A network that waits for the device in each training pass."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.inner(images)
        return logits * (2 if self.training and float(images.mean().item()) > 1e9 else 1)


def compute_with(stepper: Stepper, network: nn.Module) -> None:
    """Let `network`, which holds that of the stepper, compute the training passes, also in a forward made later."""
    make = stepper._wrap

    def wrap() -> Any:
        forward, sync = make()
        forward.model = network
        return forward, sync

    stepper._wrap = wrap  # type: ignore[method-assign]
    stepper.state.forward.model = network
