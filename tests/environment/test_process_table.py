"""The processes of this machine, by their ids."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from signs_dist.environment.process_table import (
    describe_process,
    find_descendants,
    is_alive,
    kill_tree,
    process_state,
    read_birth,
    read_held_bytes,
)
from tests.processes import wait_until


def test_states_of_processes() -> None:
    process = subprocess.Popen(["sleep", "60"])
    try:
        assert process_state(process.pid) == "running"
        os.kill(process.pid, signal.SIGSTOP)
        wait_until(lambda: process_state(process.pid) == "stopped")
        assert describe_process(process.pid) == (
            f"process {process.pid} (stopped by SIGSTOP; kill -CONT lets it go on)"
        )
    finally:
        process.kill()
        wait_until(lambda: process_state(process.pid) == "gone")  # a zombie is gone too
        assert describe_process(process.pid) == f"process {process.pid} (ended)"
        process.wait()
    assert process_state(process.pid) == "gone"
    assert process_state(10**1000) == "gone"
    assert describe_process(process.pid) == f"process {process.pid} (gone)"


def test_a_process_is_known_by_its_number_and_its_birth() -> None:
    own, birth = os.getpid(), read_birth(os.getpid())
    assert birth.isdigit()
    assert is_alive(own, birth)
    assert not is_alive(own, "1")  # the number, used again
    with subprocess.Popen(["true"]) as process:
        process.wait()
    assert read_birth(process.pid) == ""
    assert not is_alive(process.pid, birth)


def test_a_tree_is_killed_to_its_leaves() -> None:
    shell = "setsid sleep 60 & sleep 60 & echo ready; wait"
    process = subprocess.Popen(["sh", "-c", shell], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    descendants = find_descendants(process.pid)
    assert len(descendants) == 2
    kill_tree(process.pid)
    assert process.wait(timeout=10) == -signal.SIGKILL
    process.stdout.close()
    wait_until(lambda: all(process_state(pid) == "gone" for pid in descendants))
    kill_tree(process.pid)  # nothing is left to kill


def test_memory_is_that_of_a_process_and_all_its_descendants() -> None:
    child = "import sys; held = bytearray(b'x' * 60_000_000); print('ready', flush=True); sys.stdin.read()"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-S', '-c', {child!r}])"
    process = subprocess.Popen([sys.executable, "-S", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    (descendant,) = find_descendants(process.pid)
    assert 60_000_000 < read_held_bytes(descendant) < read_held_bytes(process.pid) < 200_000_000
    process.communicate()
    assert read_held_bytes(process.pid) == 0


def test_a_process_whose_birth_is_hidden_counts_as_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    """/proc may hide the processes of other users (hidepid), and kill(2) still tells that there is one."""
    monkeypatch.setattr("signs_dist.environment.process_table.read_birth", lambda pid: "")
    assert is_alive(os.getpid(), "12345")
