"""Killed workers lead to a restart from the newest checkpoint, with as many processes or fewer, by itself."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from signs_dist.environment.process_table import kill_tree
from tests.end_to_end.test_resume_runs import assert_same, launch, lines, settings
from tests.end_to_end.test_resume_runs import colours as colours
from tests.end_to_end.test_resume_runs import whole as whole
from tests.processes import finish, free_port, run, started, torchrun_command, wait_for

pytestmark = pytest.mark.slow


def test_a_killed_worker_is_started_again_and_goes_on(colours: Path, whole: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "launch.local", "--nproc", "2", "--max-restarts", "1", "--", *settings(colours)]
    with started(command, tmp_path) as process:
        deadline = time.monotonic() + 60
        while not (found := list(tmp_path.glob("runs/*/metrics.jsonl"))):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        folder = found[0].parent  # without --run-dir: it is found again by the launch's own name
        wait_for(folder / "metrics.jsonl", '"step": 14,')
        wait_for(folder / "logs" / "rank1.beat", '"rank": 1')
        os.kill(json.loads((folder / "logs" / "rank1.beat").read_text())["identity"]["pid"], signal.SIGKILL)
        ended = finish(process)
    assert ended.code == 0, ended.out + ended.err
    assert "rank 1 of 2 was killed" in ended.err
    assert "attempt 2 resumes after epoch " in ended.out
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [folder.name]
    assert_same(folder, whole)
    attempts = lines(folder / "attempts.jsonl")
    assert [line["restart"] for line in attempts if line["event"] == "start"] == [0, 1]
    assert attempts[1]["reason"].startswith("rank 1 of 2: process ")


def agent_command(patience: str, *arguments: str) -> list[str]:
    """torchrun with one process, as on one of two machines; a late-comer is waited for 5 s."""
    rendezvous = ["--nnodes=1:2", "--nproc-per-node=1", "--max-restarts=3", "--rdzv-backend=c10d", "--rdzv-id=elastic"]
    host = [f"--rdzv-endpoint=127.0.0.1:{free_port()}", f"--rdzv-conf=last_call_timeout=5{patience}"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", *rendezvous, *host]
    return [*torchrun, "-m", "signs_dist.train", "--run-dir", "run", *arguments]


def world_sizes(run: Path) -> list[int]:
    return [line["world_size"] for line in lines(run / "attempts.jsonl") if line["event"] == "start"]


def test_when_a_machine_is_gone_the_others_go_on(colours: Path, whole: Path, tmp_path: Path) -> None:
    # Found dead after 2 s rather than 15 s.
    command = agent_command(",keep_alive_interval=1,keep_alive_max_attempt=2", *settings(colours))
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(started(command, tmp_path))
        time.sleep(1)  # the first serves the rendezvous
        second = stack.enter_context(started(command, tmp_path))
        wait_for(tmp_path / "run" / "metrics.jsonl", '"step": 9,')
        kill_tree(second.pid)
        ended = finish(first)
    assert ended.code == 0, ended.out + ended.err
    assert_same(tmp_path / "run", whole)
    assert (world_sizes(tmp_path / "run")[0], world_sizes(tmp_path / "run")[-1]) == (2, 1)


def test_a_machine_that_comes_later_is_taken_up(colours: Path, whole: Path, tmp_path: Path) -> None:
    command = agent_command("", *settings(colours))
    # Without this variable torch 2.14 uses the store of the previous rendezvous again, and waits for ever.
    variables = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(started(command, tmp_path, variables))
        wait_for(tmp_path / "run" / "metrics.jsonl", '"step": 5,')
        wait_for(tmp_path / "run" / "logs" / "rank0.beat", '"rank": 0')
        worker = json.loads((tmp_path / "run" / "logs" / "rank0.beat").read_text())["identity"]["pid"]
        os.kill(worker, signal.SIGSTOP)  # it is not to finish before the other has come
        second = stack.enter_context(started(command, tmp_path, variables))
        try:
            await_pending(worker, signal.SIGTERM)
        finally:
            os.kill(worker, signal.SIGCONT)
        ended, other = finish(first), finish(second)
    assert (ended.code, other.code) == (0, 0), ended.out + ended.err + other.err
    assert_same(tmp_path / "run", whole)
    assert world_sizes(tmp_path / "run") == [1, 2]


def await_pending(pid: int, number: signal.Signals) -> None:
    """Wait until a stopped process has been sent a signal."""
    deadline = time.monotonic() + 120
    while True:
        status = Path(f"/proc/{pid}/status").read_text()
        pending = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("ShdPnd:"))
        if pending >> (number - 1) & 1:
            return
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_without_a_name_that_lasts_the_folder_is_asked_for(colours: Path, tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=1", "--max-restarts=1"]
    own_port = ["--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0"]
    ended = run([*torchrun, *own_port, "-m", "signs_dist.train", *settings(colours)], tmp_path)
    assert ended.code == 1
    assert "and a restart must find the run folder: add --run-dir." in (ended.err)


def test_saved_on_four_processes_goes_on_on_one_two_and_three(colours: Path, whole: Path, tmp_path: Path) -> None:
    import shutil

    arguments = ["--run-dir", "run", *settings(colours)]
    with started(launch(4, *arguments), tmp_path) as process:
        wait_for(tmp_path / "run" / "metrics.jsonl", '"step": 17,')
        process.send_signal(signal.SIGTERM)
        assert finish(process).code == 75
    for world_size in (1, 2, 3):
        folder = tmp_path / str(world_size)
        folder.mkdir()
        shutil.copytree(tmp_path / "run", folder / "run")
        ended = run(launch(world_size, *arguments), folder)
        assert ended.code == 0, ended.err
        assert_same(folder / "run", whole)
        assert [line["world_size"] for line in lines(folder / "run" / "attempts.jsonl")[::2]] == [4, world_size]


@pytest.mark.cold
def test_torchrun_and_plain_python_go_on_with_the_same_run(colours: Path, whole: Path, tmp_path: Path) -> None:
    arguments = ["--run-dir", "run", *settings(colours)]
    with started(torchrun_command(3, *arguments), tmp_path) as process:
        wait_for(tmp_path / "run" / "metrics.jsonl", '"step": 11,')
        os.killpg(process.pid, signal.SIGTERM)  # torchrun alone: its workers have sessions of their own
        ended = finish(process, timeout=40)
    assert ended.seconds < 25
    assert lines(tmp_path / "run" / "attempts.jsonl")[-1]["reason"].startswith("stopped by SIGTERM after epoch ")
    assert run(launch(1, *arguments), tmp_path).code == 0
    assert_same(tmp_path / "run", whole)
