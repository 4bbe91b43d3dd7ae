"""Lines of JSON over loopback."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from signs_dist.diverging.lines import Hub, Line, LineEndedError, report_to


def test_lines_go_both_ways_and_may_be_long() -> None:
    with Hub() as hub:
        near = report_to(hub.address, {"token": hub.token, "rank": 3})
        hello, far = next(hub.arrivals(lambda: None))
        assert hello["rank"] == 3
        near.send({"names": ["x" * 100_000]})
        near.send({"second": True})
        assert len(far.receive()["names"][0]) == 100_000
        assert far.receive() == {"second": True}
        far.send({"do": "end"})
        assert near.receive() == {"do": "end"}
        near.close()
        with pytest.raises(LineEndedError):
            far.receive()


def test_a_stranger_is_not_let_in() -> None:
    with Hub() as hub:
        stranger = report_to(hub.address, {"token": "guessed", "rank": 0})
        friend = report_to(hub.address, {"token": hub.token, "rank": 1})
        hello, _ = next(hub.arrivals(lambda: None))
        assert hello["rank"] == 1
        stranger.close()
        friend.close()


@pytest.mark.parametrize(
    "sent",
    [
        '{"token": "\u00e9"}\n'.encode(),
        b'{"token": "\\ud800"}\n',
        b'{"rank": 0}\n',
        b"[]\n",
        b"\xff\n",
        b"GET / HTTP/1.1\r\n",
        b"[" * 4000 + b"\n",
        b"x" * 1_000_000,
        b"",
    ],
    ids=lambda sent: repr(sent[:20]),
)
def test_what_a_stranger_sends_does_no_harm(sent: bytes) -> None:
    with Hub() as hub, socket.create_connection(hub.address) as stranger:
        sender = threading.Thread(target=send_until_closed, args=(stranger, sent))
        sender.start()
        friend = report_to(hub.address, {"token": hub.token, "rank": 1})
        hello, _ = next(hub.arrivals(lambda: None))
        assert hello["rank"] == 1
        assert len(hub._open) == 1
        friend.close()
        sender.join()


def send_until_closed(stranger: socket.socket, sent: bytes) -> None:
    try:
        stranger.sendall(sent)
        stranger.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # the other end has closed the connection


def test_a_line_that_comes_byte_by_byte_has_an_end() -> None:
    near, far = socket.socketpair()
    has_ended = threading.Event()

    def trickle() -> None:
        until = time.monotonic() + 30
        while not has_ended.wait(0.01) and time.monotonic() < until:
            far.send(b"x")
        far.close()

    sender = threading.Thread(target=trickle)
    sender.start()
    with pytest.raises(LineEndedError, match="in time"):
        Line(near).receive(limit_seconds=0.1)
    has_ended.set()
    sender.join()
    near.close()


def test_a_wait_ends_when_the_other_end_has_failed() -> None:
    near, far = socket.socketpair()

    def require() -> None:
        raise RuntimeError("the process has ended")

    with pytest.raises(RuntimeError, match="has ended"):
        Line(near, require).receive()
    with pytest.raises(LineEndedError, match="in time"):
        Line(near).receive(limit_seconds=0.0)
    near.close()
    far.close()
