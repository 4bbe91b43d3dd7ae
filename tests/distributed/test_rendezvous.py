"""How processes find each other, and what they say when they do not."""

from __future__ import annotations

import dataclasses
import os
import re
import socket

import pytest
import torch

from signs_dist.distributed import rendezvous
from signs_dist.distributed.rendezvous import describe_missing, join
from signs_dist.environment.addresses import loopback_interface
from signs_dist.errors import PeerLostError, UserError
from signs_dist.monitoring import waiting
from signs_dist.monitoring.pulse import Pulse
from tests.distributed.contexts import context
from tests.processes import free_port, listening_addresses


def join_as(rank: int, world_size: int, seconds: float = 0.3, **where: object) -> None:
    changes = {"launcher": "environment", "rank": rank, "world_size": world_size, **where}
    join(context(**changes), torch.device("cpu"), rendezvous_seconds=seconds, timeout_seconds=10, pulse=Pulse())


def test_rank_0_names_the_ranks_that_did_not_arrive() -> None:
    port = free_port()
    told = f"ranks 1, 2 of 3 never arrived: rank 0 on here waited 0.3 s at 127.0.0.1:{port}"
    with pytest.raises(PeerLostError, match=told):
        join_as(0, 3, master_address="127.0.0.1", master_port=port)


def test_another_rank_says_that_it_found_no_rank_0() -> None:
    port = free_port()
    with pytest.raises(PeerLostError, match=f"rank 1 of 2 on here found no rank 0 at 127.0.0.1:{port} within 1 s"):
        join_as(1, 2, seconds=1, master_address="127.0.0.1", master_port=port)


def test_a_port_that_another_program_uses_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port} on 127.0.0.1 is taken by another program"):
            join_as(0, 2, master_address="127.0.0.1", master_port=port)


@pytest.mark.parametrize("where", [{}, {"master_address": "127.0.0.1"}])
def test_an_address_that_nobody_gives_is_asked_for(where: dict[str, object]) -> None:
    with pytest.raises(UserError, match=r"MASTER_PORT do not say where rank 0 is\. Set both"):
        join_as(0, 2, **where)


def test_by_a_name_rank_0_is_looked_for_on_its_ports() -> None:
    with pytest.raises(PeerLostError, match=r"rank 1 found no rank 0 at 127.0.0.1 within 0.3 s on the ports"):
        join_as(1, 2, master_address="127.0.0.1", meeting_name="test_by_a_name")


def test_a_name_that_resolves_nowhere_ends_within_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "await_name", lambda name, seconds: "Name or service not known")
    told = (
        "rank 1 of 2 on here found no address for MASTER_ADDR=nonsense within 0.3 s: Name or service not known. "
        "Set MASTER_ADDR to a name or an address that every machine of the run knows."
    )
    with pytest.raises(PeerLostError, match=re.escape(told)) as caught:
        join_as(1, 2, master_address="nonsense", master_port=1)
    assert caught.value.__cause__ is not None  # so that this process says it, whatever its rank


def test_processes_of_one_machine_meet_on_loopback_whatever_its_name() -> None:
    port = free_port()
    told = f"rank 1 of 2 never arrived: rank 0 on here waited 0.3 s at 127.0.0.1:{port}"
    with pytest.raises(PeerLostError, match=told):
        join_as(0, 2, master_address="nowhere.invalid", master_port=port, local_world_size=2)


def test_a_port_of_loopback_that_another_program_uses_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port} on 127.0.0.1 is taken by another program"):
            join_as(0, 2, master_address="nowhere.invalid", master_port=port, local_world_size=2)


def test_the_store_of_one_machine_listens_on_loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    port, seen = free_port(), set()

    def give_up(*arguments: object) -> None:
        seen.update(address for address, of in listening_addresses(os.getpid()) if of == port)
        raise PeerLostError("seen")

    monkeypatch.setattr(rendezvous, "_await_all", give_up)
    with pytest.raises(PeerLostError, match="seen"):
        join_as(0, 2, master_address="127.0.0.1", master_port=port, local_world_size=2)
    assert seen == {"127.0.0.1"}


def test_an_interface_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "nope")
    with pytest.raises(UserError, match="this machine has no interface nope"):
        join_as(0, 2, master_address="127.0.0.1", master_port=free_port())


@pytest.mark.parametrize("rank", [0, 1])
def test_a_long_rendezvous_says_for_whom_it_waits(rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr(waiting, "NOTICE_SECONDS", 0.1)
    monkeypatch.setattr(waiting, "tell_on_standard_error", lines.append)
    port = free_port()
    with pytest.raises(PeerLostError):
        join_as(rank, 3, seconds=1.5, master_address="127.0.0.1", master_port=port)
    expected = (
        "rank 0 on here waits at 127.0.0.1:{} for ranks 1, 2 of 3" if rank == 0 else "looks for rank 0 at 127.0.0.1:{}"
    )
    assert expected.format(port) in lines[0]
    assert "after processes.rendezvous_seconds=1.5 it ends" in lines[0]


@pytest.mark.parametrize(
    ("local_world_size", "given", "expected"),
    [(2, None, loopback_interface() or None), (1, None, None), (2, "eth0", "eth0"), (1, "eth0", "eth0")],
)
def test_gloo_listens_on_loopback_if_all_processes_are_here(
    local_world_size: int, given: str | None, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if given is not None:
        monkeypatch.setenv("GLOO_SOCKET_IFNAME", given)
    where = context(world_size=2, local_world_size=local_world_size)
    with rendezvous._gloo_over_loopback(where):
        assert os.environ.get("GLOO_SOCKET_IFNAME") == expected
    assert os.environ.get("GLOO_SOCKET_IFNAME") == given


def test_missing_ranks_are_named() -> None:
    where = dataclasses.replace(context(), world_size=64, master_address="node1", master_port=1234)
    text = describe_missing(range(1, 40), where, 60)
    assert "ranks 1, 2, 3, " in text
    assert "20 …" in text
    assert "of 64 never arrived: rank 0 on here waited 60 s at node1:1234" in text
