"""Commands started on several processes: their command lines, ends and errors."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from signs_dist.environment.process_table import find_descendants, process_state
from signs_dist.environment.subprocesses import TAIL_LINES, failure_of, launch_command, started
from signs_dist.errors import TrainingFailedError, UserError
from tests.processes import environment, wait_for, wait_until


def test_one_process_is_plain_python_and_more_are_torchrun() -> None:
    assert launch_command("a.b", 1, ["x"]) == [sys.executable, "-m", "a.b", "x"]
    several = launch_command("a.b", 3, ["x"])
    assert several[1:] == ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=3", "-m", "a.b", "x"]


@pytest.mark.parametrize("code", [1, 2])
def test_a_command_that_says_what_is_wrong_is_quoted(tmp_path: Path, code: int) -> None:
    output = tmp_path / "output"
    output.write_text("loading\nerror: a=1; it is 2\n")
    error = failure_of("the run", code, output)
    assert isinstance(error, UserError)
    assert str(error) == "a=1; it is 2"


@pytest.mark.parametrize(("code", "last"), [(1, "no error line"), (-9, "error: of a killed process")])
def test_any_other_failure_shows_the_end_of_the_output(tmp_path: Path, code: int, last: str) -> None:
    output = tmp_path / "output"
    output.write_text("".join(f"line {number}\n" for number in range(99)) + last)
    error = failure_of("the run", code, output)
    assert isinstance(error, TrainingFailedError)
    lines = str(error).splitlines()
    assert lines[0] == f"the run ended with exit code {code}. The end of its output:"
    assert lines[-1] == last
    assert len(lines) == 1 + TAIL_LINES


def test_the_output_goes_to_a_file_and_nothing_outlives_the_block(tmp_path: Path) -> None:
    output = tmp_path / "output"
    with started(["sh", "-c", "echo ready; setsid sleep 60 & wait"], output) as process:
        wait_for(output, "ready")
        wait_until(lambda: bool(find_descendants(process.pid)))
        descendants = find_descendants(process.pid)
    assert process.returncode == -signal.SIGKILL
    wait_until(lambda: all(process_state(pid) == "gone" for pid in descendants))


PROGRAM = """
import sys
from pathlib import Path
from signs_dist.environment.subprocesses import started
with started(["sleep", "60"], Path(sys.argv[1])) as process:
    print(process.pid, flush=True)
    process.wait()
"""


def test_sigterm_ends_what_was_started(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "output")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.terminate()
        assert process.wait(timeout=20) == 128 + signal.SIGTERM
    wait_until(lambda: process_state(pid) == "gone")
