"""examples/own_loop.py gives one SHA-256 on 1, 2 and 3 processes, stopped by a signal, killed, and resumed."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from signs_dist.environment.process_table import kill_tree
from tests.processes import REPOSITORY, Ended, finish, run, started, wait_for

EXAMPLE = REPOSITORY / "examples" / "own_loop.py"
PAUSING = f"""
import os, sys, time
import signs_dist as sd
finish = sd.ExactStep.finish
def pausing(step):
    finish(step)
    if step.steps_done == int(sys.argv[2]):
        open(f"paused{{os.environ.get('RANK', 0)}}", "w").write(f"{{os.getpid()}}\\n")
        time.sleep(float(sys.argv[3]))
sd.ExactStep.finish = pausing
import runpy
runpy.run_path({str(EXAMPLE)!r}, run_name="__main__")
"""
"""The example, which waits after one of its steps, and tells its process id."""


def command(num_processes: int, *arguments: str) -> list[str]:
    if num_processes == 1:
        return [sys.executable, *arguments]
    return [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={num_processes}"),
        *arguments,
    ]


def result(ended: Ended) -> str:
    assert ended.code == 0, ended.err
    return ended.out.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("one")
    return result(run(command(1, str(EXAMPLE), "checkpoints"), folder))


def test_the_example_is_short() -> None:
    assert len(EXAMPLE.read_text(encoding="utf-8").splitlines()) <= 60


@pytest.mark.slow
@pytest.mark.parametrize("num_processes", [2, 3])
def test_other_numbers_of_processes_give_the_same_weights(num_processes: int, expected: str, tmp_path: Path) -> None:
    assert expected.startswith("36 steps, weights ")
    assert result(run(command(num_processes, str(EXAMPLE), "checkpoints"), tmp_path)) == expected


@pytest.mark.slow
def test_a_stop_and_a_kill_change_nothing(expected: str, tmp_path: Path) -> None:
    (tmp_path / "pausing.py").write_text(PAUSING)
    # On 3 processes: one of them is asked to stop; all save step 14 and leave.
    with started(command(3, "pausing.py", "checkpoints", "13", "2"), tmp_path) as process:
        wait_for(tmp_path / "paused2", "\n")
        os.kill(int((tmp_path / "paused2").read_text()), signal.SIGTERM)
        assert finish(process).code == 0
    assert newest(tmp_path) == "epoch-0001-step-000014.pt"
    # On 1 process: SIGKILL after step 23, whose last save is that of step 20.
    (tmp_path / "paused0").unlink()
    with started(command(1, "pausing.py", "checkpoints", "23", "600"), tmp_path) as process:
        wait_for(tmp_path / "paused0")
        kill_tree(process.pid)
        assert finish(process).code == -signal.SIGKILL
    assert newest(tmp_path) == "epoch-0001-step-000020.pt"
    assert result(run(command(2, str(EXAMPLE), "checkpoints"), tmp_path)) == expected


def newest(folder: Path) -> str:
    return max(path.name for path in (folder / "checkpoints").glob("epoch*.pt"))
