"""The recorder of CUDA graphs, with a torch.cuda that notes what it is asked."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from signs_dist.training.graph_recorder import CudaRecorder, first_error

GPU = torch.device("cuda", 0)


class Stream:
    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log

    def wait_stream(self, other: Stream) -> None:
        self.log.append(f"{self.name} waits for {other.name}")


class Graph:
    def __init__(self, log: list[str]) -> None:
        self.log = log

    def replay(self) -> None:
        self.log.append("replay")


class Generator:
    def __init__(self, log: list[str]) -> None:
        self.log = log

    def clone_state(self) -> str:
        return "a copy"

    def graphsafe_set_state(self, state: str) -> None:
        self.log.append(f"generator has {state}")


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    log: list[str] = []
    main = Stream("main", log)

    @contextlib.contextmanager
    def block(name: str) -> Iterator[None]:
        log.append(f"begin {name}")
        yield
        log.append(f"end {name}")

    def graph(given: Graph, *, pool: Any, stream: Stream, capture_error_mode: str) -> Any:
        return block(f"capture in {pool} on {stream.name}, {capture_error_mode}, collects {gc.isenabled()}")

    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream("side", log))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: main)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: block(stream.name))
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: "pool")
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: Graph(log))
    monkeypatch.setattr(torch.cuda, "graph", graph)
    monkeypatch.setattr(torch.cuda, "set_stream", lambda stream: log.append(f"on {stream.name}"))
    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", lambda index, pool: log.append(f"{pool} of {index} ends"))
    monkeypatch.setattr(torch.cuda, "default_generators", (Generator(log),))
    return log


def test_a_warm_up_runs_on_the_stream_of_the_capture_between_the_streams_of_the_steps(log: list[str]) -> None:
    CudaRecorder(GPU).warm_up(lambda: log.append("work"))
    assert log == ["side waits for main", "begin side", "work", "end side", "main waits for side"]


def test_recordings_of_a_step_share_memory_and_let_other_threads_use_cuda(log: list[str]) -> None:
    recorder = CudaRecorder(GPU)
    collects: list[bool] = []
    replays = [recorder.record(lambda: collects.append(gc.isenabled())) for _ in range(2)]
    begun = [line for line in log if line.startswith("begin")]
    assert begun == ["begin capture in pool on side, thread_local, collects True"] * 2
    assert collects == [False, False], "to free a graph or an event breaks a capture"
    assert gc.isenabled()
    replays[0]()
    assert log[-1] == "replay"


def test_after_a_capture_that_failed_stream_generator_and_allocator_are_those_of_plain_steps(
    log: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = CudaRecorder(GPU)

    def work() -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    with pytest.raises(RuntimeError):
        recorder.record(work)
    assert gc.isenabled()
    assert log[-1] == "on main"
    recorder.recover()
    assert log[-2:] == ["generator has a copy", "pool of 0 ends"]

    def ended(index: int, pool: str) -> None:
        raise RuntimeError("endAllocatePool: not currently recording to mempool_id")

    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", ended)
    recorder.recover()


def test_the_first_error_is_told_and_not_that_of_the_capture_s_end() -> None:
    def capture() -> None:
        try:
            raise RuntimeError("operation not permitted when stream is capturing")
        finally:
            raise RuntimeError("operation failed due to a previous error during capture")

    with pytest.raises(RuntimeError, match="previous error") as raised:
        capture()
    assert str(first_error(raised.value)) == "operation not permitted when stream is capturing"
