"""The collectives: what the processes of a run send to each other.

Every call that waits for other processes sets the pulse, which shows a hang apart from work.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist

# Functions of this module take the current default group as the default value of an argument. If it were imported
# after the group was made, as torch.compile does, it would keep the group and its threads until Python ends: see
# `Group.close`.
import torch.distributed.nn.functional
from torch import Tensor
from torch._C._distributed_c10d import Store

from signs_dist.errors import EXIT_OK, EXIT_OTHER_ARITHMETIC, OtherArithmeticError, UserError
from signs_dist.monitoring.pulse import Pulse
from signs_dist.monitoring.waiting import WaitWatcher

Result = TypeVar("Result")

# Newer releases of PyTorch warn about all_gather_into_tensor; older releases have no all_gather_single.
_all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
_LONG_TIMEOUT = datetime.timedelta(days=1)
"""How long a process may prepare data while the others wait. If it ends, they notice at once."""
MARK_SECONDS = 2.0
"""How long a process that has waited long looks for others that wait too."""


@dataclasses.dataclass(frozen=True)
class Pending:
    """A collective that has begun; `wait()` returns its result."""

    work: Any
    result: Tensor

    def wait(self) -> Tensor:
        """Block until the result is complete (on a GPU: until the current stream may use it)."""
        self.work.wait()
        return self.result


class Channel:
    """Sends tensors on the CPU from process to process, beside the collectives of other threads."""

    def __init__(self, group: Any) -> None:
        self._group = group

    def send(self, tensor: Tensor, rank: int) -> None:
        """Send a contiguous tensor to a process, and wait until it has been taken.

        Raises:
            RuntimeError: the other process has ended.
        """
        dist.send(tensor, rank, group=self._group)

    def receive(self, tensor: Tensor, rank: int) -> Tensor:
        """Fill `tensor` with the next one that a process sends to this process. Raises RuntimeError, as `send`."""
        dist.recv(tensor, rank, group=self._group)
        return tensor

    def close(self) -> None:
        """Let go of the connections, which last as long as something refers to them. Called by `Group.close`."""
        self._group = None


class Group:
    """All processes of a run, connected. `rendezvous.join` makes it.

    Attributes:
        rank: the number of this process, from 0.
        world_size: number of processes.
        device: the device of the tensors for collectives.
        pulse: set to the collective that this process waits for.
    """

    def __init__(
        self, rank: int, world_size: int, device: torch.device, pulse: Pulse, store: Store | None = None
    ) -> None:
        self.rank, self.world_size = rank, world_size
        self.device, self.pulse = device, pulse
        self._store, self._num_waits, self._watcher = store, 0, WaitWatcher()
        # A second group with a long timeout: one process may prepare data for an hour while the others wait.
        self._patient_group: Any = dist.new_group(backend="gloo", timeout=_LONG_TIMEOUT)
        self._channels: list[Channel] = []

    def start_sum(self, tensor: Tensor) -> Pending:
        """Begin to sum `tensor` over all processes, in place."""
        return Pending(dist.all_reduce(tensor, async_op=True), tensor)

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum `tensor` over all processes, in place. All processes get the same bits."""
        with self._waiting("sum"):
            dist.all_reduce(tensor)
        return tensor

    def start_exchange(self, pieces: Tensor, num_pieces: Sequence[int]) -> Pending:
        """Begin to send each process its chunk of each piece of this process.

        Args:
            pieces: [world_size, own number of pieces, chunk]: row r goes to process r.
            num_pieces: how many pieces each process has.

        Returns:
            [sum of num_pieces, chunk]: this process's chunk of every piece, in the order of the processes.
        """
        _, own, chunk = pieces.shape
        received = pieces.new_empty(sum(num_pieces), chunk)
        work = dist.all_to_all_single(
            received.view(-1),
            pieces.reshape(-1),
            output_split_sizes=[count * chunk for count in num_pieces],
            input_split_sizes=[own * chunk] * self.world_size,
            async_op=True,
        )
        return Pending(work, received)

    def start_gather(self, chunk: Tensor, out: Tensor) -> Pending:
        """Begin to fill `out` [world_size · N] with the `chunk` [N] of every process."""
        return Pending(_all_gather(out, chunk, async_op=True), out)

    def open_channel(self) -> Channel:
        """A way of its own from each process to each other, for threads. All processes call this."""
        channel = Channel(dist.new_group(backend="gloo", timeout=_LONG_TIMEOUT))
        self._channels.append(channel)
        return channel

    def gather_values(self, value: Any, phase: str) -> list[Any]:
        """The plain values of all processes, by rank, on all processes. Waits for them up to a day."""
        values: list[Any] = [None] * self.world_size
        with self._waiting(phase):
            dist.all_gather_object(values, value, group=self._patient_group)
        return values

    def share_value(self, value: Any, phase: str) -> Any:
        """The plain value of rank 0, on all processes. Waits for it up to a day."""
        values = [value]
        with self._waiting(phase):
            dist.broadcast_object_list(values, src=0, group=self._patient_group)
        return values[0]

    def all_succeed(self, action: Callable[[], Result], phase: str) -> Result:
        """Call `action` on every process. If it raises `UserError` on one process, all processes raise `UserError`.

        Raises:
            OtherArithmeticError: the first process that raised, by rank, raised that.
            UserError: the messages of the action, each with the ranks that raised it.
        """
        result, own = None, None
        try:
            result = action()
        except UserError as error:
            own = error
        gathered = self.gather_values((str(own), own.exit_code) if own is not None else (None, EXIT_OK), phase)
        if told := describe_messages([message for message, _ in gathered]):
            code = next(code for _, code in gathered if code != EXIT_OK)
            raise OtherArithmeticError(told) if code == EXIT_OTHER_ARITHMETIC else UserError(told)
        return result  # type: ignore[return-value]

    @contextlib.contextmanager
    def _waiting(self, phase: str) -> Iterator[None]:
        before = self.pulse.phase
        self.pulse.enter(phase, collective=True)
        self._num_waits += 1
        number = self._num_waits
        self.pulse.is_told = True
        try:
            with self._watcher.waiting(lambda: self._describe(number, phase)):
                yield
        finally:
            self.pulse.is_told = False
        self.pulse.enter(before)

    def _describe(self, number: int, phase: str) -> str:
        """For whom this process waits, from the marks that waiting processes leave; "" if a lower rank tells it."""
        store = self._store
        if store is None:
            return f"rank {self.rank} of {self.world_size} waits for the others ({phase})"
        try:
            store.set(f"{number}/{self.rank}", "")
            time.sleep(MARK_SECONDS)  # processes that came at the same time leave their marks as well
            absent = [rank for rank in range(self.world_size) if not store.check([f"{number}/{rank}"])]
        except RuntimeError:  # the store went with the process that served it: the collective fails too
            return ""
        return describe_wait(self.rank, absent, self.world_size, phase)

    def close(self) -> None:
        """Leave the group. All processes must call it.

        The threads of a group end with the last reference to it. If Python ends while a thread still stores a
        result, the process aborts, though its run has done all its work.
        """
        self._watcher.close()
        for channel in self._channels:
            channel.close()
        self._store = self._patient_group = None
        dist.destroy_process_group()
        gc.collect()


def describe_wait(rank: int, absent: Sequence[int], world_size: int, phase: str) -> str:
    """For whom a process waits; "" if another process tells it: of those that wait, the lowest rank.

    Args:
        rank: of this process.
        absent: the ranks that do not wait.
        world_size: number of processes.
        phase: what they wait for.
    """
    if any(other not in absent for other in range(rank)):
        return ""
    shown = ", ".join(map(str, absent[:20])) + (" …" if len(absent) > 20 else "")
    others = f"rank{'s' if len(absent) > 1 else ''} {shown}" if absent else "the network: all ranks are there"
    return f"rank {rank} of {world_size} waits for {others} ({phase})"


def describe_messages(messages: Sequence[str | None]) -> str:
    """One text of the messages of all processes; "" if there are none.

    Equal messages are given once. The ranks are named unless all processes have the same message.
    """
    ranks: dict[str, list[int]] = {}
    for rank, message in enumerate(messages):
        if message is not None:
            ranks.setdefault(message, []).append(rank)
    if len(ranks) == 1 and len(next(iter(ranks.values()))) == len(messages):
        return next(iter(ranks))
    return "\n".join(
        f"rank{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}: {text}"
        for text, numbers in ranks.items()
    )


def total(tensors: Mapping[str, Tensor], group: Group | None) -> dict[str, Tensor]:
    """Sum integer tensors over all processes in one collective: the same names and shapes, still on the device."""
    if group is None:
        return dict(tensors)
    flat = group.sum(torch.cat([tensor.reshape(-1) for tensor in tensors.values()]))
    parts = torch.split(flat, [tensor.numel() for tensor in tensors.values()])
    return {name: part.reshape(old.shape) for (name, old), part in zip(tensors.items(), parts, strict=True)}
