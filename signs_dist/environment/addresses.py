"""Names and addresses of machines: loopback for processes of one machine, and names that may not resolve yet."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Collection, Mapping

from signs_dist.errors import UserError

LOOPBACKS = ("127.0.0.1", "::1")
"""The addresses of loopback, IPv4 first (RFC 1122 section 3.2.1.3, RFC 4291 section 2.5.3)."""
LOOPBACK_INTERFACES = ("lo", "lo0")
"""Names of the loopback interface on Linux, and on macOS and BSD."""
ANSWER_SECONDS = 5.0
"""How long loopback may take to answer."""
RETRY_SECONDS = 1.0
"""The pause until a name is asked for again: a name server learns of a new machine while others wait for it."""
LEAST_SECONDS = 1.0
"""How long a name server may take at least, however short the limit is."""
GLOO_INTERFACES = "GLOO_SOCKET_IFNAME"
"""Names of the interfaces that gloo uses, separated by commas (torch.distributed, "Choosing the network interface")."""


def find_loopback() -> str:
    """The address over which processes of this machine reach each other and no other machine does.

    Raises:
        UserError: loopback is down, as in a new network namespace.
    """
    reasons = []
    for address in LOOPBACKS:
        try:
            with listen(address) as server:
                socket.create_connection(server.getsockname()[:2], timeout=ANSWER_SECONDS).close()
            return address
        except OSError as error:
            reasons.append(f"{address}: {error.strerror or error}")
    raise UserError(
        f"this machine does not reach itself ({'; '.join(reasons)}), and the processes of a run talk over loopback. "
        f"Is its interface up? Let root type: ip link set lo up"
    )


def listen(address: str, port: int = 0, *, backlog: int = 1024) -> socket.socket:
    """A socket that listens at one address, or with "" on all interfaces. Port 0 takes a free one. Raises OSError."""
    if not address and socket.has_dualstack_ipv6():
        with contextlib.suppress(OSError):  # IPv6 is compiled in and switched off, or the port is taken
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=backlog)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.create_server((address, port), family=family, backlog=backlog)


def loopback_interface() -> str:
    """The name of the loopback interface; "" if this system has none with a usual name."""
    return next((name for name in LOOPBACK_INTERFACES if name in interfaces()), "")


def interfaces() -> tuple[str, ...]:
    """The names of this machine's network interfaces; empty where the system does not tell."""
    try:
        return tuple(name for _, name in socket.if_nameindex())
    except OSError:
        return ()


def check_interfaces(environment: Mapping[str, str], known: Collection[str]) -> None:
    """Raise unless GLOO_SOCKET_IFNAME names interfaces of this machine. gloo would only say `Unable to find address`.

    Args:
        environment: of this process.
        known: this machine's interfaces; empty: not known.

    Raises:
        UserError: naming the interface, and those that there are.
    """
    given = environment.get(GLOO_INTERFACES, "")
    unknown = [name for name in given.split(",") if name and name not in known]
    if unknown and known:
        raise UserError(
            f"the environment has {GLOO_INTERFACES}={given}, and this machine has no interface {', '.join(unknown)}. "
            f"It has {', '.join(known)}. Set it to one of them, or type: unset {GLOO_INTERFACES}"
        )


def await_name(
    name: str, seconds: float, *, look_up: Callable[[str], object] = lambda name: socket.getaddrinfo(name, None)
) -> str:
    """Wait until the name of a machine resolves to an address.

    A name server may learn of a new machine while others wait for it, and it may not answer at all: the look-up is in a
    thread of its own, since nothing can interrupt it.

    Args:
        name: of a machine, or an address.
        seconds: how long to try.
        look_up: raises OSError if there is no address.

    Returns:
        "", or why there is no address.
    """
    deadline = time.monotonic() + seconds
    while True:
        reason = _try_name(name, look_up, deadline - time.monotonic())
        left = deadline - time.monotonic()
        if not reason or left <= 0:
            return reason
        time.sleep(min(RETRY_SECONDS, left))


def _try_name(name: str, look_up: Callable[[str], object], seconds: float) -> str:
    reasons = ["the name server does not answer"]

    def ask() -> None:
        try:
            look_up(name)
        except (OSError, UnicodeError) as error:  # UnicodeError: no name at all, such as a label of 64 letters
            reasons.append(getattr(error, "strerror", None) or str(error))
        else:
            reasons.append("")

    thread = threading.Thread(target=ask, name="name look-up", daemon=True)
    thread.start()
    thread.join(max(LEAST_SECONDS, seconds))
    return reasons[-1]
