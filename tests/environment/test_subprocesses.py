"""Starting a module on some processes, and saying why they failed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from signs_dist.environment.process_table import find_descendants, process_state
from signs_dist.environment.subprocesses import count_processes, failure_of, last_lines, launch_command, started
from signs_dist.errors import OtherArithmeticError, TrainingFailedError, UserError


def test_plain_python_for_one_process_and_torchrun_for_more() -> None:
    assert launch_command("package.module", 1, ["--flag"]) == [sys.executable, "-m", "package.module", "--flag"]
    # Without an address torchrun would look up this machine's name, which may resolve nowhere.
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1", "--nproc-per-node=3"]
    assert launch_command("package.module", 3, []) == [sys.executable, *torchrun, "-m", "package.module"]


def test_a_number_of_processes_in_words() -> None:
    assert [count_processes(number) for number in (1, 2)] == ["1 process", "2 processes"]


@pytest.mark.parametrize(
    ("code", "printed", "kind", "message"),
    [
        (2, "torch: hello\nerror: no data\nerror: no data\n", UserError, "no data"),
        (4, "error: exact=true: other bits\n", OtherArithmeticError, "exact=true: other bits"),
        (1, "error: no data\nRoot Cause\n", UserError, "no data"),  # by torchrun
        (
            3,
            "error: rank 1 was lost\n",
            TrainingFailedError,
            "the run ended with exit code 3. It printed:\nerror: rank",
        ),
        (
            1,
            "Traceback\nValueError\n",
            TrainingFailedError,
            "the run ended with exit code 1. It printed:\nTraceback\nVal",
        ),
    ],
)
def test_why_processes_failed(tmp_path: Path, code: int, printed: str, kind: type[Exception], message: str) -> None:
    (tmp_path / "output").write_text(printed)
    failure = failure_of("the run", code, tmp_path / "output")
    assert type(failure) is kind
    assert str(failure).startswith(message)


def test_the_last_lines_are_shown(tmp_path: Path) -> None:
    (tmp_path / "output").write_bytes(b"\xff\n" * 20 + b"".join(b"%d\n" % number for number in range(30)))
    assert last_lines(tmp_path / "output") == [str(number) for number in range(30)]


PARENT = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])"


def test_nothing_outlives_the_block(tmp_path: Path) -> None:
    with started(
        [sys.executable, "-c", f"{PARENT}; print('hello', flush=True); time.sleep(60)"], tmp_path / "o"
    ) as top:
        deadline = time.monotonic() + 30
        while not (children := find_descendants(top.pid)) or not (tmp_path / "o").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert top.returncode == -signal.SIGKILL
    while any(process_state(pid) != "gone" for pid in children):  # the system takes a moment after the kill
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert (tmp_path / "o").read_text() == "hello\n"


def test_sigterm_ends_the_block_and_is_handled_as_before_behind_it(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    processes: list[subprocess.Popen[bytes]] = []

    def wait_and_be_stopped() -> None:
        with started([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path / "output") as process:
            processes.append(process)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)

    with pytest.raises(SystemExit) as caught:
        wait_and_be_stopped()
    assert caught.value.code == 143
    assert processes[0].returncode == -signal.SIGKILL
    assert signal.getsignal(signal.SIGTERM) == before


def test_the_handler_of_a_command_stays(tmp_path: Path) -> None:
    """It raises too, and its exit code is the one that is documented."""
    seen: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    try:
        with started([sys.executable, "-c", ""], tmp_path / "output"):
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [signal.SIGTERM]


def test_another_thread_sets_no_handler(tmp_path: Path) -> None:
    codes: list[int] = []

    def work() -> None:
        with started([sys.executable, "-c", "raise SystemExit(4)"], tmp_path / "output") as process:
            codes.append(process.wait())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert codes == [4]
