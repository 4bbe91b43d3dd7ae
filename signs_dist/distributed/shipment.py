"""Brings what is spread over the processes to the process that writes a checkpoint, piece by piece."""

from __future__ import annotations

import collections
import dataclasses
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

Place = tuple[Any, ...]
"""Names a tensor: ("ema", name of the weight) or ("optimizer", number of the parameter, name of the entry)."""


class Carrier(Protocol):
    """Sends and receives tensors; see `group.Channel`."""

    def send(self, tensor: Tensor, rank: int) -> None:
        """Send a tensor to a process."""
        ...

    def receive(self, tensor: Tensor, rank: int) -> Tensor:
        """Fill a tensor with what a process sends."""
        ...


@dataclasses.dataclass(frozen=True)
class Spread:
    """A tensor that is spread over the processes.

    Attributes:
        shape, stride, dtype: of the whole tensor.
        bounds: which process has which part: (rank, start, end), in the order of its memory.
    """

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    bounds: Sequence[tuple[int, int, int]]


class Shipment:
    """The spread tensors of one save. Rank 0 receives one piece at a time, and holds no other.

    Args:
        spread: all tensors by place, in the order in which rank 0 writes them; the same on all processes.
        own: copies of this process's pieces by place, flat, on the CPU. They are not changed while they travel.
        carrier: between the processes; this shipment is the only one that uses it.
        rank: of this process.
    """

    def __init__(
        self, spread: Mapping[Place, Spread], own: Mapping[Place, Tensor], carrier: Carrier, rank: int
    ) -> None:
        self._own, self._carrier, self._rank = own, carrier, rank
        self._dtypes = {place: each.dtype for place, each in spread.items()}
        self._left = collections.deque((place, *bound) for place, each in spread.items() for bound in each.bounds)

    def parts(self, place: Place) -> Iterator[Tensor]:
        """The pieces of the next tensor, flat, in the order of its memory. On rank 0.

        Raises:
            RuntimeError: another process has ended.
        """
        assert self._left[0][0] == place, f"{place} is not the next tensor, {self._left[0][0]} is"
        while self._left and self._left[0][0] == place:
            yield self._take_next()

    def drain(self) -> None:
        """Receive what is left, and throw it away: a save that fails or writes nothing leaves no process waiting."""
        while self._left:
            self._take_next()

    def send(self) -> None:
        """Send this process's pieces to rank 0, each when rank 0 takes it. Raises RuntimeError if rank 0 has ended."""
        while self._left:
            place, rank, _, _ = self._left.popleft()
            if rank == self._rank:
                self._carrier.send(self._own[place], 0)

    def _take_next(self) -> Tensor:
        place, rank, start, end = self._left.popleft()
        if rank == self._rank:
            return self._own[place]
        return self._carrier.receive(torch.empty(end - start, dtype=self._dtypes[place]), rank)


class Sender:
    """Sends shipments in a thread, one at a time, on the processes that do not write."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: RuntimeError | None = None

    def submit(self, shipment: Shipment) -> None:
        """Start to send, after the shipment before."""
        self.wait()
        self._thread = threading.Thread(target=self._run, args=(shipment,), name="checkpoint pieces", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait until everything is sent. Raises RuntimeError if the process that writes has ended."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _run(self, shipment: Shipment) -> None:
        try:
            shipment.send()
        except RuntimeError as error:
            self._error = error
