"""Slow networks on one machine: counters, places, and that nothing is left."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.growth_network import LOOPBACK, connected, read_sent_bytes, why_not

TABLE = """Inter-|   Receive                            |  Transmit
 face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier compressed
    lo: 8123456 9000 0 0 0 0 0 0 8123456 9000 0 0 0 0 0 0
  eth0:1111111 5000 0 0 0 0 0 0 222222 4000 0 0 0 0 0 0
"""
SEND_AND_COUNT = """
import socket, sys
own, other, interface = sys.argv[1:]
from benchmarks.growth_network import read_sent_bytes
if other == "":
    with socket.create_server((own, 7000)) as server:
        peer, _ = server.accept()
        while peer.recv(2**20):
            pass
        peer.sendall(b"!")
else:
    with socket.create_connection((other, 7000), 30) as peer:
        before = read_sent_bytes(interface)
        peer.sendall(bytes(500_000))
        peer.shutdown(socket.SHUT_WR)
        peer.recv(1)
        print(read_sent_bytes(interface) - before)
"""


def test_the_counter_of_an_interface(tmp_path: Path) -> None:
    table = tmp_path / "dev"
    table.write_text(TABLE)
    assert read_sent_bytes("lo", table) == 8123456
    assert read_sent_bytes("eth0", table) == 222222
    with pytest.raises(LookupError, match="has no interface eth1"):
        read_sent_bytes("eth1", table)


def test_without_namespaces_there_is_the_loopback_of_the_machine() -> None:
    with connected(LOOPBACK, 2, isolated=False) as places:
        assert [place.prefix for place in places] == [(), ()]
        assert [place.variables["RANK"] for place in places] == ["0", "1"]
        assert {place.variables["LOCAL_WORLD_SIZE"] for place in places} == {"2"}
        assert {(place.interface, place.num_sharing) for place in places} == {("lo", 2)}


@pytest.mark.slow
@pytest.mark.cold
def test_a_slow_network_carries_what_it_says_and_is_gone_afterwards() -> None:
    if reason := why_not():
        pytest.skip(f"no network namespaces here: {reason}")
    with connected("100mbit", 2) as places:
        assert [place.variables["LOCAL_WORLD_SIZE"] for place in places] == ["1", "1"]
        names = [place.prefix[-1] for place in places]
        script = [sys.executable, "-c", SEND_AND_COUNT]
        server = subprocess.Popen([*places[0].prefix, *script, "192.0.2.1", "", "eth0"])
        deadline = time.monotonic() + 30
        while True:
            client = [*places[1].prefix, *script, "192.0.2.2", "192.0.2.1", "eth0"]
            sent = subprocess.run(client, capture_output=True, text=True, check=False)
            if sent.returncode == 0 or time.monotonic() > deadline:
                break
            time.sleep(0.1)
        assert sent.returncode == 0, sent.stderr
        assert 500_000 <= int(sent.stdout) < 550_000
        limits = subprocess.run(
            [*places[1].prefix, "tc", "qdisc", "show", "dev", "eth0"], capture_output=True, text=True, check=True
        )
        assert "tbf" in limits.stdout
        assert "100Mbit" in limits.stdout
        assert server.wait(30) == 0
    left = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    assert not [name for name in names if name in left]
