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

    def receive(self, limit_seconds: float = LONGEST_SECONDS) -> dict[str, Any]:
        """Wait for one line. Raises `LineEndedError`, and what `require` raises."""
        until = time.monotonic() + limit_seconds
        parts = [self._rest]
        while b"\n" not in parts[-1]:
            parts.append(self._more(until))
        line, _, self._rest = b"".join(parts).partition(b"\n")
        value: dict[str, Any] = json.loads(line)
        return value

    def _more(self, until: float) -> bytes:
        while True:
            try:
                data = self._connection.recv(BLOCK_BYTES)
            except TimeoutError:
                self.require()
                if time.monotonic() > until:
                    raise LineEndedError("nothing was sent in time") from None
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
            with contextlib.suppress(LineEndedError, ValueError):
                hello = line.receive(limit_seconds=10.0)
                if isinstance(hello, dict) and secrets.compare_digest(str(hello.get("token")), self.token):
                    yield hello, line


def report_to(address: tuple[str, int], hello: Mapping[str, Any]) -> Line:
    """Connect to a `Hub` and send the first line. Raises OSError."""
    line = Line(socket.create_connection(address, timeout=10.0))
    line.send(hello)
    return line
