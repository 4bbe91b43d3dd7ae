"""The `python` of programs that tests do not start themselves: as a new interpreter to those who start it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from signs_dist.environment.process_table import is_alive, read_birth
from tests import warm_processes, warm_python
from tests.processes import REPOSITORY, wait_until
from tests.test_warm_processes import ENDS, FILE, STATE, programs, start  # noqa: F401  (a fixture)
from tests.warm_processes import is_copy
from tests.warm_python import Fork

pytestmark = pytest.mark.usefixtures("programs")


def in_both_ways(program: str, folder: Path, *flags: str) -> list[tuple[int, str, str]]:
    """(exit code, standard output, standard error) of a fork, and of a new interpreter."""
    ends = []
    for is_cold in (False, True):
        with warm_processes.cold() if is_cold else contextlib.nullcontext():
            process = start(program, folder, *flags, python=warm_processes.python(), how=FILE)
            out, err = process.communicate("typed", timeout=120)
            ends.append((process.returncode, out, err))
    return ends


@pytest.mark.parametrize("flags", [[], ["-u"]], ids=["buffered", "unbuffered"])
def test_a_program_sees_what_it_sees_in_a_new_interpreter(tmp_path: Path, flags: list[str]) -> None:
    script = warm_processes.python()
    ends = in_both_ways(STATE, tmp_path, *flags)
    assert [(code, err) for code, _, err in ends] == [(0, ""), (0, "")]
    fork, cold = (json.loads(out.replace(script, sys.executable)) for _, out, _ in ends)
    for each in (fork, cold):  # it has a parent and a session of its own
        del each["place"][2], each["groups"]
    assert fork == cold


@ENDS
def test_it_ends_and_prints_as_a_new_interpreter(tmp_path: Path, program: str) -> None:
    fork, cold = in_both_ways(program, tmp_path)
    assert fork == cold


def test_it_is_the_interpreter_itself_within_a_cold_block(tmp_path: Path) -> None:
    program = "import sys\nprint('torch' in sys.modules)"
    assert [out for _, out, _ in in_both_ways(program, tmp_path)] == ["True\n", "False\n"]
    with warm_processes.cold():
        assert warm_processes.python() == sys.executable
    assert warm_processes.python() != sys.executable


@pytest.mark.parametrize("change", ["OMP_NUM_THREADS=2", "PYTHONPATH=/nowhere"])
def test_it_becomes_a_new_interpreter_where_there_is_to_be_no_fork(tmp_path: Path, change: str) -> None:
    name, _, value = change.partition("=")
    program = f"import os, sys\nprint('torch' in sys.modules, os.environ[{name!r}], sys.argv[1:])\nsys.exit(3)"
    process = start(program, tmp_path, python=warm_processes.python(), how=FILE, env={**os.environ, name: value})
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err) == (3, f"False {value} ['one', 'two words']\n", "")


def test_it_becomes_a_new_interpreter_where_no_server_listens(tmp_path: Path) -> None:
    link = tmp_path / warm_python.INTERPRETER
    link.symlink_to(sys.executable)
    shutil.copy(warm_processes.python(), tmp_path / "python")
    process = start("import sys\nprint('torch' in sys.modules)", tmp_path, python=str(tmp_path / "python"), how=FILE)
    assert process.communicate(timeout=120) == ("False\n", "")


TWO = """
import os, signal, sys, time
end, ready = os.pipe()
def told(number, frame):
    os.write(1, f"{name} has {number}\\n".encode())
    os._exit(0)
signal.signal(signal.SIGUSR2, told)
name = "child" if os.fork() == 0 else "parent"
os.write(1, f"{name} {os.getpid()}\\n".encode())
time.sleep(600)
"""


def read_two(process: subprocess.Popen[str]) -> list[str]:
    assert process.stdout is not None
    return sorted(process.stdout.readline() for _ in range(2))


def test_signals_reach_all_below_it(tmp_path: Path) -> None:
    process = start(TWO, tmp_path, python=warm_processes.python(), how=FILE)
    assert [line.split()[0] for line in read_two(process)] == ["child", "parent"]
    process.send_signal(signal.SIGUSR2)
    number = int(signal.SIGUSR2)
    assert read_two(process) == [f"child has {number}\n", f"parent has {number}\n"]
    process.communicate(timeout=60)
    assert process.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_when_it_is_killed_all_below_it_end(tmp_path: Path, number: signal.Signals) -> None:
    process = start(TWO, tmp_path, python=warm_processes.python(), how=FILE)
    births = {pid: read_birth(pid) for pid in (int(line.split()[1]) for line in read_two(process))}
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == -number
    wait_until(lambda: not any(is_alive(pid, birth) for pid, birth in births.items()))


def test_a_signal_that_comes_before_the_fork_is_passed_on() -> None:
    fork = Fork()
    fork.take(signal.SIGTERM, None)
    with subprocess.Popen(["sleep", "600"]) as process:
        fork.begin(process.pid)
        assert process.wait(60) == -signal.SIGTERM


def test_a_copy_of_the_toolkit_is_told_from_one_that_was_changed(tmp_path: Path) -> None:
    for package in warm_processes.PACKAGES[:2]:
        shutil.copytree(REPOSITORY / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "example").mkdir()  # as the fixture has it
    assert is_copy(tmp_path)
    (tmp_path / "launch" / "job.py").touch()
    assert not is_copy(tmp_path)
    shutil.copy2(REPOSITORY / "launch" / "job.py", tmp_path / "launch" / "job.py")
    assert is_copy(tmp_path)
    (tmp_path / "mine.py").touch()
    assert not is_copy(tmp_path)
    assert not is_copy(tmp_path / "nowhere")
