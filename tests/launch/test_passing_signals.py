"""Signals that are passed on to the agent, and what a second one does."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from launch import passing_signals
from launch.passing_signals import choose_action

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2, signal.SIGHUP, signal.SIGXCPU)


@pytest.fixture
def handlers() -> Iterator[None]:
    """This process's handlers are afterwards as before."""
    before = {number: signal.getsignal(number) for number in NUMBERS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@contextlib.contextmanager
def sleeping() -> Iterator[subprocess.Popen[bytes]]:
    """A process that counts the signals it gets as lines on standard output; SIGTERM ends it."""
    code = (
        # Without a buffer: a handler that runs within print() must not print.
        "import os, signal, time\n"
        "signal.signal(signal.SIGUSR2, lambda number, frame: os.write(1, b'%d\\n' % number))\n"
        "os.write(1, b'ready\\n')\n"
        "time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("number", "seconds_since_first", "action"),
    [
        *((number, None, "pass on") for number in NUMBERS),
        (signal.SIGINT, 0.5, "ignore"),  # the terminal's Ctrl-C, which a launcher above passes on too
        (signal.SIGINT, 1.5, "kill"),
        (signal.SIGTERM, 0.5, "pass on"),
        (signal.SIGTERM, 60.0, "pass on"),  # the end, after SIGUSR2 gave notice of it
        (signal.SIGUSR2, 60.0, "ignore"),
        (signal.SIGHUP, 60.0, "ignore"),
        (signal.SIGXCPU, 60.0, "ignore"),  # the system sends it each second
    ],
)
def test_what_a_signal_does(number: int, seconds_since_first: float | None, action: str) -> None:
    assert choose_action(number, seconds_since_first) == action


@pytest.mark.usefixtures("handlers")
def test_signals_are_passed_on_and_the_first_is_told() -> None:
    told: list[int] = []
    with sleeping() as process:
        with passing_signals.passing_signals(process, told.append) as received:
            os.kill(os.getpid(), signal.SIGUSR2)
            assert process.stdout is not None
            assert process.stdout.readline() == b"%d\n" % signal.SIGUSR2
            os.kill(os.getpid(), signal.SIGTERM)
            assert process.wait(timeout=10) == -signal.SIGTERM
        assert received == [signal.SIGUSR2, signal.SIGTERM]
        assert told == [signal.SIGUSR2]
        # Stopping already: what srun sends when another of its tasks has ended does not end this one.
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
        assert signal.getsignal(signal.SIGINT) != signal.SIG_IGN


@pytest.mark.usefixtures("handlers")
def test_a_second_ctrl_c_kills(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passing_signals, "REPEAT_SECONDS", 0.0)
    with sleeping() as process, passing_signals.passing_signals(process, lambda number: None) as received:
        process.send_signal(signal.SIGSTOP)  # it does not end by the first
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        assert process.wait(timeout=10) == -signal.SIGKILL
    assert received == [signal.SIGINT]


@pytest.mark.usefixtures("handlers")
def test_without_a_signal_all_is_as_before() -> None:
    before = [signal.getsignal(number) for number in NUMBERS]
    with sleeping() as process, passing_signals.passing_signals(process, lambda number: None) as received:
        pass
    assert received == []
    assert [signal.getsignal(number) for number in NUMBERS] == before


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("is_ignored", [True, False])
def test_nohup_is_honoured(is_ignored: bool) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN if is_ignored else signal.SIG_DFL)
    with sleeping() as process, passing_signals.passing_signals(process, lambda number: None) as received:
        os.kill(os.getpid(), signal.SIGHUP)
        if not is_ignored:
            assert process.wait(timeout=10) == -signal.SIGHUP
    assert received == ([] if is_ignored else [signal.SIGHUP])
