"""The processes of a run and what they say to each other. The only file that imports torch.distributed.

Every call below that waits for other processes says so in the pulse, so that a hang can be told from work.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import faulthandler
import functools
import gc
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

import torch
import torch.distributed as dist

# Its functions have the default group for an argument's default value: imported when there is one, as with a model that
# compiles itself, they would keep that group, and its threads, until Python's last moment. See `Group.close`.
import torch.distributed.nn.functional
from torch import Tensor
from torch._C._distributed_c10d import PrefixStore, Store, TCPStore
from torch.distributed.elastic.multiprocessing.errors import record
from torch.distributed.elastic.multiprocessing.errors.error_handler import ErrorHandler

from signs_dist.environment.context import Context
from signs_dist.environment.port_exchange import ask, hosted
from signs_dist.errors import PeerLostError, UserError
from signs_dist.monitoring.pulse import Pulse

Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")

# Newer releases warn at the name all_gather_into_tensor, older ones have no other.
_all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
_POLL_SECONDS = 0.05
_ASK_SECONDS = 2.0
"""How long an answer may take until the question is asked anew: to a rank 0 that is just ending nobody answers."""
_PATIENCE = datetime.timedelta(days=1)
"""How long a process may prepare data while the others wait. A dead one is noticed at once all the same."""


@dataclasses.dataclass(frozen=True)
class Pending:
    """A collective that is under way; `wait()` returns its result."""

    work: Any
    result: Tensor

    def wait(self) -> Tensor:
        """Block until the result is there (on a GPU: until the current stream may use it)."""
        self.work.wait()
        return self.result


class Group:
    """All processes of a run, connected. Made by `join`.

    Attributes:
        rank: this process's number.
        world_size: number of processes.
        device: where tensors for collectives lie.
        pulse: hears which collective is waited for.
    """

    def __init__(self, context: Context, device: torch.device, pulse: Pulse) -> None:
        self.rank, self.world_size = context.rank, context.world_size
        self.device, self.pulse = device, pulse
        # Preparing takes seconds in one process and an hour in another: a group of its own waits for that.
        self._patient: Any = dist.new_group(backend="gloo", timeout=_PATIENCE)

    def start_sum(self, tensor: Tensor) -> Pending:
        """Begin to add `tensor` up over all processes, in place."""
        return Pending(dist.all_reduce(tensor, async_op=True), tensor)

    def sum(self, tensor: Tensor) -> Tensor:
        """Add `tensor` up over all processes, in place; the same bits on all of them."""
        with self._waiting("sum"):
            dist.all_reduce(tensor)
        return tensor

    def start_exchange(self, pieces: Tensor, num_pieces: Sequence[int]) -> Pending:
        """Begin to send every process its chunk of each of this process's pieces.

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
        """Begin to fill `out` [world_size · N] with every process's `chunk` [N]."""
        return Pending(_all_gather(out, chunk, async_op=True), out)

    def gather_values(self, value: Any, phase: str) -> list[Any]:
        """The plain values of all processes, on all of them; waits as long as it takes."""
        values: list[Any] = [None] * self.world_size
        with self._waiting(phase):
            dist.all_gather_object(values, value, group=self._patient)
        return values

    def share_value(self, value: Any, phase: str) -> Any:
        """Rank 0's plain value, on all processes; waits as long as it takes."""
        values = [value]
        with self._waiting(phase):
            dist.broadcast_object_list(values, src=0, group=self._patient)
        return values[0]

    def all_succeed(self, action: Callable[[], Result], phase: str) -> Result:
        """Do something on every process; if it fails on any, it fails on all, with the message of those.

        Raises:
            UserError: what the action raised, said with the ranks that it was raised on.
        """
        result, message = None, None
        try:
            result = action()
        except UserError as error:
            message = str(error)
        messages = self.gather_values(message, phase)
        if told := describe_messages(messages):
            raise UserError(told)
        return result  # type: ignore[return-value]

    @contextlib.contextmanager
    def _waiting(self, phase: str) -> Iterator[None]:
        before = self.pulse.phase
        self.pulse.enter(phase, collective=True)
        yield
        self.pulse.enter(before)

    def close(self) -> None:
        """Leave; the others must do so as well.

        The groups' threads end with their last reference. A thread that still puts a result away while Python ends
        finds no interpreter any more, and aborts a run that has done all its work.
        """
        self._patient = None
        dist.destroy_process_group()
        gc.collect()


def describe_messages(messages: Sequence[str | None]) -> str:
    """One text of the processes' messages: each said once, with its ranks where not all say it; "" without any."""
    ranks: dict[str, list[int]] = {}
    for rank, message in enumerate(messages):
        if message is not None:
            ranks.setdefault(message, []).append(rank)
    if len(ranks) == 1 and len(next(iter(ranks.values()))) == len(messages):
        return next(iter(ranks))
    return "\n".join(
        f"rank{'s' if len(those) > 1 else ''} {', '.join(map(str, those))}: {text}" for text, those in ranks.items()
    )


def join(
    context: Context,
    device: torch.device,
    *,
    rendezvous_seconds: float,
    timeout_seconds: float,
    pulse: Pulse,
) -> Group:
    """Connect this process with the others of the run.

    Args:
        context: rank, world size and where rank 0 is.
        device: NCCL for a GPU, gloo for the CPU.
        rendezvous_seconds: how long to wait for all to arrive.
        timeout_seconds: after which a collective that does not end is an error.
        pulse: hears what is waited for.

    Raises:
        PeerLostError: a process did not arrive; it is named.
        UserError: the port is taken.
    """
    pulse.enter("rendezvous", collective=True)
    with _open_store(context, rendezvous_seconds) as (connected, found):
        store = _await_all(PrefixStore("signs_dist", connected), found, rendezvous_seconds)
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(device)
    dist.init_process_group(
        "nccl" if on_gpu else "gloo",
        store=PrefixStore("group", store),
        rank=context.rank,
        world_size=context.world_size,
        timeout=datetime.timedelta(seconds=timeout_seconds),
        device_id=device if on_gpu else None,
    )
    group = Group(context, device, pulse)
    pulse.enter("prepare")
    return group


@contextlib.contextmanager
def _open_store(context: Context, rendezvous_seconds: float) -> Iterator[tuple[Store, Context]]:
    """Yield the store at rank 0, and the context with its port; others can find that port within the block."""
    address, port, name = context.master_address, context.master_port, context.meeting_name
    if address is None or (port is None and not name):
        raise UserError(
            f"{context.launcher} started {context.world_size} processes, but MASTER_ADDR and MASTER_PORT do not say "
            f"where rank 0 is. Set both, for all processes, or start one torchrun per machine."
        )
    if port is not None:
        yield _connect(context, address, port, rendezvous_seconds), context
    elif context.rank == 0:
        store = _connect(context, address, 0, rendezvous_seconds)
        with hosted(name, store.port):
            yield store, dataclasses.replace(context, master_port=store.port)
    else:
        port = ask(name, address, context.rank, rendezvous_seconds)
        yield _connect(context, address, port, rendezvous_seconds), dataclasses.replace(context, master_port=port)


def _connect(context: Context, address: str, port: int, rendezvous_seconds: float) -> TCPStore:
    """The store that rank 0 serves at a port: its own choice for 0."""
    serves = context.rank == 0 and not context.uses_agent_store
    try:
        return TCPStore(
            address,
            port,
            context.world_size,
            is_master=serves,
            timeout=datetime.timedelta(seconds=rendezvous_seconds),
            wait_for_workers=False,
        )
    except RuntimeError as error:
        if serves and "EADDRINUSE" in str(error):
            raise UserError(
                f"port {port} on {address} is taken by another program. Start with `torchrun --standalone` or "
                f"`python -m launch.local`, which take a free one, or set MASTER_PORT to another."
            ) from error
        if serves:
            raise UserError(f"rank 0 cannot listen on {address}:{port}: {_first_line(error)}") from error
        raise PeerLostError(
            f"rank {context.rank} of {context.world_size} on {context.host} found no rank 0 at {address}:{port} within "
            f"{rendezvous_seconds:g} s. Is it started, and may this machine reach that port?"
        ) from error


def _await_all(store: Store, context: Context, rendezvous_seconds: float) -> Store:
    """Return when every rank is there, with the part of the store that is theirs alone.

    Rank 0 decides, the others hear it from the store. torchrun keeps one store for all its restarts, and counts these
    on each machine for itself: so there rank 0 makes a name for each meeting, and tells it to those who ask now.
    """
    deadline = time.monotonic() + rendezvous_seconds
    if context.rank == 0:
        return _await_others(store, context, deadline, rendezvous_seconds)
    grace = 5  # rank 0 may have begun to wait a little later
    where = f"rank 0 at {context.master_address}:{context.master_port}"
    who = f"rank {context.rank} of {context.world_size} on {context.host}"
    try:
        found = _await_verdict(store, context, deadline + grace)
    except RuntimeError as error:
        raise PeerLostError(f"{who} lost {where} while all were waited for.") from error
    if found is None:
        raise PeerLostError(f"{who} waited {rendezvous_seconds:g} s for {where}, which did not begin.")
    place, verdict = found
    if verdict:
        raise PeerLostError(verdict)
    return place


def _await_others(store: Store, context: Context, deadline: float, rendezvous_seconds: float) -> Store:
    name = uuid.uuid4().hex
    place = PrefixStore(name, store)
    answered: dict[int, str] = {}
    while place.add("num_arrived", 0) < context.world_size - 1 and time.monotonic() < deadline:
        for rank in range(1, context.world_size):
            question = f"question/{rank}"
            if store.check([question]) and answered.get(rank) != (asked := store.get(question).decode()):
                store.set(f"answer/{rank}", f"{asked} {name}")
                answered[rank] = asked
        time.sleep(_POLL_SECONDS)
    missing = [rank for rank in range(1, context.world_size) if not place.check([f"arrived/{rank}"])]
    verdict = describe_missing(missing, context, rendezvous_seconds) if missing else ""
    place.set("verdict", verdict)
    if verdict:
        raise PeerLostError(verdict)
    return place


def _await_verdict(store: Store, context: Context, deadline: float) -> tuple[Store, str] | None:
    """Ask for the name of the meeting until rank 0 answers and decides; again and again, since it may be an old one."""
    question, name, asked, place = "", "", 0.0, store
    while time.monotonic() < deadline:
        if time.monotonic() - asked > _ASK_SECONDS:
            question, asked = uuid.uuid4().hex, time.monotonic()
            store.set(f"question/{context.rank}", question)
        if store.check([f"answer/{context.rank}"]):
            answer, told = store.get(f"answer/{context.rank}").decode().split()
            if answer == question and told != name:
                name, place = told, PrefixStore(told, store)
                place.set(f"arrived/{context.rank}", context.host)
                place.add("num_arrived", 1)
        if name and place.check(["verdict"]):
            return place, place.get("verdict").decode()
        time.sleep(_POLL_SECONDS)
    return None


def describe_missing(missing: Sequence[int], context: Context, seconds: float) -> str:
    """Which ranks did not arrive, and where rank 0 waited for them."""
    way_out = (
        "Their logs, or `sacct` and `scontrol show job`, may tell why"
        if context.is_by_slurm
        else "Start all ranks with the same MASTER_ADDR and MASTER_PORT"
    )
    shown = ", ".join(map(str, missing[:20])) + (" …" if len(missing) > 20 else "")
    return (
        f"rank{'s' if len(missing) > 1 else ''} {shown} of {context.world_size} never arrived: rank 0 on "
        f"{context.host} waited {seconds:g} s at {context.master_address}:{context.master_port}. {way_out}; "
        f"processes.rendezvous_seconds is how long to wait."
    )


class _CardHandler(ErrorHandler):
    """Lets a function of ours write the error file that torchrun shows."""

    def __init__(self, on_error: Callable[[BaseException], None]) -> None:
        self._on_error = on_error

    def initialize(self) -> None:
        # A crash in C code then leaves a stack; standard error may be no file, as in tests.
        with contextlib.suppress(AttributeError, ValueError, OSError):
            faulthandler.enable(all_threads=True)

    def record_exception(self, e: BaseException) -> None:
        self._on_error(e)


def recorded(
    function: Callable[Arguments, Result], on_error: Callable[[BaseException], None]
) -> Callable[Arguments, Result | None]:
    """`function` under torch's `record`, with `on_error` writing the error file in place of a bare traceback."""

    @functools.wraps(function)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result | None:
        return record(function, error_handler=_CardHandler(on_error))(*args, **kwargs)

    return call


def total(tensors: Mapping[str, Tensor], group: Group | None) -> dict[str, Tensor]:
    """Integer sums over all processes, as one collective: the same names and shapes, still on the device."""
    if group is None:
        return dict(tensors)
    flat = group.sum(torch.cat([tensor.reshape(-1) for tensor in tensors.values()]))
    parts = torch.split(flat, [tensor.numel() for tensor in tensors.values()])
    return {name: part.reshape(old.shape) for (name, old), part in zip(tensors.items(), parts, strict=True)}


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0]
