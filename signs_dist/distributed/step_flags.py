"""The flags of each step: is a loss not finite, does a process want to stop, does a process want to save."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

BAD, STOP, SAVE = range(3)
"""Indices of the flags. They count micro-batches whose loss is not finite, and processes that want to stop or save."""
NUM_FLAGS = 3


class Flags(Protocol):
    """Brings the flags of each step to the host."""

    def publish(self, flags: Tensor) -> list[float]:
        """Take the flags of a step, float32 [NUM_FLAGS]; returns the newest flags that the host knows."""
        ...

    def flush(self) -> list[float]:
        """The flags that `publish` has not returned yet; zeros if there are none."""
        ...


class PromptFlags:
    """Reads the flags of each step at once. On a GPU the host then waits for the step."""

    def publish(self, flags: Tensor) -> list[float]:
        """The flags of this step."""
        values: list[float] = flags.tolist()
        return values

    def flush(self) -> list[float]:
        """Zeros: `publish` has returned all flags."""
        return [0.0] * NUM_FLAGS


class LateFlags:
    """Reads the flags of a step on a GPU after the next step has been queued, so that the GPU never waits for the host.

    Every process reads the flags of the same step at the same place, so all processes decide alike.
    """

    def __init__(self) -> None:
        self._pending: tuple[Tensor, torch.cuda.Event] | None = None

    def publish(self, flags: Tensor) -> list[float]:
        """The flags of the step before."""
        before = self.flush()
        on_host = torch.empty(NUM_FLAGS, pin_memory=True)
        on_host.copy_(flags, non_blocking=True)
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        self._pending = (on_host, event)
        return before

    def flush(self) -> list[float]:
        """The flags of the last step, unless they have been read."""
        if self._pending is None:
            return [0.0] * NUM_FLAGS
        on_host, event = self._pending
        self._pending = None
        event.synchronize()
        values: list[float] = on_host.tolist()
        return values


def make_flags(device: torch.device, *, prompt: bool) -> Flags:
    """Reads flags from `device`; with `prompt` at once from a GPU too."""
    return PromptFlags() if prompt or device.type != "cuda" else LateFlags()
