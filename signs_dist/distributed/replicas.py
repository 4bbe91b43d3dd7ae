"""The copies of a network that nn.DataParallel makes, one for each GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from signs_dist.distributed.moving_buffers import flat_buffers


class _WithBuffers(nn.Module):
    """Returns the floating-point buffers after the outputs: nn.DataParallel drops the buffers of replicas."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: Any) -> Any:
        outputs = self.module(*inputs)
        # A replica lists no parameters, so the device is taken from the outputs.
        return *outputs, flat_buffers(self.module, outputs[0].device)[None].detach()


class Replicas(nn.DataParallel[nn.Module]):
    """nn.DataParallel in which each GPU computes one whole micro-batch of a pass.

    Call it with images [n · b, …], labels [n · b] and n keys, n at most the number of GPUs. The wrapped module gets b
    images, their labels and a list of one key on each GPU. Its outputs are joined along their first dimension.
    """

    def __init__(self, module: nn.Module, devices: Sequence[torch.device]) -> None:
        super().__init__(_WithBuffers(module), device_ids=list(devices))
        self._buffers_seen: Tensor | None = None

    def scatter(self, inputs: tuple[Any, ...], kwargs: dict[str, Any] | None, device_ids: Any) -> Any:
        """Cut (images, labels, keys) at the micro-batches and move each part to its GPU."""
        images, labels, keys = inputs
        parts = zip(images.chunk(len(keys)), labels.chunk(len(keys)), keys, device_ids, strict=False)
        scattered = tuple(
            (part.to(device, non_blocking=True), truth.to(device, non_blocking=True), [key])
            for part, truth, key, device in parts
        )
        return scattered, ({},) * len(scattered)

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        """The outputs of the wrapped module for the whole pass."""
        *outputs, self._buffers_seen = super().forward(*inputs, **kwargs)
        return tuple(outputs)

    def take_buffers(self) -> Tensor:
        """The buffers of the replicas after the last pass, float32 [n, size]."""
        assert self._buffers_seen is not None
        return self._buffers_seen


class EvaluationReplicas(nn.DataParallel[nn.Module]):
    """nn.DataParallel for evaluation: called with (images, labels) of any size from 1, cut as evenly as possible."""

    def __init__(self, module: nn.Module, devices: Sequence[torch.device]) -> None:
        super().__init__(module, device_ids=list(devices))
