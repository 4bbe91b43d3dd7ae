"""Connections between ranks: each listens, each connects to each other, and pairs are timed one after the other.

The sockets are those of this module, not torch's: each operation has a time limit, and a rank that hangs stops only
those that wait for it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import statistics
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from signs_dist.environment.addresses import await_name, listen

ANSWER_SECONDS = 3.0
"""How long a connection, and each answer over it, may take."""
NAME_SECONDS = 3.0
NUM_PINGS = 20
PAIR_BYTES = 8 * 2**20
BLOCK_BYTES = 2**18
LEAST_PAIR_SECONDS = 0.2
"""How long to send at least: a rank that is held up now and then is slow only on average."""
MOST_PAIR_SECONDS = 0.5
"""How long to send at most: a slow network is told by less."""
NUM_CLOCK_READINGS = 8
_TOKEN_BYTES = 16
_NUMBER = struct.Struct("!d")


@dataclasses.dataclass(frozen=True)
class PairTiming:
    """What two ranks measured between them.

    Attributes:
        latency_seconds: from one to the other, half of a message and its answer; the median.
        bytes_per_second: from one to the other.
        problem: why it could not be measured; "" if it could.
    """

    latency_seconds: float = 0.0
    bytes_per_second: float = 0.0
    problem: str = ""


class Listener:
    """Answers the other ranks in a thread: pings, floods of bytes, and questions for the time.

    Args:
        address: where to listen; "": on all interfaces.
        token: 16 bytes that all ranks know; others get no answer.
        now: this machine's clock.

    Attributes:
        port: where it listens.
    """

    def __init__(self, address: str, token: bytes, now: Callable[[], float] = time.time) -> None:
        self._socket = listen(address)
        self._token, self._now = token, now
        self.port: int = self._socket.getsockname()[1]
        self._socket.settimeout(0.2)
        self._done = threading.Event()
        threading.Thread(target=self._serve, name="doctor listener", daemon=True).start()

    def close(self) -> None:
        """Listen no longer."""
        self._done.set()
        self._socket.close()

    def _serve(self) -> None:
        while not self._done.is_set():
            with contextlib.suppress(OSError):
                connection, _ = self._socket.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            _prepare(connection)
            if _receive(connection, _TOKEN_BYTES) != self._token:
                return
            connection.sendall(self._token)
            while kind := connection.recv(1):
                if kind == b"p":
                    connection.sendall(b"p")
                elif kind == b"t":
                    connection.sendall(_NUMBER.pack(self._now()))
                elif kind == b"f":
                    self._swallow(connection, int(_NUMBER.unpack(_receive(connection, _NUMBER.size))[0]))
                    connection.sendall(b"f")

    def _swallow(self, connection: socket.socket, left: int) -> None:
        buffer = bytearray(BLOCK_BYTES)
        while left > 0:
            count = connection.recv_into(buffer, min(left, BLOCK_BYTES))
            if not count:
                raise OSError("the connection was closed")
            left -= count


def _prepare(connection: socket.socket) -> None:
    connection.settimeout(ANSWER_SECONDS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _receive(connection: socket.socket, count: int) -> bytes:
    received = b""
    while len(received) < count:
        part = connection.recv(count - len(received))
        if not part:
            raise OSError("the connection was closed")
        received += part
    return received


@contextlib.contextmanager
def connected(address: str, port: int, token: bytes) -> Iterator[socket.socket]:
    """A connection to another rank's listener. Raises OSError, also where another program answers."""
    with socket.create_connection((address, port), timeout=ANSWER_SECONDS) as connection:
        _prepare(connection)
        connection.sendall(token)
        if _receive(connection, _TOKEN_BYTES) != token:
            raise OSError("another program answers")
        yield connection


def find_no_address(name: str, seconds: float = NAME_SECONDS) -> str:
    """Why the name of a machine has no address here; "" if it has one."""
    return await_name(name, seconds)


def reach(address: str, port: int, token: bytes) -> str:
    """Why a rank cannot be reached; "" if it can."""
    try:
        with connected(address, port, token) as connection:
            connection.sendall(b"p")
            _receive(connection, 1)
    except TimeoutError:
        return f"no answer within {ANSWER_SECONDS:g} s"
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return ""


def time_pair(address: str, port: int, token: bytes, num_bytes: int = PAIR_BYTES) -> PairTiming:
    """Measure the connection to another rank."""
    try:
        with connected(address, port, token) as connection:
            pings = []
            for _ in range(NUM_PINGS):
                started = time.perf_counter()
                connection.sendall(b"p")
                _receive(connection, 1)
                pings.append(time.perf_counter() - started)
            return PairTiming(statistics.median(pings) / 2, _flood(connection, num_bytes))
    except TimeoutError:
        return PairTiming(problem=f"no answer within {ANSWER_SECONDS:g} s")
    except OSError as error:
        return PairTiming(problem=(error.strerror or str(error)).lower())


def _flood(connection: socket.socket, num_bytes: int) -> float:
    """Bytes per second, of at least so many bytes and for LEAST_PAIR_SECONDS, but no longer than MOST_PAIR_SECONDS."""
    block = bytes(BLOCK_BYTES)
    started, sent = time.perf_counter(), 0
    elapsed = 0.0
    while elapsed < LEAST_PAIR_SECONDS or (sent < num_bytes and elapsed < MOST_PAIR_SECONDS):
        connection.sendall(b"f" + _NUMBER.pack(float(4 * BLOCK_BYTES)))
        for _ in range(4):
            connection.sendall(block)
        _receive(connection, 1)
        sent += 4 * BLOCK_BYTES
        elapsed = time.perf_counter() - started
    return sent / elapsed


def clock_offset(address: str, port: int, token: bytes, now: Callable[[], float] = time.time) -> tuple[float, float]:
    """How many seconds another rank's clock is ahead, and how exact that is; from the fastest of several answers.

    As the Network Time Protocol computes it (RFC 5905, section 8). Raises OSError.
    """
    found: list[tuple[float, float]] = []
    with connected(address, port, token) as connection:
        for _ in range(NUM_CLOCK_READINGS):
            before, started = now(), time.perf_counter()
            connection.sendall(b"t")
            (there,) = _NUMBER.unpack(_receive(connection, _NUMBER.size))
            took = time.perf_counter() - started
            found.append((took / 2, there - (before + took / 2)))
    exact, offset = min(found)
    return offset, exact


def rounds(ranks: Sequence[int]) -> list[list[tuple[int, int]]]:
    """Every pair of ranks once, in rounds with each rank in one pair at most (the circle method of tournaments)."""
    order: list[int | None] = [*ranks, *([None] if len(ranks) % 2 else [])]
    found = []
    for _ in range(len(order) - 1):
        half = len(order) // 2
        pairs = zip(order[:half], reversed(order[half:]), strict=True)
        found.append([(min(a, b), max(a, b)) for a, b in pairs if a is not None and b is not None])
        order = [order[0], order[-1], *order[1:-1]]
    return [each for each in found if each]
