"""The processes of a sweep."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from signs_dist.environment.process_table import process_state
from signs_dist.monitoring.failure_card import FailureCard, render
from signs_dist.searching.jobs import Job, explain_failure, is_stop
from signs_dist.searching.places import Place
from tests.processes import wait_for, wait_until

CARD = FailureCard(0, 1, "node7", "cpu", "", "prepare", 0, 0, "SystemError: boom", "net.py:1", "error", 1.0, 1, 1)


def test_a_job_has_its_place_and_a_session_of_its_own(tmp_path: Path) -> None:
    variables = "os.environ['OMP_NUM_THREADS'], os.environ['CUDA_VISIBLE_DEVICES']"
    say = f"import os; print({variables}, os.getsid(0) == os.getpid())"
    job = Job([sys.executable, "-c", say], Place((), "3", 2), tmp_path / "said", os.environ)
    wait_until(lambda: job.poll() is not None)
    assert job.poll() == 0
    assert (tmp_path / "said").read_text() == "2 3 True\n"


def test_a_job_is_stopped_once_and_killed_with_all_below_it(tmp_path: Path) -> None:
    program = (
        "import os, signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: os.write(1, b'asked\\n'))\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True)\n"
        "print(child.pid, flush=True)\n"
        "while True: time.sleep(0.01)\n"
    )
    job = Job([sys.executable, "-c", program], Place(), tmp_path / "said", os.environ)
    wait_for(tmp_path / "said", "\n")
    child = int((tmp_path / "said").read_text())
    job.stop()
    job.stop()
    wait_for(tmp_path / "said", "asked")
    assert job.poll() is None
    job.kill()
    assert job.poll() == -signal.SIGKILL
    wait_until(lambda: process_state(child) == "gone")
    assert (tmp_path / "said").read_text().count("asked") == 1


@pytest.mark.parametrize(
    ("code", "printed", "why"),
    [
        (2, "note: x\nerror: data.root: there is no folder\n", "data.root: there is no folder"),
        (1, "Traceback …\n", "exit code 1"),
        (1, f"{render(CARD)}\n", "SystemError: boom"),
        (-9, "", "killed by SIGKILL"),
        (1, f"error: {'x' * 500}\n", "x" * 198 + " …"),
    ],
)
def test_why_a_training_failed(tmp_path: Path, code: int, printed: str, why: str) -> None:
    (tmp_path / "said").write_text(printed)
    assert explain_failure(code, tmp_path / "run", tmp_path / "said") == why


def test_which_codes_are_of_a_stop() -> None:
    assert [code for code in (0, 1, 2, 3, 74, 75, 130, -9, -15) if is_stop(code)] == [0, 75, 130, -15]
