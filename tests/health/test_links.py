"""Connections between ranks: real sockets, one that is blocked, another program, and a clock that is off."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from signs_dist.health import links
from signs_dist.health.finding import places_of
from signs_dist.health.links import Listener, clock_offset, find_no_address, reach, rounds, time_pair
from signs_dist.health.network import judge_ports

TOKEN = b"0123456789abcdef"
LOOPBACK = "127.0.0.1"


@pytest.fixture
def listener() -> Iterator[Listener]:
    server = Listener(LOOPBACK, TOKEN)
    yield server
    server.close()


def test_a_rank_that_answers(listener: Listener) -> None:
    assert reach(LOOPBACK, listener.port, TOKEN) == ""
    timing = time_pair(LOOPBACK, listener.port, TOKEN, num_bytes=2**20)
    assert timing.problem == ""
    assert timing.latency_seconds > 0
    assert timing.bytes_per_second > 1e6


def test_a_port_at_which_nothing_listens() -> None:
    with socket.create_server((LOOPBACK, 0)) as probe:
        port = probe.getsockname()[1]
    assert reach(LOOPBACK, port, TOKEN) == "connection refused"
    assert time_pair(LOOPBACK, port, TOKEN).problem == "connection refused"


def test_a_port_that_is_blocked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its queue is full and nobody accepts: a connection is not answered, as behind a firewall that drops packets."""
    monkeypatch.setattr(links, "ANSWER_SECONDS", 0.2)
    with socket.socket() as blocked:
        blocked.bind((LOOPBACK, 0))
        blocked.listen(0)
        port = blocked.getsockname()[1]
        with socket.create_connection((LOOPBACK, port)):
            why = reach(LOOPBACK, port, TOKEN)
    assert why == "no answer within 0.2 s"
    (finding,) = judge_ports({(1, 0): why}, places_of({0: "n1", 1: "n2"}), 2)
    assert (finding.status, finding.measured) == (
        "fail",
        "rank 1 on n2 does not reach rank 0 on n1: no answer within 0.2 s",
    )


def test_another_program_gets_no_answer_and_gives_none(listener: Listener) -> None:
    assert reach(LOOPBACK, listener.port, b"x" * 16) == "the connection was closed"


def test_a_clock_that_is_90_seconds_off() -> None:
    server = Listener(LOOPBACK, TOKEN, now=lambda: time.time() + 90)
    try:
        offset, exact = clock_offset(LOOPBACK, server.port, TOKEN)
    finally:
        server.close()
    assert abs(offset - 90) < 1 + exact
    assert exact < 5


def test_equal_clocks(listener: Listener) -> None:
    offset, exact = clock_offset(LOOPBACK, listener.port, TOKEN)
    assert abs(offset) <= exact + 0.1


def test_a_name_without_an_address() -> None:
    assert find_no_address("no-such-machine.invalid", 0.5) != ""
    assert find_no_address("localhost", 2.0) == ""


@pytest.mark.parametrize("count", [2, 3, 4, 7])
def test_rounds_hold_each_pair_once(count: int) -> None:
    made = rounds(range(count))
    pairs = [pair for each in made for pair in each]
    assert sorted(pairs) == [(one, other) for one in range(count) for other in range(one + 1, count)]
    for each in made:
        ranks = [rank for pair in each for rank in pair]
        assert len(ranks) == len(set(ranks))


def test_one_rank_has_no_rounds() -> None:
    assert rounds([0]) == []
