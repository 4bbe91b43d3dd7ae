"""Threads in place of the processes of exact mode, for tests of what they send each other."""

from __future__ import annotations

import collections
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from signs_dist.distributed.group import Pending


def in_threads(world_size: int, work: Callable[[ThreadGroup], Any]) -> list[Any]:
    """What `work` returns on each rank."""
    meeting, found = Meeting(world_size), {}

    def run(rank: int) -> None:
        torch.set_num_threads(1)
        try:
            found[rank] = work(ThreadGroup(meeting, rank, world_size))
        except BaseException:
            meeting.barrier.abort()
            raise

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(world_size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(world_size))
    return [found[rank] for rank in range(world_size)]


class Meeting:
    """In place of the network: threads of this process leave their tensors here and wait for each other."""

    def __init__(self, world_size: int) -> None:
        self.barrier = threading.Barrier(world_size, timeout=120)
        self.left: dict[int, Any] = {}
        self.mail: dict[tuple[int, int], queue.Queue[Tensor]] = collections.defaultdict(queue.Queue)


class ThreadGroup:
    """The part of Group that exact mode uses, between threads. It is its own channel."""

    def __init__(self, meeting: Meeting, rank: int, world_size: int) -> None:
        self.meeting, self.rank, self.world_size = meeting, rank, world_size

    def _swap(self, value: Any) -> list[Any]:
        self.meeting.left[self.rank] = value
        self.meeting.barrier.wait()
        found = [self.meeting.left[rank] for rank in range(self.world_size)]
        self.meeting.barrier.wait()
        return found

    def gather_values(self, value: Any, phase: str) -> list[Any]:
        return self._swap(value)

    def open_channel(self) -> ThreadGroup:
        return self

    def send(self, tensor: Tensor, rank: int) -> None:
        self.meeting.mail[self.rank, rank].put(tensor.clone())

    def receive(self, tensor: Tensor, rank: int) -> Tensor:
        return tensor.copy_(self.meeting.mail[rank, self.rank].get(timeout=60))

    def start_exchange(self, pieces: Tensor, num_pieces: Sequence[int]) -> Pending:
        parts = [theirs[self.rank] for theirs in self._swap(pieces.clone())]
        assert [len(part) for part in parts] == list(num_pieces)
        return Pending(Done(), torch.cat(parts))

    def start_gather(self, chunk: Tensor, out: Tensor) -> Pending:
        out.copy_(torch.cat(self._swap(chunk.clone())))
        return Pending(Done(), out)


class Done:
    def wait(self) -> None:
        return
