"""Signals that ask to stop, and the end of a process, with real signals."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from signs_dist.environment.process_table import find_descendants, process_state
from signs_dist.monitoring import signals
from signs_dist.monitoring.signals import CommandSignals, StoppedBySignal, StopRequest, handled_signals, stop_reason
from tests.processes import environment, wait_until

PROGRAM = """
import ctypes, multiprocessing, sys, time
from signs_dist.monitoring.signals import StopRequest
stop = StopRequest()
child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,), daemon=True)
child.start()
with stop.handling():
    print(child.pid, flush=True)
    if sys.argv[1] == "stuck":
        libc, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(64)
        libc.pthread_mutex_lock(mutex)
        libc.pthread_mutex_lock(mutex)  # waits for ever and ignores signals, as a collective does
    try:
        while True:
            time.sleep(0.05)
            if stop.is_set:
                print("set", flush=True)
                time.sleep(2.5)
                break
    except KeyboardInterrupt:
        print("now", flush=True)
        sys.exit(7)
print("went on", flush=True)
"""


def start(how: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, how], stdout=subprocess.PIPE, text=True, env=environment()
    )
    assert process.stdout is not None
    int(process.stdout.readline())
    return process


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pauses", "said", "code"),
    [
        ([], ["set", "went on"], 0),
        ([0.1, 0.1], ["set", "went on"], 0),  # torchrun sends again what the terminal has sent
        ([1.3], ["set", "now"], 7),
    ],
)
def test_the_first_ctrl_c_asks_and_the_second_stops_now(pauses: list[float], said: list[str], code: int) -> None:
    with start("free") as process:
        process.send_signal(signal.SIGINT)
        for pause in pauses:
            time.sleep(pause)
            process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=20)
    assert out.split("\n")[:-1] == said
    assert process.returncode == code


@pytest.mark.slow
def test_a_process_that_is_stuck_in_c_ends_at_the_second_ctrl_c(tmp_path: Path) -> None:
    with start("stuck") as process:
        (child,) = find_descendants(process.pid)
        process.send_signal(signal.SIGINT)
        time.sleep(1.3)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=15) == 130
    deadline = time.monotonic() + 5
    while process_state(child) != "gone":
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_handler_is_there_for_the_block_only() -> None:
    before = signal.getsignal(signal.SIGINT)
    stop = StopRequest()
    with stop.handling():
        assert signal.getsignal(signal.SIGINT) is not before
        signal.raise_signal(signal.SIGINT)
        assert stop.is_set
    assert signal.getsignal(signal.SIGINT) is before


FORKS = """
import multiprocessing, time
from signs_dist.monitoring.signals import StopRequest
with StopRequest().handling():
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(30,), daemon=True)
    child.start()
print("left", flush=True)
child.kill()
child.join()
"""


def test_a_living_worker_does_not_delay_the_end() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", FORKS], capture_output=True, text=True, timeout=20, env=environment(), check=False
    )
    assert (ended.returncode, ended.stdout) == (0, "left\n"), ended.stderr


def test_a_failed_block_leaves_no_thread_or_wakeup() -> None:
    num_threads = threading.active_count()

    def fail() -> None:
        with StopRequest().handling():
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fail()
    assert threading.active_count() == num_threads
    wakeup = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup)
    assert wakeup == -1


def test_another_thread_has_no_handler() -> None:
    before, seen = signal.getsignal(signal.SIGINT), []

    def work() -> None:
        with StopRequest().handling():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


@pytest.mark.parametrize(
    ("numbers", "reason"),
    [
        ([0, signal.SIGINT], ("Ctrl-C", 130)),
        ([0, signal.SIGTERM, 0], ("SIGTERM", 75)),
        ([signal.SIGUSR2, 0], ("SIGUSR2", 75)),
        ([signal.SIGUSR2, signal.SIGTERM], ("SIGTERM", 75)),
        ([signal.SIGINT, signal.SIGUSR2], ("SIGUSR2", 75)),  # the run is to be resumed later
    ],
)
def test_why_a_run_stopped_over_all_its_processes(numbers: list[int], reason: tuple[str, int]) -> None:
    assert stop_reason(numbers) == reason


def test_sigterm_after_the_notice_takes_its_place() -> None:
    stop = StopRequest()
    with stop.handling():
        signal.raise_signal(signal.SIGUSR2)
        assert stop.signal_number == signal.SIGUSR2
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGUSR2)
    assert stop.signal_number == signal.SIGTERM


ENDS = """
import multiprocessing, sys, threading, time
from signs_dist.monitoring.signals import call_at_end, end_now
child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,), daemon=True)
child.start()
print(child.pid, flush=True)
call_at_end(lambda code: print("told", code, flush=True))
if sys.argv[1] == "hangs":
    call_at_end(lambda code: time.sleep(60))
try:
    end_now(3)
finally:
    print("never", flush=True)
"""


@pytest.mark.parametrize("how", ["at once", "hangs"])
def test_the_end_tells_its_code_and_leaves_no_worker(how: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", ENDS, how], capture_output=True, text=True, timeout=20, env=environment(), check=False
    )
    pid, *told = ended.stdout.splitlines()
    assert (ended.returncode, told) == (3, ["told 3"])
    wait_until(lambda: process_state(int(pid)) == "gone")


ALL = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2, signal.SIGHUP, signal.SIGXCPU)


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def sent(numbers: list[tuple[float, int]], clock: Clock) -> list[str]:
    """What each signal, sent at its time within one block, raises in the main thread; "" for nothing."""
    raised = []
    with CommandSignals(clock).handling(until_exit=False):
        for at, number in numbers:
            clock.now = at
            try:
                signal.raise_signal(number)
                time.sleep(0)
                raised.append("")
            except KeyboardInterrupt as error:
                raised.append(str(error) or "Ctrl-C")
    return raised


@pytest.mark.parametrize(
    ("numbers", "raised"),
    [
        ([(0, signal.SIGINT)], ["Ctrl-C"]),
        *(([(0, number)], [f"stopped by {number.name}"]) for number in ALL[1:]),
        ([(0, signal.SIGTERM), (0.05, signal.SIGTERM), (0.9, signal.SIGUSR2)], ["stopped by SIGTERM", "", ""]),
        ([(0, signal.SIGINT), (0.05, signal.SIGINT)], ["Ctrl-C", ""]),  # the terminal sends it, and a launcher again
        ([(0, signal.SIGHUP), (0.1, signal.SIGTERM)], ["stopped by SIGHUP", ""]),  # as a closed terminal
        ([(0, signal.SIGTERM), (0.1, signal.SIGINT)], ["stopped by SIGTERM", ""]),
        # The first exception may have been lost.
        ([(0, signal.SIGTERM), (1.5, signal.SIGTERM)], ["stopped by SIGTERM", "stopped by SIGTERM"]),
        ([(0, signal.SIGINT), (1.5, signal.SIGTERM)], ["Ctrl-C", "stopped by SIGTERM"]),
    ],
)
def test_what_signals_raise_in_a_command(numbers: list[tuple[float, int]], raised: list[str]) -> None:
    before = [signal.getsignal(number) for number in ALL]
    assert sent(numbers, Clock()) == raised
    assert [signal.getsignal(number) for number in ALL] == before


def test_a_later_ctrl_c_ends_a_command_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    codes: list[int] = []
    monkeypatch.setattr(signals, "end_now", codes.append)
    assert sent([(0, signal.SIGINT), (1.5, signal.SIGINT)], Clock()) == ["Ctrl-C", "Ctrl-C"]
    assert codes == [130]


@pytest.mark.parametrize("number", ALL)
def test_a_command_that_is_ending_keeps_its_exit_code(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    codes: list[int] = []
    monkeypatch.setattr(signals, "end_now", codes.append)
    clock = Clock()
    command = CommandSignals(clock)
    with command.handling(until_exit=False):
        command.note_ending(74)
        for clock.now in (0.0, 0.5, 1.5):
            with contextlib.suppress(KeyboardInterrupt):  # after `end_now`, which does not return
                signal.raise_signal(number)
    assert codes == ([74] if number == signal.SIGINT else [])


@pytest.mark.parametrize("number", ALL)
def test_signals_that_repeat_the_one_that_stopped_training_raise_nothing(number: int) -> None:
    stop = StopRequest()
    with CommandSignals().handling(until_exit=False):
        with stop.handling():
            signal.raise_signal(number)
        signal.raise_signal(number)
        signal.raise_signal(signal.SIGTERM)
    assert stop.signal_number == number


def test_a_handler_that_is_there_already_stays() -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    try:
        with CommandSignals().handling(until_exit=False):
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [signal.SIGTERM]


@pytest.mark.parametrize(
    "block", [lambda: StopRequest().handling(), lambda: CommandSignals().handling(until_exit=False)]
)
def test_nohup_is_honoured(block: Callable[[], contextlib.AbstractContextManager[None]]) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert signal.SIGHUP not in handled_signals()
        with block():
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGXCPU])
def test_a_terminal_that_goes_and_a_limit_of_cpu_time_stop_a_run_as_sigterm_does(number: signal.Signals) -> None:
    stop = StopRequest()
    with stop.handling():
        signal.raise_signal(number)
    assert (stop.is_set, stop.signal_number) == (True, number)
    assert stop_reason([0, number]) == (number.name, 75)
    assert stop_reason([number, signal.SIGTERM]) == ("SIGTERM", 75)


def test_except_exception_does_not_swallow_a_signal() -> None:
    assert not issubclass(StoppedBySignal, Exception)


COMMAND = """
import atexit, ctypes, os, signal, sys, threading, time
from signs_dist.console.command import run_command
from signs_dist.monitoring import signals
signals.END_SECONDS = 0.3
def sleeps(arguments):
    try:
        print("ready", flush=True)
        time.sleep(30)
    finally:
        print("cleans up", flush=True)
        time.sleep(0.4)
        print("has cleaned up", flush=True)
def stuck(arguments):
    libc, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(64)
    libc.pthread_mutex_lock(mutex)
    threading.Timer(0.3, print, ("ready",), {"flush": True}).start()
    libc.pthread_mutex_lock(mutex)  # waits for ever and ignores signals, as a collective does
def exits(arguments):
    atexit.register(lambda: (print("ready", flush=True), time.sleep(0.5)))
    return 0
def forks(arguments):
    child = os.fork()
    if child == 0:
        time.sleep(10)
        os._exit(1)
    os.kill(child, signal.SIGTERM)
    _, status = os.waitpid(child, 0)
    print("ready", flush=True)
    time.sleep(0.8)
    print(os.waitstatus_to_exitcode(status))
    return 0
def launches(arguments):
    signal.signal(signal.SIGTERM, lambda number, frame: None)  # as passing_signals
    print("ready", flush=True)
    time.sleep(0.8)
    return 0
sys.exit(run_command(globals()[sys.argv[1]]))
"""
CLEAN = ["cleans up", "has cleaned up"]


@pytest.mark.parametrize(
    ("how", "numbers", "code", "out", "err"),
    [
        ("sleeps", [signal.SIGTERM, signal.SIGTERM], 75, CLEAN, "stopped by SIGTERM: repeat the command\n"),
        ("sleeps", [signal.SIGINT, signal.SIGINT], 130, CLEAN, "interrupted\n"),
        ("sleeps", [signal.SIGHUP, signal.SIGTERM], 75, CLEAN, "stopped by SIGHUP: repeat the command\n"),
        ("stuck", [signal.SIGTERM], 75, [], ""),
        ("stuck", [signal.SIGINT], 130, [], ""),
        ("exits", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2], 0, [], ""),  # the result is written
        ("forks", [], 0, ["-15"], ""),  # the child's signal is not its parent's
        ("launches", [signal.SIGTERM], 0, [], ""),  # another handler has it: the main thread is not stuck
    ],
)
def test_how_a_command_ends_at_signals(how: str, numbers: list[int], code: int, out: list[str], err: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND, how],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        for number in numbers:
            process.send_signal(number)
            time.sleep(0.05)
        said = process.communicate(timeout=20)
    assert (process.returncode, said[0].splitlines(), said[1]) == (code, out, err)
