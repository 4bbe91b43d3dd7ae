"""A started attempt, seen from outside."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from signs_dist.environment.process_table import kill_tree, read_birth
from signs_dist.errors import TrainingFailedError
from signs_dist.rehearsal import attempts
from signs_dist.rehearsal.attempts import Attempt, last_saved_step, last_step, num_starts
from signs_dist.run_folder.folder import RunFolder
from tests.lines import end_line, save_line, start_line, step_line

CHILD_AND_PARENT = (
    "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])"
)


@pytest.fixture
def sleeping(tmp_path: Path) -> Iterator[Attempt]:
    """An attempt whose processes sleep, the second of its run."""
    folder = RunFolder(tmp_path / "run").create()
    folder.add(start_line())
    output = tmp_path / "output"
    output.write_text("".join(f"line {number}\n" for number in range(1, 51)))
    process = subprocess.Popen([sys.executable, "-c", f"{CHILD_AND_PARENT}; time.sleep(60)"])
    yield Attempt(process, folder, output, tmp_path / "killed_file", num_starts(folder))
    kill_tree(process.pid)
    process.wait()


def test_a_step_counts_when_this_attempt_has_started(sleeping: Attempt) -> None:
    folder = sleeping.folder
    folder.add(step_line(3))
    assert not sleeping.has_done(3)  # it was the attempt before
    folder.add(end_line())
    assert not sleeping.has_done(3)
    folder.add(start_line())
    assert sleeping.has_done(3)
    assert not sleeping.has_done(4)


def test_how_far_a_run_is(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path).create()
    assert (num_starts(folder), last_step(folder), last_saved_step(folder)) == (0, 0, 0)
    for line in (step_line(1), save_line(1), step_line(2)):
        folder.add(line)
    assert (last_step(folder), last_saved_step(folder)) == (2, 1)


def test_ranks_are_known_by_their_heartbeats(sleeping: Attempt, monkeypatch: pytest.MonkeyPatch) -> None:
    sleeping.wait_until(lambda: len(sleeping.process_ids()) == 2, 30)
    launcher, worker = sleeping.process_ids()
    assert launcher == sleeping.process.pid
    assert sleeping.rank_process_ids() == {}
    beats = {0: _Beat(worker), 1: _Beat(1)}  # process 1 is not of this attempt
    monkeypatch.setattr(attempts, "read_beats", lambda logs: beats)
    assert sleeping.rank_process_ids() == {0: worker}
    assert read_birth(worker)


class _Beat:
    def __init__(self, pid: int) -> None:
        self.identity = self
        self.pid = pid


def test_an_attempt_that_does_nothing_is_not_waited_for(sleeping: Attempt, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TrainingFailedError, match=r"nothing happened for 0 s\. The processes printed:\nline 21\n"):
        sleeping.wait_until(lambda: False, 0.1)
    monkeypatch.setattr(attempts, "START_SECONDS", 0.1)
    with pytest.raises(TrainingFailedError, match=r"printed:\nline 21\n(.*\n)*line 50$"):
        sleeping.wait_for_end()


def test_an_attempt_that_goes_on_is_waited_for(sleeping: Attempt, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = iter(range(1, 100))
    monkeypatch.setattr(attempts, "START_SECONDS", 0.05)

    def next_step(folder: RunFolder) -> int:
        step = next(steps)
        if step == 20:
            kill_tree(sleeping.process.pid)
        return step

    monkeypatch.setattr(attempts, "last_step", next_step)
    sleeping.wait_for_end()
    assert sleeping.has_ended
    assert next(steps) > 20
