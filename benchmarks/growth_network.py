"""Machines with a slow network between them, on one Linux machine: namespaces that a bridge joins, each with a limit.

    rank 0 [eth0 192.0.2.1] -- tbf -- port0 \\
    rank 1 [eth0 192.0.2.2] -- tbf -- port1 -- bridge, in a namespace of its own
    …

Both ends of each cable have a token bucket filter (tc-tbf(8)), so that a rank sends and receives at the rate at most.
It needs root, `ip` and `tc` (Debian: iproute2). Nothing outside the namespaces is changed or can be reached from them.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

LOOPBACK = "loopback"
RATES = {"10gbit": 10e9, "1gbit": 1e9, "100mbit": 1e8}
"""Bits a second of each network."""
PORT = 29500
"""Of rank 0. A namespace has all ports to itself."""
_BURST_BYTES = 128 * 1024
"""A filter sends so much at once: two of TCP's largest segments."""
_QUEUE_SECONDS = 0.05
"""How long a filter keeps a packet before it drops it: a switch with deep buffers, where no packet is lost for long."""


@dataclass(frozen=True)
class Place:
    """Where a rank runs.

    Attributes:
        prefix: what a command begins with there.
        variables: of a rank there, as a launcher sets them.
        interface: the interface whose bytes are counted.
        num_sharing: how many ranks use this interface.
    """

    prefix: tuple[str, ...]
    variables: dict[str, str]
    interface: str
    num_sharing: int


def why_not() -> str:
    """Why namespaces cannot be made here; "" if they can."""
    name = f"growth-{os.getpid()}-try"
    try:
        with _namespace(name):
            _run(["ip", "-n", name, "link", "add", "cable", "type", "veth", "peer", "name", "end"])
            _limit(name, "cable", RATES["1gbit"])
    except FileNotFoundError as error:
        return f"{error.filename} is not installed (Debian: iproute2)"
    except subprocess.CalledProcessError as error:
        return f"`{' '.join(error.cmd)}` says: {error.stderr.strip()}"
    return ""


@contextlib.contextmanager
def connected(network: str, num_ranks: int, *, isolated: bool = True) -> Iterator[list[Place]]:
    """The places of the ranks within the block; afterwards nothing is left of them.

    Args:
        network: `LOOPBACK` or one of `RATES`.
        num_ranks: how many places.
        isolated: whether namespaces can be made. Without them there is the loopback of this machine alone, whose
            counters count all programs.
    """
    with contextlib.ExitStack() as stack:
        if network == LOOPBACK:
            prefix: tuple[str, ...] = ()
            port = _free_port()
            if isolated:
                name, port = f"growth-{os.getpid()}", PORT
                stack.enter_context(_namespace(name))
                prefix = ("ip", "netns", "exec", name)
            yield [
                Place(prefix, _variables(rank, num_ranks, rank, num_ranks, "127.0.0.1", port), "lo", num_ranks)
                for rank in range(num_ranks)
            ]
            return
        switch = f"growth-{os.getpid()}-switch"
        stack.enter_context(_namespace(switch))
        _run(["ip", "-n", switch, "link", "add", "bridge", "type", "bridge"])
        _run(["ip", "-n", switch, "link", "set", "bridge", "up"])
        yield [stack.enter_context(_machine(switch, rank, num_ranks, RATES[network])) for rank in range(num_ranks)]


@contextlib.contextmanager
def _machine(switch: str, rank: int, num_ranks: int, bits_per_second: float) -> Iterator[Place]:
    name, port = f"growth-{os.getpid()}-{rank}", f"port{rank}"
    with _namespace(name):
        _run(["ip", "link", "add", "eth0", "netns", name, "type", "veth", "peer", "name", port, "netns", switch])
        _run(["ip", "-n", name, "addr", "add", f"192.0.2.{rank + 1}/24", "dev", "eth0"])
        _run(["ip", "-n", name, "link", "set", "eth0", "up"])
        _run(["ip", "-n", switch, "link", "set", port, "master", "bridge", "up"])
        _limit(name, "eth0", bits_per_second)
        _limit(switch, port, bits_per_second)
        variables = _variables(rank, num_ranks, 0, 1, "192.0.2.1", PORT) | {"GLOO_SOCKET_IFNAME": "eth0"}
        yield Place(("ip", "netns", "exec", name), variables, "eth0", 1)


@contextlib.contextmanager
def _namespace(name: str) -> Iterator[None]:
    _run(["ip", "netns", "add", name])
    try:
        _run(["ip", "-n", name, "link", "set", "lo", "up"])
        yield
    finally:
        _run(["ip", "netns", "del", name])


def _limit(namespace: str, interface: str, bits_per_second: float) -> None:
    limit = max(2 * _BURST_BYTES, int(bits_per_second / 8 * _QUEUE_SECONDS))
    filter_ = ["rate", f"{int(bits_per_second)}bit", "burst", str(_BURST_BYTES), "limit", str(limit)]
    _run(["tc", "-n", namespace, "qdisc", "add", "dev", interface, "root", "tbf", *filter_])


def _variables(rank: int, num_ranks: int, local_rank: int, num_local: int, address: str, port: int) -> dict[str, str]:
    return {
        "RANK": str(rank),
        "WORLD_SIZE": str(num_ranks),
        "LOCAL_RANK": str(local_rank),
        "LOCAL_WORLD_SIZE": str(num_local),
        "MASTER_ADDR": address,
        "MASTER_PORT": str(port),
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def read_sent_bytes(interface: str, table: Path = Path("/proc/self/net/dev")) -> int:
    """How many bytes an interface of this process's namespace has sent."""
    for line in table.read_text().splitlines():
        name, colon, numbers = line.partition(":")
        if colon and name.strip() == interface:
            return int(numbers.split()[8])
    raise LookupError(f"{table} has no interface {interface}")


def _run(command: Sequence[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)
