"""Moves the buffers of a network, such as BatchNorm's running statistics, once a step."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def flat_buffers(model: nn.Module, device: torch.device) -> Tensor:
    """All floating-point buffers of a network in one vector on `device`, float32 [size], in the order of `Buffers`."""
    parts = [buffer.reshape(-1) for buffer in dict.fromkeys(model.buffers()) if buffer.is_floating_point()]
    return torch.cat(parts) if parts else torch.zeros(0, device=device)


class Buffers:
    """Moves floating-point buffers by the mean over the micro-batches of a step, and lets counters count once a step.

    Attributes:
        size: number of values in all floating-point buffers.
        moved: float32 [size], the sum of the changes by this process's micro-batches.
    """

    def __init__(self, model: nn.Module) -> None:
        buffers = list(dict.fromkeys(model.buffers()))
        self._floating = [buffer for buffer in buffers if buffer.is_floating_point()]
        self._counters = [buffer for buffer in buffers if not buffer.is_floating_point()]
        self.size = sum(buffer.numel() for buffer in self._floating)
        device = next(model.parameters()).device
        self._before: list[Tensor] = []
        self._counters_before: list[Tensor] = []
        self.moved = torch.zeros(self.size, device=device)

    @torch.no_grad()
    def before(self, *, is_first: bool) -> None:
        """Call it before each forward pass: the first of a step copies the buffers, a later one restores the copy."""
        if is_first:
            self._before = [buffer.clone() for buffer in self._floating]
            self._counters_before = [buffer.clone() for buffer in self._counters]
            self.moved = torch.zeros_like(self.moved)
        else:
            self._restore()
            if self._counters:
                torch._foreach_copy_(self._counters, self._counters_before)

    @torch.no_grad()
    def after(self, replicas: Tensor | None) -> None:
        """Call it after each forward pass: adds the change of the buffers to `moved`.

        Args:
            replicas: buffers of nn.DataParallel's replicas, float32 [replicas, size]; None: those of the network.
        """
        if replicas is not None:
            if self._floating:
                self.moved += (replicas - torch.cat([buffer.reshape(-1) for buffer in self._before])).sum(dim=0)
        elif self._floating:
            moves = torch._foreach_sub(self._floating, self._before)
            self.moved += torch.cat([move.reshape(-1) for move in moves])

    @torch.no_grad()
    def move(self, by: Tensor) -> None:
        """End the step: set the buffers to those of its beginning plus `by`, float32 [size]."""
        if self._floating:
            self._restore()
            parts = torch.split(by, [buffer.numel() for buffer in self._floating])
            moves = [part.view_as(buffer) for part, buffer in zip(parts, self._floating, strict=True)]
            torch._foreach_add_(self._floating, moves)

    def _restore(self) -> None:
        if self._floating:
            torch._foreach_copy_(self._floating, self._before)
