"""`connect`: connects the processes of a user's own training loop, and restores torch afterwards."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import torch

from signs_dist.data.plan import Shard
from signs_dist.distributed.device_choice import plan_process, torch_devices
from signs_dist.distributed.exactness import exact_arithmetic, threads_kept
from signs_dist.distributed.group import Group
from signs_dist.distributed.rendezvous import join
from signs_dist.environment.context import Context, read_context
from signs_dist.errors import UserError, in_python_words, require_kind
from signs_dist.monitoring.pulse import Pulse


@dataclasses.dataclass(frozen=True)
class ConnectedProcesses:
    """The connected processes of a run, seen from one of them. Made by `connect`.

    Attributes:
        rank: number of this process, from 0.
        world_size: number of processes.
        device: the device of this process: put the network and the batches there.
        is_exact: whether exact mode is on.
        group: the collectives; None for one process.
    """

    rank: int
    world_size: int
    device: torch.device
    is_exact: bool
    group: Group | None

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, the process that prints and saves."""
        return self.rank == 0

    @property
    def shard(self) -> Shard:
        """This process's part of the data."""
        return Shard(self.rank, self.world_size)

    def gather(self, value: Any) -> list[Any]:
        """The plain values of all processes, by rank, on all processes. All processes must call it."""
        return [value] if self.group is None else self.group.gather_values(value, "gather values")

    def share(self, value: Any) -> Any:
        """The plain value of rank 0, on all processes. All processes must call it."""
        return value if self.group is None else self.group.share_value(value, "share a value")


@contextlib.contextmanager
def connect(
    *,
    exact: bool = False,
    device: str = "auto",
    num_threads: int | None = None,
    rendezvous_seconds: float = 60.0,
    timeout_seconds: float = 600.0,
) -> Iterator[ConnectedProcesses]:
    """Within the block, this process is connected with the others that torchrun or srun started.

    Under plain python there is one process. GPUs use NCCL, the CPU uses gloo. Afterwards the group is closed, and the
    number of threads, the choice of kernels and the environment variables of torch are as before. If the block raised
    no error, every process waits for the others at its end: when one process ends, a launcher may end the others.

    Args:
        exact: compute the same bits on any number of processes: deterministic kernels and one thread per operation.
            Use it with `ExactStep`. Enter the block before the first matrix product on a GPU.
        device: `auto`, `cpu`, `cuda` or `cuda:N`. `auto` is a GPU if there is one for each process.
        num_threads: threads of one operation on the CPU. None: 1 in exact mode, else this process's share of the cores.
            In exact mode another number gives other bits.
        rendezvous_seconds: how long to wait until all processes have started.
        timeout_seconds: how long a collective may take.

    Raises:
        UserError: the launcher's variables or `device` are wrong, or torch.distributed is initialised already.
        PeerLostError: a process did not arrive; the message names it.

    Example:
        >>> import torch, signs_dist as sd
        >>> with sd.connect(exact=True) as processes:
        ...     print(processes.rank, processes.world_size, processes.is_main, torch.get_num_threads())
        ...     print(processes.gather("a value"))
        0 1 True 1
        ['a value']
    """
    require_kind("exact", exact, bool, "connect(exact=True)")
    if num_threads is not None and num_threads < 1:
        raise UserError(f"num_threads={num_threads}: type 1 or more, or None.")
    context = read_context()
    with in_python_words():
        plan = plan_process(context, device=device)
    if len(plan.indices) > 1:
        raise UserError(
            f"device={device!r} is {len(plan.indices)} devices, and a process uses one. Type device='cuda:N'."
        )
    own_device = torch_devices(plan)[0]
    with _arithmetic(context, num_threads, exact=exact), _current_device_kept(own_device):
        group = None
        if context.world_size > 1:
            group = join(
                context,
                own_device,
                rendezvous_seconds=rendezvous_seconds,
                timeout_seconds=timeout_seconds,
                pulse=Pulse(),
            )
        try:
            yield ConnectedProcesses(context.rank, context.world_size, own_device, exact, group)
            if group is not None:
                group.gather_values(None, "leave together")
        finally:
            if group is not None:
                group.close()


def _arithmetic(context: Context, num_threads: int | None, *, exact: bool) -> contextlib.AbstractContextManager[None]:
    return exact_arithmetic(num_threads) if exact else threads_kept(num_threads or context.num_threads)


@contextlib.contextmanager
def _current_device_kept(device: torch.device) -> Iterator[None]:
    """After the block the current GPU is the same as before it."""
    if device.type != "cuda":
        yield
        return
    with torch.cuda.device(device):
        yield
