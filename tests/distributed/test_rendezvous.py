"""How processes find each other, and what they say when they do not."""

from __future__ import annotations

import dataclasses
import socket

import pytest
import torch

from signs_dist.distributed.rendezvous import describe_missing, join
from signs_dist.errors import PeerLostError, UserError
from signs_dist.monitoring.pulse import Pulse
from tests.distributed.contexts import context
from tests.processes import free_port


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


def test_missing_ranks_are_named() -> None:
    where = dataclasses.replace(context(), world_size=64, master_address="node1", master_port=1234)
    text = describe_missing(range(1, 40), where, 60)
    assert "ranks 1, 2, 3, " in text
    assert "20 …" in text
    assert "of 64 never arrived: rank 0 on here waited 60 s at node1:1234" in text
