"""Copies of batches to a GPU beside its computation: on a stream of their own, from pinned memory.

Images that do not fit on the GPU come from the host at each step. On the stream of the computation a copy would wait
for the step before to end; on a side stream it runs during that step.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Protocol

import torch
from torch import Tensor

from signs_dist.data.batches import Batch


class Streams(Protocol):
    """The two streams of a GPU that a copy is about. `CudaStreams` is the real one."""

    def copy(self, tensor: Tensor) -> Tensor:
        """Begin a copy to the GPU on the side stream. It may be read after `await_copies`."""
        ...

    def await_copies(self) -> None:
        """Let all that is computed from now on begin after the copies so far. The host does not wait."""
        ...

    def keep(self, tensor: Tensor) -> None:
        """Let the memory of a copy be used again only after what is computed from it now."""
        ...


class CudaStreams:
    """The current stream of a GPU, and one for copies."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def copy(self, tensor: Tensor) -> Tensor:
        """As in Streams. From pinned memory the host does not wait for it."""
        with torch.cuda.stream(self._side):
            return tensor.to(self._device, non_blocking=True)

    def await_copies(self) -> None:
        """As in Streams."""
        torch.cuda.current_stream(self._device).wait_stream(self._side)

    def keep(self, tensor: Tensor) -> None:
        """As in Streams. The memory belongs to the side stream, which knows nothing of the other."""
        tensor.record_stream(torch.cuda.current_stream(self._device))


class SideCopies:
    """Batches with images and labels on the GPU, from batches on the host; the samples' numbers stay on the host.

    The host queues a step and asks for the next batch while the GPU computes: its copy runs beside that step. So no
    batch is taken ahead of its step, and none is lost when a run stops.

    Args:
        batches: from a loader; `close` of the result closes it.
        streams: of the GPU.
    """

    def __init__(self, batches: Generator[Batch, None, None], streams: Streams) -> None:
        self._batches, self._streams = batches, streams

    def __iter__(self) -> SideCopies:
        return self

    def __next__(self) -> Batch:
        """The next batch, which is being copied."""
        batch = next(self._batches)
        values: dict[str, Any] = {}
        for name in ("images", "labels"):
            tensor = getattr(batch, name)
            if tensor.device.type == "cpu":
                values[name] = self._streams.copy(tensor)
        if not values:
            return batch  # the images of this run are on the GPU already
        self._streams.await_copies()
        for tensor in values.values():
            self._streams.keep(tensor)
        return batch._replace(**values)

    def close(self) -> None:
        """Close the loader's pass."""
        self._batches.close()
