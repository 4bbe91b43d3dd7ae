"""How processes find rank 0's port if no launcher sets one.

All processes know the name of their launch, such as SLURM's job and step, and compute the same few candidate ports from
it. Rank 0 listens on the first free candidate, and answers with the port that the run itself uses. Other programs may
listen on some candidates. They do not know the name, so their answers are ignored.
"""

from __future__ import annotations

import contextlib
import hashlib
import socket
import threading
import time
from collections.abc import Iterator

from signs_dist.environment.addresses import await_name, listen
from signs_dist.errors import PeerLostError, UserError

PORTS = range(20000, 32768)
"""Above the ports of services, below the ports that the system assigns (ip(7), ip_local_port_range)."""
NUM_CANDIDATES = 8
ANSWER_SECONDS = 2.0
"""How long one candidate may take to answer."""
PAUSE_SECONDS = 0.1
LONGEST_LINE = 200


def candidate_ports(name: str) -> list[int]:
    """The candidate ports of a launch, in order and without repeats; the same for the same name."""
    ports: list[int] = []
    for number in range(10 * NUM_CANDIDATES):
        digest = hashlib.sha256(f"{name}/{number}".encode()).digest()
        port = PORTS[int.from_bytes(digest[:8], "big") % len(PORTS)]
        if port not in ports:
            ports.append(port)
    return ports[:NUM_CANDIDATES]


def find_free_port() -> int:
    """A port on which nothing listens now."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        port: int = probe.getsockname()[1]
        return port


class PortServer:
    """Rank 0's server, which sends the run's port to the other ranks. Made by `hosted`.

    Attributes:
        listening_port: one of the candidates.
        answered_ranks: the ranks that have the run's port.
    """

    def __init__(self, listener: socket.socket, name: str, port: int) -> None:
        self.listening_port: int = listener.getsockname()[1]
        self.answered_ranks: set[int] = set()
        self._listener, self._port = listener, port
        self._token = _token(name)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="port server", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop answering."""
        self._done.set()
        self._thread.join(ANSWER_SECONDS)
        self._listener.close()

    def _serve(self) -> None:
        self._listener.settimeout(PAUSE_SECONDS)
        while not self._done.is_set():
            with contextlib.suppress(OSError):
                connection, _ = self._listener.accept()
                # A thread for each connection: a process that sends nothing must not delay the others.
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError, ValueError):
            connection.settimeout(ANSWER_SECONDS)
            token, rank = _read_line(connection).split()
            if token == self._token:
                self.answered_ranks.add(int(rank))
                connection.sendall(f"{self._token} {self._port}\n".encode())


@contextlib.contextmanager
def hosted(name: str, port: int, address: str = "") -> Iterator[PortServer]:
    """Within the block, answer every process that sends the name of the launch with the run's port.

    Args:
        name: of the launch.
        port: which the run uses.
        address: where to listen, such as 127.0.0.1 if all processes are on this machine; "": all interfaces.

    Raises:
        UserError: all candidate ports are in use.
    """
    listener = _listen(address, candidate_ports(name))
    if listener is None:
        ports = ", ".join(map(str, candidate_ports(name)))
        raise UserError(
            f"ports {ports} are all in use on this machine, and rank 0 needs one of them. End the programs that listen "
            f"there, or for all processes type: export MASTER_ADDR=HOST MASTER_PORT=PORT"
        )
    server = PortServer(listener, name, port)
    try:
        yield server
    finally:
        server.close()


def ask(name: str, address: str, rank: int, seconds: float) -> int:
    """The run's port, from rank 0. Waits until rank 0 answers.

    Args:
        name: of the launch.
        address: of rank 0's machine.
        rank: of this process.
        seconds: how long to wait.

    Raises:
        PeerLostError: rank 0 did not answer within `seconds`.
    """
    deadline = time.monotonic() + seconds
    if reason := await_name(address, seconds):
        raise PeerLostError(
            f"rank {rank} on {socket.gethostname()} found no address for {address}, the machine of rank 0, within "
            f"{seconds:g} s: {reason}. Set MASTER_ADDR to a name or an address that every machine of the run knows."
        )
    while True:
        reasons: list[str] = []
        for port in candidate_ports(name):
            answer = _ask_at(name, address, port, rank, reasons)
            if answer is not None:
                return answer
        if time.monotonic() > deadline:
            ports = ", ".join(map(str, candidate_ports(name)))
            why = f" ({', '.join(sorted(set(reasons)))})" if reasons else ""
            raise PeerLostError(
                f"rank {rank} found no rank 0 at {address} within {seconds:g} s on the ports {ports}{why}. Check that "
                f"rank 0 runs and that this machine can reach these ports."
            )
        time.sleep(PAUSE_SECONDS)


def _ask_at(name: str, address: str, port: int, rank: int, reasons: list[str]) -> int | None:
    """The port that rank 0 answers, or None; a reason why nobody answered is added to `reasons`."""
    token = _token(name)
    try:
        with socket.create_connection((address, port), timeout=ANSWER_SECONDS) as connection:
            connection.settimeout(ANSWER_SECONDS)
            connection.sendall(f"{token} {rank}\n".encode())
            answered_token, answer = _read_line(connection).split()
            return int(answer) if answered_token == token else None
    except OSError as error:
        reasons.append((error.strerror or str(error)).lower())
    except ValueError:
        reasons.append("another program answers")
    return None


def _listen(address: str, ports: list[int]) -> socket.socket | None:
    for port in ports:
        # SO_REUSEADDR: connections of the previous attempt may still be closing.
        with contextlib.suppress(OSError):
            return listen(address, port)
    return None


def _read_line(connection: socket.socket) -> str:
    text = b""
    while not text.endswith(b"\n"):
        received = connection.recv(LONGEST_LINE)
        text += received
        if not received or len(text) > LONGEST_LINE:
            raise ValueError("no line")
    return text.decode("ascii", errors="replace")


def _token(name: str) -> str:
    return hashlib.sha256(f"signs_dist meeting {name}".encode()).hexdigest()[:32]
