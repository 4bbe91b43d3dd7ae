"""Loopback, interfaces, and names that resolve late or never."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

import pytest

from signs_dist.environment import addresses
from signs_dist.environment.addresses import (
    await_name,
    check_interfaces,
    find_loopback,
    interfaces,
    listen,
    loopback_interface,
)
from signs_dist.errors import UserError


def test_processes_of_one_machine_meet_on_loopback() -> None:
    assert find_loopback() in ("127.0.0.1", "::1")
    assert loopback_interface() in ("lo", "lo0", "")
    assert not interfaces() or loopback_interface() in interfaces()


def test_without_ipv4_loopback_is_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    class Answering:
        def __enter__(self) -> Answering:
            return self

        def __exit__(self, *error: object) -> None:
            pass

        def getsockname(self) -> tuple[str, int]:
            return "::1", 5

        def close(self) -> None:
            pass

    def listen_on(address: str) -> Any:
        if address == "127.0.0.1":
            raise OSError(99, "Cannot assign requested address")
        return Answering()

    monkeypatch.setattr(addresses, "listen", listen_on)
    monkeypatch.setattr(socket, "create_connection", lambda address, timeout: Answering())
    assert find_loopback() == "::1"


def test_loopback_that_is_down_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(address: tuple[str, int], timeout: float) -> socket.socket:
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(
        UserError, match=r"does not reach itself \(127.0.0.1: Network is unreachable.*ip link set lo up"
    ):
        find_loopback()


def test_a_listener_is_on_one_address_only() -> None:
    with listen("127.0.0.1") as server:
        assert server.getsockname()[0] == "127.0.0.1"


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this system has no IPv6")
def test_all_interfaces_are_those_of_ipv6_too() -> None:
    with listen("") as server:
        for address in ("127.0.0.1", "::1"):
            socket.create_connection((address, server.getsockname()[1]), timeout=5).close()


def test_without_ipv6_all_interfaces_are_those_of_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    with listen("") as server:
        assert server.family == socket.AF_INET
        socket.create_connection(("127.0.0.1", server.getsockname()[1]), timeout=5).close()


def test_a_port_in_use_is_not_taken_twice() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(OSError, match="in use"):
        listen("", server.getsockname()[1])


@pytest.mark.parametrize("given", ["", "eth0", "lo", "eth0,lo", "eth0,"])
def test_legal_interfaces(given: str) -> None:
    check_interfaces({"GLOO_SOCKET_IFNAME": given}, ("lo", "eth0"))


@pytest.mark.parametrize(
    ("given", "named"), [("nope", "nope"), ("eth0,nope", "nope"), ("eth", "eth"), ("eth0 ", "eth0 "), ("a,b", "a, b")]
)
def test_an_interface_that_is_not_there_is_named(given: str, named: str) -> None:
    with pytest.raises(UserError, match=rf"has no interface {named}\. It has lo, eth0\. .* unset GLOO_SOCKET_IFNAME"):
        check_interfaces({"GLOO_SOCKET_IFNAME": given}, ("lo", "eth0"))


def test_where_interfaces_are_not_told_nothing_is_refused() -> None:
    check_interfaces({"GLOO_SOCKET_IFNAME": "en0"}, ())
    check_interfaces({}, ("lo",))


def unknown(name: str) -> None:
    raise socket.gaierror(-2, "Name or service not known")


def test_a_name_that_resolves() -> None:
    assert await_name("127.0.0.1", 0) == ""
    assert await_name("localhost", 5) == ""


def test_a_name_that_never_resolves_ends_with_the_reason() -> None:
    started = time.monotonic()
    assert await_name("nowhere", 0.2, look_up=unknown) == "Name or service not known"
    assert time.monotonic() - started < 20


def test_a_name_that_is_known_later_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "RETRY_SECONDS", 0.01)
    answers = [unknown, unknown, lambda name: None]
    assert await_name("node1", 60, look_up=lambda name: answers.pop(0)(name)) == ""
    assert answers == []


def test_a_name_server_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "LEAST_SECONDS", 0.05)
    done = threading.Event()
    try:
        assert await_name("node1", 0.05, look_up=lambda name: done.wait(60)) == "the name server does not answer"
    finally:
        done.set()


def test_what_is_no_name_at_all_is_refused() -> None:
    assert "label" in await_name("x" * 70, 0)  # a label has at most 63 letters (RFC 1035)
