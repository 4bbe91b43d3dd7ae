"""Records what a function lets a GPU do, as a CUDA graph.

This is the only place that touches torch.cuda's graphs. `training/graphed_step.py` works with any `Recorder`.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator
from typing import Protocol

import torch

Work = Callable[[], None]


class Recorder(Protocol):
    """Records functions whose recordings are replayed in the order in which they were made.

    A replay repeats the device's operations on the memory they had: what changes from one replay to the next is written
    into that memory before. Python and the host do nothing in a replay.
    """

    def warm_up(self, work: Work) -> None:
        """Call `work` as it will be recorded. It takes effect."""
        ...

    def record(self, work: Work) -> Work:
        """Call `work` without effect on the device, and return what repeats its operations there.

        Raises:
            RuntimeError: it cannot be recorded, as because it waits for the device. Call `recover` then.
        """
        ...

    def recover(self) -> None:
        """After a `record` that failed: let the device be used without recordings."""
        ...


class CudaRecorder:
    """Records CUDA graphs, which share one pool of memory.

    Args:
        device: the GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        # PyTorch's documentation asks for warm-up and capture on one stream that is not the default one.
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()

    def warm_up(self, work: Work) -> None:
        """As in Recorder."""
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            work()
        current.wait_stream(self._stream)

    def record(self, work: Work) -> Work:
        """As in Recorder."""
        graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream(self._device)
        # thread_local: the loader's thread, which pins memory, may use CUDA meanwhile.
        capture = torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local")
        try:
            with torch.cuda.device(self._device), _no_collection(), capture:
                work()
        finally:
            torch.cuda.set_stream(current)  # a capture that fails at its end leaves its own stream
        replay: Work = graph.replay
        return replay

    def recover(self) -> None:
        """As in Recorder. After a capture that failed, generator and allocator believe that it goes on."""
        index = self._device.index if self._device.index is not None else torch.cuda.current_device()
        generator = torch.cuda.default_generators[index]
        generator.graphsafe_set_state(generator.clone_state())
        with contextlib.suppress(RuntimeError):  # the capture has ended properly
            torch._C._cuda_endAllocateToPool(index, self._pool)


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Within the block Python collects no garbage: to free a graph or an event would break a capture."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def first_error(error: BaseException) -> BaseException:
    """The error that broke a capture: the one at its end only says that there was one before."""
    while isinstance(error.__context__, Exception):
        error = error.__context__
    return error
