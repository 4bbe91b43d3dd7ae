"""A program that does not outlive the process which started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from signs_dist.environment.process_table import process_state
from signs_dist.errors import EXIT_STOPPED
from signs_dist.searching import bound_program
from tests.processes import wait_for, wait_until

PROGRAM = [sys.executable, "-I", "-S", str(bound_program.__file__)]
SAY = "import os; print(os.getpid(), sorted(os.sched_getaffinity(0)))"


def test_it_becomes_the_program_on_its_cores() -> None:
    core = max(os.sched_getaffinity(0))
    command = [*PROGRAM, str(os.getpid()), str(core), sys.executable, "-c", SAY]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        out, _ = process.communicate(timeout=60)
    assert out.split(maxsplit=1) == [str(process.pid), f"[{core}]\n"]


def test_it_ends_if_its_starter_has_ended_already() -> None:
    ended = subprocess.run([*PROGRAM, "1", "", sys.executable, "-c", SAY], capture_output=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (EXIT_STOPPED, b"")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="prctl(2) is of Linux")
def test_it_is_asked_to_end_when_its_starter_is_killed(tmp_path: Path) -> None:
    """The program takes the signal as a training does: it writes down that it was asked, and ends."""
    file = tmp_path / "said"
    program = (
        "import os, signal, sys, time\n"
        f"def end(*_): open({str(file)!r}, 'a').write('asked'); sys.exit()\n"
        "signal.signal(signal.SIGTERM, end)\n"
        f"open({str(file)!r}, 'w').write(f'{{os.getpid()}} ')\n"
        "time.sleep(600)\n"
    )
    starter = (
        "import os, subprocess, sys, time\n"
        f"subprocess.Popen([*{PROGRAM!r}, str(os.getpid()), '', sys.executable, '-c', {program!r}])\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", starter]) as process:
        wait_for(file, " ")
        pid = int(file.read_text())
        process.send_signal(signal.SIGKILL)
    wait_for(file, "asked")
    wait_until(lambda: process_state(pid) == "gone")
