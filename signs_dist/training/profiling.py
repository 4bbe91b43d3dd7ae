"""`train --profile N`: a trace of some steps by torch.profiler, and the operations that took the most time in them."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from signs_dist.console.screen import columns
from signs_dist.training.process import Process

MOST_EVENTS = 500_000
"""Of a trace: about 10 MB compressed, 100 MB for the program that shows it. Steps beyond it are not traced."""
WARM_UP_STEPS = 3
"""Steps of an attempt that are not traced: they also allocate memory and choose kernels. One more counts the events."""
NUM_SHOWN = 5
FOLDER = "profile"
"""In the run folder."""
_LOG_LEVEL = "KINETO_LOG_LEVEL"
_MEANINGS = {
    "aten::addmm": "linear layers, forward",
    "aten::mm": "matrix products: linear layers, backward",
    "aten::mkldnn_convolution": "convolutions, forward",
    "aten::cudnn_convolution": "convolutions, forward",
    "aten::convolution_backward": "convolutions, backward",
    "aten::native_batch_norm": "BatchNorm, forward",
    "aten::native_batch_norm_backward": "BatchNorm, backward",
    "aten::cudnn_batch_norm": "BatchNorm, forward",
    "aten::cudnn_batch_norm_backward": "BatchNorm, backward",
    "aten::max_pool2d_with_indices": "max pooling, forward",
    "aten::max_pool2d_with_indices_backward": "max pooling, backward",
    "aten::threshold_backward": "ReLU, backward",
    "aten::clamp_min_": "ReLU, forward",
    "aten::clamp_min": "ReLU, forward",
    "aten::grid_sampler_2d": "geometric augmentation",
    "aten::copy_": "copies: other types, other memory formats, other devices",
    "c10d::allreduce_": "sums over processes",
    "gloo:all_reduce": "sums over processes",
    "nccl:all_reduce": "sums over processes",
}
"""What an operation does, where its name does not say it to everybody."""


@dataclasses.dataclass(frozen=True)
class Operation:
    """An operation of torch in the traced steps.

    Attributes:
        name: as torch.profiler has it.
        seconds: the time in the operation itself, without those that it calls; on a GPU, of its kernels.
        num_calls: how often it was called.
    """

    name: str
    seconds: float
    num_calls: int


def most_expensive(operations: Sequence[Operation], num_shown: int = NUM_SHOWN) -> list[Operation]:
    """The operations that took the most time, most first. Those without any are omitted."""
    ranked = sorted(operations, key=lambda operation: (-operation.seconds, operation.name))
    return [operation for operation in ranked if operation.seconds > 0][:num_shown]


def operation_lines(operations: Sequence[Operation], num_steps: int, seconds: float) -> list[str]:
    """Lines about the most expensive operations of `num_steps` steps that took `seconds`, with their share of it."""
    rows = [
        (
            f"{100 * operation.seconds / seconds:5.1f} %",
            f"{1000 * operation.seconds / num_steps:.2f} ms a step",
            f"{operation.num_calls / num_steps:,.0f} calls",
            operation.name,
            _MEANINGS.get(operation.name, ""),
        )
        for operation in most_expensive(operations)
    ]
    return columns(rows).splitlines() if rows else []


def read_operations(profiler: profile, *, on_gpu: bool) -> list[Operation]:
    """The operations that a stopped profiler has seen, each once.

    On a GPU the profiler also lists each kernel by itself, with the time that its operation has already.
    """
    found = []
    for average in profiler.key_averages():
        if average.device_type.name != "CPU":
            continue
        microseconds = average.self_device_time_total if on_gpu else average.self_cpu_time_total
        found.append(Operation(str(average.key), microseconds / 1e6, int(average.count)))
    return found


def start_profiler(*, on_gpu: bool) -> profile:
    """A profiler that has begun to trace. It changes no number."""
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with _quiet():
        profiler = profile(activities=activities)
        profiler.start()
    return profiler


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Within the block, an environment variable tells torch's tracing library to write nothing to standard error.

    The library reads the variable once. Without it, the library writes a line at each start and each stop, and on a
    machine without a GPU an error.
    """
    if _LOG_LEVEL in os.environ:
        yield
        return
    os.environ[_LOG_LEVEL] = "6"
    try:
        yield
    finally:
        del os.environ[_LOG_LEVEL]


def count_allowed(wanted: int, events_per_step: int, most_events: int = MOST_EVENTS) -> int:
    """How many of `wanted` steps fit into a trace, at least 1."""
    return max(1, min(wanted, most_events // max(1, events_per_step)))


class StepProfiler:
    """Traces steps of an attempt, writes the trace, and says what took the most time.

    Call `after_step` after each training step, and `close` after the last one.

    Args:
        num_steps: how many steps to trace.
        folder: the run folder.
        process: of the run; each process writes a file of its own.
        write: writes the trace of a stopped profiler to a path.
        describe_step: what to tell about a step on a GPU: whether it is a CUDA graph, and why not.
    """

    def __init__(
        self,
        num_steps: int,
        folder: Path,
        process: Process,
        write: Callable[[profile, Path], None] = lambda profiler, path: profiler.export_chrome_trace(str(path)),
        describe_step: Callable[[], str] | None = None,
    ) -> None:
        self._describe_step = describe_step
        self._wanted, self._allowed = num_steps, num_steps
        self._folder, self._process, self._write = folder / FOLDER, process, write
        self._on_gpu = process.strategy.device.type == "cuda"
        self._num_seen = self._num_traced = self._last_step = 0
        self._events_per_step = 0
        self._profiler: profile | None = None
        self._started = 0.0
        self._is_done = False

    def after_step(self, steps_done: int) -> None:
        """Called after a step; `steps_done` counts all steps of the run."""
        if self._is_done:
            return
        self._num_seen += 1
        if self._num_seen < WARM_UP_STEPS:
            return
        if self._num_seen == WARM_UP_STEPS:
            self._profiler = start_profiler(on_gpu=self._on_gpu)
        elif self._num_seen == WARM_UP_STEPS + 1:
            self._events_per_step = len(self._stop().events())  # type: ignore[no-untyped-call]
            self._allowed = count_allowed(self._wanted, self._events_per_step)
            self._profiler, self._started = start_profiler(on_gpu=self._on_gpu), time.perf_counter()
        else:
            self._num_traced, self._last_step = self._num_traced + 1, steps_done
            if self._num_traced == self._allowed:
                self._end()

    def close(self, *, is_failed: bool = False) -> None:
        """End the trace; after an error nothing is written, because there may be no time for it."""
        if self._is_done:
            return
        if self._num_traced and not is_failed:
            self._end()
            return
        self._is_done = True
        # On a GPU a stop waits for all kernels: after an error it may fail as well, or wait for a lost process.
        if self._profiler is not None and not (is_failed and self._on_gpu):
            self._stop()
        if not is_failed:
            self._process.screen.result(
                f"--profile {self._wanted}: no step was traced. This attempt had {self._num_seen}, and tracing begins "
                f"after {WARM_UP_STEPS + 1}"
            )

    def _stop(self) -> profile:
        assert self._profiler is not None
        if self._on_gpu:
            torch.cuda.synchronize()
        profiler, self._profiler = self._profiler, None
        profiler.stop()
        return profiler

    def _end(self) -> None:
        """Write the trace, and print what took the most time."""
        self._is_done = True
        screen, pulse = self._process.screen, self._process.pulse
        before = pulse.phase
        pulse.enter("write the profile")
        profiler = self._stop()
        seconds = time.perf_counter() - self._started
        first = self._last_step - self._num_traced + 1
        path = self._folder / f"rank-{self._process.context.rank}-steps-{first}-to-{self._last_step}.json.gz"
        told = describe_trace(self._wanted, self._num_traced, self._allowed, self._events_per_step)
        screen.result(f"profile: {told}, {1000 * seconds / self._num_traced:.1f} ms a step with tracing")
        if self._on_gpu and self._describe_step is not None:
            screen.result(f"  a step is {self._describe_step()}")
        for line in operation_lines(read_operations(profiler, on_gpu=self._on_gpu), self._num_traced, seconds):
            screen.result(f"  {line}")
        screen.result(self._write_trace(profiler, path))
        pulse.enter(before)

    def _write_trace(self, profiler: profile, path: Path) -> str:
        """Write the trace, whole or not at all. Returns what to tell: a trace that fails ends no training."""
        part = path.with_name(f"part-{path.name}")
        try:
            path.parent.mkdir(exist_ok=True)
            self._write(profiler, part)
            num_bytes = part.stat().st_size
            part.replace(path)
        except (OSError, RuntimeError) as error:
            return f"warning: the trace could not be written to {path}: {error}"
        return f"  the trace is in {path} ({num_bytes / 1e6:.1f} MB); open it in https://ui.perfetto.dev"


def describe_trace(wanted: int, traced: int, allowed: int, events_per_step: int) -> str:
    """How many steps were traced, and why fewer than wanted."""
    steps = "1 step" if traced == 1 else f"{traced} steps"
    if traced == wanted:
        return f"traced {steps}"
    if traced == allowed:
        return f"traced {steps} of {wanted}: a step has {events_per_step:,} events, and a trace at most {MOST_EVENTS:,}"
    return f"traced {steps} of {wanted}: the run has no more"
