"""Copies of batches to a GPU beside its computation: on a stream of their own, from pinned memory.

Images that do not fit on the GPU come from the host at each step. On the stream of the computation a copy would wait
for the step before to end; on a side stream it runs during that step.
"""

from __future__ import annotations

import collections
from collections.abc import Generator
from typing import Any, Protocol

import torch
from torch import Tensor

from signs_dist.data.batches import Batch


class Streams(Protocol):
    """The two streams of a GPU that a copy is about. `CudaStreams` is the real one. The host waits for neither."""

    def copy(self, tensor: Tensor) -> Tensor:
        """Begin a copy to the GPU on the side stream. It may be read after `await_copies`."""
        ...

    def await_copies(self) -> None:
        """Let all that is computed from now on begin after the copies so far."""
        ...

    def mark(self) -> Any:
        """All that is to be computed so far."""
        ...

    def copy_after(self, mark: Any) -> None:
        """Let all copies from now on begin after what a mark has named."""
        ...


class CudaStreams:
    """The current stream of a GPU, and one for copies."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def copy(self, tensor: Tensor) -> Tensor:
        """As in Streams. The host waits for a copy from memory that is not pinned."""
        with torch.cuda.stream(self._side):
            return tensor.to(self._device, non_blocking=True)

    def await_copies(self) -> None:
        """As in Streams."""
        torch.cuda.current_stream(self._device).wait_stream(self._side)

    def mark(self) -> torch.cuda.Event:
        """As in Streams."""
        event: torch.cuda.Event = torch.cuda.current_stream(self._device).record_event()
        return event

    def copy_after(self, mark: torch.cuda.Event) -> None:
        """As in Streams."""
        self._side.wait_event(mark)


class SideCopies:
    """Batches with images and labels on the GPU, from batches on the host; the samples' numbers stay on the host.

    The host queues a step and asks for the next batch while the GPU computes: its copy runs beside that step. So no
    batch is taken ahead of its step, and none is lost when a run stops.

    The memory of a copy belongs to the side stream, which does not know when the step that reads it is over. So two
    copies are kept, and a new one, which may get the memory of an older one, begins after the step before the last.
    Labels are read later than in their step, when hits are counted for several steps together: they are copied again,
    to memory of the computation's stream.

    Args:
        batches: from a loader; `close` closes it.
        streams: of the GPU.
    """

    def __init__(self, batches: Generator[Batch, None, None], streams: Streams) -> None:
        self._batches, self._streams = batches, streams
        self._mark: Any = None
        self._kept: collections.deque[dict[str, Tensor]] = collections.deque(maxlen=2)

    def __iter__(self) -> SideCopies:
        return self

    def __next__(self) -> Batch:
        """The next batch, which is being copied."""
        batch = next(self._batches)
        on_host = {name: getattr(batch, name) for name in ("images", "labels")}
        on_host = {name: tensor for name, tensor in on_host.items() if tensor.device.type == "cpu"}
        if not on_host:
            return batch  # the images of this run are on the GPU already
        mark = self._streams.mark()
        # The first copy of a pass waits for the last step of the pass before, whose copies are no longer kept.
        self._streams.copy_after(mark if self._mark is None else self._mark)
        self._mark = mark
        copies: dict[str, Any] = {name: self._streams.copy(tensor) for name, tensor in on_host.items()}
        self._kept.append(copies)
        self._streams.await_copies()
        if "labels" in copies:
            copies = copies | {"labels": copies["labels"].clone()}
        return batch._replace(**copies)

    def close(self) -> None:
        """Close the loader's pass."""
        self._batches.close()
