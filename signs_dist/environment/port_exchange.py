"""How processes find rank 0's port where no launcher says it: nobody sets one, and a taken one does no harm.

All know a name for their launch, such as SLURM's job and step, and from it the same few ports. Rank 0 listens on the
first of them that is free, and tells who asks with that name which port the run itself uses. Another program on one of
the ports, or another run, does not know the name, and is passed over.
"""

from __future__ import annotations

import contextlib
import hashlib
import socket
import threading
import time
from collections.abc import Iterator

from signs_dist.errors import PeerLostError, UserError

PORTS = range(20000, 32768)
"""Above what services use, below what the system hands out by itself (ip(7), ip_local_port_range)."""
NUM_CANDIDATES = 8
ANSWER_SECONDS = 2.0
"""How long one candidate may take to answer."""
PAUSE_SECONDS = 0.1
LONGEST_LINE = 200


def candidate_ports(name: str) -> list[int]:
    """The ports to meet at, different ones in order; the same for the same name."""
    ports: list[int] = []
    for number in range(10 * NUM_CANDIDATES):
        digest = hashlib.sha256(f"{name}/{number}".encode()).digest()
        port = PORTS[int.from_bytes(digest[:8], "big") % len(PORTS)]
        if port not in ports:
            ports.append(port)
    return ports[:NUM_CANDIDATES]


def find_free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        port: int = probe.getsockname()[1]
        return port


class Meeting:
    """Rank 0's answer to those who ask for the run's port. Made by `hosted`.

    Attributes:
        place: the port that it listens on.
        asked: ranks that were told.
    """

    def __init__(self, listener: socket.socket, name: str, port: int) -> None:
        self.place: int = listener.getsockname()[1]
        self.asked: set[int] = set()
        self._listener, self._port = listener, port
        self._token = _token(name)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="meeting", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Answer no more."""
        self._done.set()
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        self._listener.settimeout(PAUSE_SECONDS)
        while not self._done.is_set():
            with contextlib.suppress(OSError):
                connection, _ = self._listener.accept()
                # Each has a thread of its own: one that connects and says nothing must not keep the others.
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError, ValueError):
            connection.settimeout(ANSWER_SECONDS)
            token, rank = _read_line(connection).split()
            if token == self._token:
                self.asked.add(int(rank))
                connection.sendall(f"{self._token} {self._port}\n".encode())


@contextlib.contextmanager
def hosted(name: str, port: int) -> Iterator[Meeting]:
    """Within the block, tell who asks with `name` that the run uses `port`.

    Raises:
        UserError: all candidate ports are taken.
    """
    listener = _listen(candidate_ports(name))
    if listener is None:
        ports = ", ".join(map(str, candidate_ports(name)))
        raise UserError(
            f"ports {ports} are all taken on this machine, and rank 0 needs one of them to be found. End what listens "
            f"there, or set MASTER_ADDR and MASTER_PORT for all processes."
        )
    meeting = Meeting(listener, name, port)
    try:
        yield meeting
    finally:
        meeting.close()


def ask(name: str, address: str, rank: int, seconds: float) -> int:
    """The port that rank 0 at `address` tells; waits until it is there.

    Raises:
        PeerLostError: it was not found within `seconds`.
    """
    deadline = time.monotonic() + seconds
    while True:
        for port in candidate_ports(name):
            answer = _ask_at(name, address, port, rank)
            if answer is not None:
                return answer
        if time.monotonic() > deadline:
            ports = ", ".join(map(str, candidate_ports(name)))
            raise PeerLostError(
                f"rank {rank} found no rank 0 at {address} within {seconds:g} s, on none of the ports {ports}. Is it "
                f"started, and may this machine reach those ports?"
            )
        time.sleep(PAUSE_SECONDS)


def _ask_at(name: str, address: str, port: int, rank: int) -> int | None:
    token = _token(name)
    try:
        with socket.create_connection((address, port), timeout=ANSWER_SECONDS) as connection:
            connection.settimeout(ANSWER_SECONDS)
            connection.sendall(f"{token} {rank}\n".encode())
            told, answer = _read_line(connection).split()
            return int(answer) if told == token else None
    except (OSError, ValueError):
        return None


def _listen(ports: list[int]) -> socket.socket | None:
    for port in ports:
        # SO_REUSEADDR: the attempt before this one may have left connections that are just closing.
        with contextlib.suppress(OSError):
            return socket.create_server(("", port), backlog=1024)
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
