"""Lines of JSON between the command diverge and the processes of the runs that it compares, over loopback."""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from signs_dist.environment.addresses import find_loopback, listen

POLL_SECONDS = 0.2
"""How often a wait looks whether the other end still runs."""
LONGEST_SECONDS = 6 * 3600.0
"""How long a wait for a line may take: a step, or the start of a run whose photos are decoded first."""
HELLO_SECONDS = 10.0
"""How long the first line of a connection may take."""
HELLO_BYTES = 4096
"""How long the first line of a connection may be: until it has come, a stranger may have sent it."""
BLOCK_BYTES = 2**16


class LineEndedError(ConnectionError):
    """The other end has closed the connection, or sends nothing."""


def _nothing() -> None:
    return None


class Line:
    """A connection to one other program.

    Args:
        connection: is closed by `close`.
        require: called while it waits; it raises an exception if the other end can send nothing any more.
    """

    def __init__(self, connection: socket.socket, require: Callable[[], None] = _nothing) -> None:
        self._connection, self.require = connection, require
        self._rest = b""
        connection.settimeout(POLL_SECONDS)

    def send(self, value: Mapping[str, Any]) -> None:
        """Send one line. Raises `LineEndedError`."""
        data = json.dumps(value).encode() + b"\n"
        try:
            self._connection.settimeout(LONGEST_SECONDS)
            self._connection.sendall(data)
        except OSError as error:
            raise LineEndedError(str(error)) from error
        finally:
            with contextlib.suppress(OSError):
                self._connection.settimeout(POLL_SECONDS)

    def receive(self, limit_seconds: float = LONGEST_SECONDS, most_bytes: int | None = None) -> dict[str, Any]:
        """Wait for one line.

        Args:
            limit_seconds: how long the whole line may take.
            most_bytes: how long it may be; None: as long as it is.

        Raises:
            LineEndedError: the other end has closed the connection, or the line takes too long or is too long.
            ValueError: it is no JSON.
            Exception: what `require` raises.
        """
        until = time.monotonic() + limit_seconds
        parts, num_bytes = [self._rest], len(self._rest)
        while b"\n" not in parts[-1]:
            if most_bytes is not None and num_bytes > most_bytes:
                raise LineEndedError(f"a line of more than {most_bytes} bytes")
            parts.append(self._more(until))
            num_bytes += len(parts[-1])
        line, _, self._rest = b"".join(parts).partition(b"\n")
        value: dict[str, Any] = json.loads(line)
        return value

    def _more(self, until: float) -> bytes:
        while True:
            if time.monotonic() > until:  # also if the other end sends on, without an end of the line
                raise LineEndedError("no line was sent in time")
            try:
                data = self._connection.recv(BLOCK_BYTES)
            except TimeoutError:
                self.require()
                continue
            except OSError as error:
                raise LineEndedError(str(error)) from error
            if not data:
                raise LineEndedError("the connection was closed")
            return data

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class Hub:
    """Where the processes of both runs report. Use it as a context manager."""

    def __init__(self) -> None:
        self._server = listen(find_loopback())
        self._server.settimeout(POLL_SECONDS)
        self.address: tuple[str, int] = self._server.getsockname()[:2]
        self.token = secrets.token_hex(16)
        self._open: list[Line] = []

    def __enter__(self) -> Hub:
        return self

    def __exit__(self, *_: object) -> None:
        for line in self._open:
            line.close()
        self._server.close()

    def arrivals(self, require: Callable[[], None]) -> Iterator[tuple[dict[str, Any], Line]]:
        """(its first line, the connection) of each process that reports. It has no end.

        Args:
            require: called while it waits; raises an exception if no process will come any more.
        """
        while True:
            try:
                connection, _ = self._server.accept()
            except TimeoutError:
                require()
                continue
            line = Line(connection)
            self._open.append(line)
            hello = self._hello(line)
            if hello is None:
                line.close()
                self._open.remove(line)
            else:
                yield hello, line

    def _hello(self, line: Line) -> dict[str, Any] | None:
        """The first line of a connection; None if it is not from a process that was given the token."""
        try:
            hello: object = line.receive(HELLO_SECONDS, HELLO_BYTES)
        except (LineEndedError, ValueError, RecursionError):
            return None
        if not isinstance(hello, dict):
            return None
        token = str(hello.get("token")).encode(errors="replace")
        return hello if secrets.compare_digest(token, self.token.encode()) else None


def report_to(address: tuple[str, int], hello: Mapping[str, Any]) -> Line:
    """Connect to a `Hub` and send the first line. Raises OSError."""
    line = Line(socket.create_connection(address, timeout=10.0))
    line.send(hello)
    return line
