"""Signals that ask to stop, and the end of a process, with real signals."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from signs_dist.environment.process_table import find_descendants, process_state
from signs_dist.monitoring.signals import StopRequest, stop_reason
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
