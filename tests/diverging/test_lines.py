"""Lines of JSON over loopback."""

from __future__ import annotations

import socket

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
