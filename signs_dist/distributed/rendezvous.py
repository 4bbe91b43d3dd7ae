"""How the processes of a run find each other: a store at rank 0, and a message that names missing ranks."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import errno
import os
import time
import uuid
from collections.abc import Iterator, Sequence

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import PrefixStore, Store, TCPStore

from signs_dist.distributed.group import Group
from signs_dist.environment.addresses import (
    GLOO_INTERFACES,
    await_name,
    check_interfaces,
    find_loopback,
    interfaces,
    listen,
    loopback_interface,
)
from signs_dist.environment.context import Context
from signs_dist.environment.installation import spell
from signs_dist.environment.port_exchange import ask, hosted
from signs_dist.errors import PeerLostError, UserError
from signs_dist.monitoring.pulse import Pulse
from signs_dist.monitoring.waiting import telling

_POLL_SECONDS = 0.05
_ASK_SECONDS = 2.0
"""A rank asks rank 0 again after this time: rank 0 of an earlier start may be ending, and does not answer."""
_GRACE_SECONDS = 5.0
"""How much longer than rank 0 the other ranks wait: rank 0 may begin to wait later."""


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
        context: rank, world size and the address of rank 0.
        device: a GPU uses NCCL, the CPU uses gloo.
        rendezvous_seconds: how long to wait until all processes have arrived.
        timeout_seconds: how long a collective may take.
        pulse: set to what this process waits for.

    Raises:
        PeerLostError: a process did not arrive; the message names it.
        UserError: another program uses the port, or this process is in a group already.
    """
    if dist.is_initialized():
        raise UserError(
            "this process is in a group of torch.distributed already. Call torch.distributed.destroy_process_group() "
            "first, or omit your own init_process_group()."
        )
    pulse.enter("rendezvous", collective=True)
    group = connect_all(
        meet(context, rendezvous_seconds), context, device, timeout_seconds=timeout_seconds, pulse=pulse
    )
    pulse.enter("prepare")
    return group


@dataclasses.dataclass(frozen=True)
class Meeting:
    """All processes of a run have arrived at rank 0's store.

    Attributes:
        store: the part of it that belongs to this rendezvous.
        address, port: of the store.
    """

    store: Store
    address: str
    port: int


def meet(context: Context, rendezvous_seconds: float) -> Meeting:
    """Wait until all processes of the run have arrived. Raises as `join`."""
    check_interfaces(os.environ, interfaces())
    with _open_store(context, rendezvous_seconds) as (connected, found):
        store = _await_all(PrefixStore("signs_dist", connected), found, rendezvous_seconds)
    assert found.master_address is not None
    assert found.master_port is not None
    return Meeting(store, found.master_address, found.master_port)


def connect_all(
    meeting: Meeting, context: Context, device: torch.device, *, timeout_seconds: float, pulse: Pulse
) -> Group:
    """Connect this process with each other process; all processes call this after `meet`.

    Args:
        meeting: of all processes.
        context, device, timeout_seconds, pulse: as in `join`.
    """
    on_gpu, store = device.type == "cuda", meeting.store
    if on_gpu:
        torch.cuda.set_device(device)
    backend = "nccl" if on_gpu else "gloo"
    with _gloo_over_loopback(context), telling(lambda: f"{_own_rank(context)} connects to all others over {backend}"):
        dist.init_process_group(
            backend,
            store=PrefixStore("group", store),
            rank=context.rank,
            world_size=context.world_size,
            timeout=datetime.timedelta(seconds=timeout_seconds),
            device_id=device if on_gpu else None,
        )
        return Group(context.rank, context.world_size, device, pulse, PrefixStore("waits", store))


def _is_on_one_machine(context: Context) -> bool:
    return context.local_world_size == context.world_size


def _own_rank(context: Context) -> str:
    return f"rank {context.rank} of {context.world_size} on {context.host}"


@contextlib.contextmanager
def _gloo_over_loopback(context: Context) -> Iterator[None]:
    """Within the block, gloo listens on loopback only if all processes are on this machine.

    Without an interface gloo looks up the name of this machine: it may have none that resolves, and on a name server
    that does not answer the look-up takes minutes.
    """
    interface = loopback_interface()
    if not _is_on_one_machine(context) or GLOO_INTERFACES in os.environ or not interface:
        yield
        return
    os.environ[GLOO_INTERFACES] = interface
    try:
        yield
    finally:
        del os.environ[GLOO_INTERFACES]


@contextlib.contextmanager
def _open_store(context: Context, rendezvous_seconds: float) -> Iterator[tuple[Store, Context]]:
    """Yield the store at rank 0, and the context with its port. Within the block other ranks can ask for the port."""
    address, port, name = context.master_address, context.master_port, context.meeting_name
    if address is None or (port is None and not name):
        raise UserError(
            f"{context.launcher} started {context.world_size} processes, but MASTER_ADDR and MASTER_PORT do not say "
            f"where rank 0 is. Set both, for all processes, or start one torchrun per machine."
        )
    if _is_on_one_machine(context):
        address = find_loopback()
        context = dataclasses.replace(context, master_address=address)
    if port is not None:
        yield _connect(context, address, port, rendezvous_seconds), context
    elif context.rank == 0:
        store = _connect(context, address, 0, rendezvous_seconds)
        with hosted(name, store.port, address if _is_on_one_machine(context) else ""):
            yield store, dataclasses.replace(context, master_port=store.port)
    else:
        with telling(lambda: f"{_own_rank(context)} looks for rank 0 at {address}; {_end_of_wait(rendezvous_seconds)}"):
            port = ask(name, address, context.rank, rendezvous_seconds)
        yield _connect(context, address, port, rendezvous_seconds), dataclasses.replace(context, master_port=port)


def _end_of_wait(rendezvous_seconds: float) -> str:
    return f"after processes.rendezvous_seconds={rendezvous_seconds:g} it ends"


def _connect(context: Context, address: str, port: int, rendezvous_seconds: float) -> TCPStore:
    """The store that rank 0 serves at `port`; with port 0, rank 0 takes a free one."""
    serves = context.rank == 0 and not context.uses_agent_store
    # Without a listening socket of ours, the store listens on all interfaces, to whoever connects.
    try:
        listener = listen(address, port) if serves and _is_on_one_machine(context) else None
    except OSError as error:
        raise _cannot_listen(error, address, port) from error
    looked_for = f"{_own_rank(context)} looks for rank 0 at {address}:{port}; {_end_of_wait(rendezvous_seconds)}"
    with telling(lambda: looked_for):
        begun = time.monotonic()
        if reason := await_name(address, rendezvous_seconds):
            raise PeerLostError(
                f"{_own_rank(context)} found no address for MASTER_ADDR={address} within {rendezvous_seconds:g} s: "
                f"{reason}. Set MASTER_ADDR to a name or an address that every machine of the run knows."
            ) from OSError(reason)
        left = max(1.0, rendezvous_seconds - (time.monotonic() - begun))
        try:
            return TCPStore(
                address,
                port if listener is None else listener.getsockname()[1],
                context.world_size,
                is_master=serves,
                timeout=datetime.timedelta(seconds=left),
                wait_for_workers=False,
                master_listen_fd=None if listener is None else listener.detach(),
            )
        except RuntimeError as error:
            if serves:
                raise _cannot_listen(error, address, port) from error
            raise PeerLostError(
                f"{_own_rank(context)} found no rank 0 at {address}:{port} within {rendezvous_seconds:g} s. Is it "
                f"started, and may this machine reach that port?"
            ) from error


def _cannot_listen(error: Exception, address: str, port: int) -> UserError:
    if "EADDRINUSE" in str(error) or getattr(error, "errno", None) == errno.EADDRINUSE:
        return UserError(
            f"port {port} on {address} is taken by another program. Start with `torchrun --standalone` or "
            f"`{spell('local')}`, which take a free one, or set MASTER_PORT to another."
        )
    return UserError(f"rank 0 cannot listen on {address}:{port}: {_first_line(error)}")


def _await_all(store: Store, context: Context, rendezvous_seconds: float) -> Store:
    """Wait until every rank has arrived; returns the part of the store that this rendezvous uses.

    Rank 0 decides, and writes its verdict into the store. torchrun keeps one store over all its restarts, and counts
    restarts on each machine separately. So rank 0 makes a new name for each rendezvous, and the other ranks ask for it.
    """
    deadline = time.monotonic() + rendezvous_seconds
    if context.rank == 0:
        return _await_others(store, context, deadline, rendezvous_seconds)
    rank_0 = f"rank 0 at {context.master_address}:{context.master_port}"
    own_rank = _own_rank(context)
    try:
        found = _await_verdict(store, context, deadline + _GRACE_SECONDS)
    except RuntimeError as error:
        raise PeerLostError(f"{own_rank} lost {rank_0} while it waited for all ranks.") from error
    if found is None:
        raise PeerLostError(f"{own_rank} waited {rendezvous_seconds:g} s for {rank_0}, which did not begin.")
    place, verdict = found
    if verdict:
        raise PeerLostError(verdict)
    return place


def _await_others(store: Store, context: Context, deadline: float, rendezvous_seconds: float) -> Store:
    """On rank 0: answer the questions of the other ranks, and decide whether all have arrived."""
    name = uuid.uuid4().hex
    place = PrefixStore(name, store)
    answered: dict[int, str] = {}
    where = f"rank 0 on {context.host} waits at {context.master_address}:{context.master_port}"

    def find_missing() -> list[int]:
        return [rank for rank in range(1, context.world_size) if not place.check([f"arrived/{rank}"])]

    with telling(
        lambda: f"{where} for {_ranks(find_missing())} of {context.world_size}; {_end_of_wait(rendezvous_seconds)}"
    ):
        while place.add("num_arrived", 0) < context.world_size - 1 and time.monotonic() < deadline:
            for rank in range(1, context.world_size):
                question = f"question/{rank}"
                if store.check([question]) and answered.get(rank) != (asked := store.get(question).decode()):
                    store.set(f"answer/{rank}", f"{asked} {name}")
                    answered[rank] = asked
            time.sleep(_POLL_SECONDS)
    missing = find_missing()
    verdict = describe_missing(missing, context, rendezvous_seconds) if missing else ""
    place.set("verdict", verdict)
    if verdict:
        raise PeerLostError(verdict)
    return place


def _await_verdict(store: Store, context: Context, deadline: float) -> tuple[Store, str] | None:
    """On the other ranks: ask for the name of the rendezvous until rank 0 has decided.

    The question is repeated, since the rank 0 that answers may belong to an earlier start.
    """
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
    """Which ranks did not arrive, where rank 0 waited for them, and what to do."""
    way_out = (
        "Their logs, or `sacct` and `scontrol show job`, may tell why"
        if context.is_by_slurm
        else "Start all ranks with the same MASTER_ADDR and MASTER_PORT"
    )
    return (
        f"{_ranks(missing)} of {context.world_size} never arrived: rank 0 on "
        f"{context.host} waited {seconds:g} s at {context.master_address}:{context.master_port}. {way_out}; "
        f"processes.rendezvous_seconds (in connect: rendezvous_seconds) is how long rank 0 waits."
    )


def _ranks(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:20])) + (" …" if len(numbers) > 20 else "")
    return f"rank{'s' if len(numbers) > 1 else ''} {shown}"


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0]
