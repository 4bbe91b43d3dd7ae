"""Waits are told, again and again, and ended after a limit."""

from __future__ import annotations

import io
import sys
import threading
import time

import pytest

from signs_dist.monitoring import waiting
from signs_dist.monitoring.waiting import WaitWatcher, tell_on_standard_error, telling
from tests.processes import wait_until


def test_a_short_wait_is_not_told() -> None:
    told: list[str] = []
    with telling(lambda: "waits", tell=told.append):
        time.sleep(0.05)
    assert told == []


def test_a_long_wait_is_told_within_a_quarter_of_a_minute_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    assert waiting.NOTICE_SECONDS + waiting.POLL_SECONDS < 15
    monkeypatch.setattr(waiting, "REPEAT_SECONDS", 0.1)
    told: list[str] = []
    things = ["the first", "the second"]
    with telling(lambda: f"waits for {things[0]}", tell=told.append, notice_seconds=0.05):
        wait_until(lambda: len(told) >= 1)
        things.pop(0)  # what it waits for is looked up each time
        wait_until(lambda: "waits for the second (0 s so far)" in told)
    assert told[0] == "waits for the first (0 s so far)"


def test_after_the_wait_nothing_is_told_and_no_thread_is_left() -> None:
    told: list[str] = []
    watcher = WaitWatcher(told.append, notice_seconds=0.05)
    with watcher.waiting(lambda: "waits"):
        wait_until(lambda: bool(told))
    number = len(told)
    time.sleep(0.2)
    assert len(told) == number
    watcher.close()
    wait_until(lambda: "waits" not in [thread.name for thread in threading.enumerate()])


def test_the_outer_wait_goes_on_after_an_inner_one() -> None:
    told: list[str] = []
    watcher = WaitWatcher(told.append, notice_seconds=0.05)
    with watcher.waiting(lambda: "outer"):
        with watcher.waiting(lambda: "inner"):
            wait_until(lambda: bool(told))
        wait_until(lambda: told[-1].startswith("outer"))
    watcher.close()
    assert told[0].startswith("inner")


@pytest.mark.parametrize(("limit", "expected"), [(0.05, 1), (None, 0), (100.0, 0)])
def test_the_limit_is_told_once(limit: float | None, expected: int) -> None:
    ended: list[float] = []
    watcher = WaitWatcher(lambda line: None, notice_seconds=0.05)
    with watcher.waiting(lambda: "waits", limit_seconds=limit, on_limit=ended.append):
        time.sleep(0.3)
    watcher.close()
    assert len(ended) == expected


class _Gone(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


def _closed() -> io.StringIO:
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize("stream", [None, _Gone(), _closed()], ids=["none", "no reader", "closed"])
def test_without_standard_error_nothing_breaks(
    stream: io.StringIO | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    tell_on_standard_error("a line")
    monkeypatch.undo()
    assert capsys.readouterr().out == ""  # print(file=None) would write to standard output
