"""Processes of a loop that is not ours: by plain python, torchrun and srun."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import pytest
import torch

from signs_dist.data.plan import Shard
from signs_dist.distributed.connect import ConnectedProcesses, connect
from signs_dist.errors import UserError
from tests.processes import Ended, finish, program_command, run, run_ranks, started

PROGRAM = """
import os, sys, time, threading
from pathlib import Path
import torch
import torch.distributed
import signs_dist as sd

before = dict(os.environ), torch.get_num_threads(), torch.get_deterministic_debug_mode()
with sd.connect(exact=True) as processes:
    assert torch.distributed.is_initialized() == (processes.world_size > 1)
    # One text, one write: under torchrun the lines of both processes share a pipe without a buffer.
    where = f"{processes.rank} {processes.world_size} {processes.device} {processes.is_main} {processes.shard.index}"
    print(f"{where}\\n{processes.gather(processes.rank)} {processes.share(processes.rank + 7)}\\n", end="")
    if processes.rank == 0:
        time.sleep(1)  # as if it saved
        Path("saved").write_text("")
assert Path("saved").exists()  # all leave together
assert not torch.distributed.is_initialized()
assert before == (dict(os.environ), torch.get_num_threads(), torch.get_deterministic_debug_mode())
names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
assert not [name for name in names if "gloo" in name], names
"""
FAILING = """
import torch
import signs_dist as sd
with sd.connect() as processes:
    if processes.rank == 1:
        raise KeyError("broken")
    try:
        processes.gather(0)
    except RuntimeError:
        print("the other is gone")
        raise SystemExit(4)
"""


def said(rank: int, world_size: int) -> list[str]:
    return [f"{rank} {world_size} cpu {rank == 0} {rank}", f"{list(range(world_size))} 7"]


def lines(ended: Ended) -> list[str]:
    assert ended.code == 0, ended.err
    return ended.out.splitlines()


@pytest.mark.slow
def test_torchrun_and_plain_python(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    assert lines(run([sys.executable, "program.py"], tmp_path)) == said(0, 1)
    (tmp_path / "saved").unlink()
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    assert sorted(lines(run([*launcher, "program.py"], tmp_path))) == sorted(said(0, 2) + said(1, 2))


@pytest.mark.slow
def test_tasks_of_srun(tmp_path: Path) -> None:
    step = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_STEP_ID": "0", "SLURM_NODEID": "0", "SLURM_NNODES": "1"}
    step |= {"SLURM_NTASKS": "2", "SLURM_TASKS_PER_NODE": "2", "SLURM_STEP_NODELIST": "localhost"}
    with contextlib.ExitStack() as stack:
        tasks = [
            stack.enter_context(
                started(
                    program_command(tmp_path, PROGRAM),
                    tmp_path,
                    step | {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)},
                )
            )
            for rank in range(2)
        ]
        ended = [finish(task) for task in tasks]
    assert [lines(one) for one in ended] == [said(0, 2), said(1, 2)]


@pytest.mark.slow
def test_an_error_in_one_process_ends_the_others(tmp_path: Path) -> None:
    first, second = run_ranks(2, program_command(tmp_path, FAILING), tmp_path)
    assert (first.code, first.out.strip()) == (4, "the other is gone"), first.err
    assert second.code == 1
    assert "KeyError: 'broken'" in second.err


def test_one_process_is_alone() -> None:
    with connect() as processes:
        assert processes == ConnectedProcesses(0, 1, torch.device("cpu"), is_exact=False, group=None)
        assert (processes.shard, processes.is_main) == (Shard(0, 1), True)
        assert processes.gather("a") == ["a"]
        assert processes.share("a") == "a"


def test_exact_mode_uses_one_thread_and_otherwise_as_many_as_are_asked_for() -> None:
    before = torch.get_num_threads()
    with connect(exact=True):
        assert torch.get_num_threads() == 1
        assert torch.get_deterministic_debug_mode() == 2
    with connect(num_threads=2):
        assert torch.get_num_threads() == 2
        assert torch.get_deterministic_debug_mode() == 0
    with connect(exact=True, num_threads=2):
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == before
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(UserError, match=r"num_threads=0: type 1 or more, or None"), connect(num_threads=0):
        pass
    with pytest.raises(UserError, match='device="tpu"'), connect(device="tpu"):
        pass
