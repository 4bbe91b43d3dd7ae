"""The heartbeat: what it writes, and how it ends a stuck process."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launch.follow import find_work
from signs_dist.environment.process_table import process_state
from signs_dist.monitoring.beats import Identity, Work, beat_path, read_beats
from signs_dist.monitoring.heartbeat import Heartbeat
from signs_dist.monitoring.pulse import Pulse
from tests.processes import environment, wait_until


def identity(rank: int = 0, *, pid: int = 1, host: str = "here", log: str = "") -> Identity:
    return Identity(rank, 3, host, pid, "cpu", log)


def test_a_beat_says_what_the_process_does(tmp_path: Path) -> None:
    pulse = Pulse()
    heartbeat = Heartbeat(tmp_path, identity(1), pulse, stall_seconds=60, end_with=3, interval_seconds=0.02)
    heartbeat.start()
    pulse.enter("forward", epoch=2, step=5)
    wait_until(lambda: 1 in read_beats(tmp_path) and read_beats(tmp_path)[1].phase == "forward")
    pulse.enter("sum gradients", collective=True)
    wait_until(lambda: read_beats(tmp_path)[1].collective)
    beat = read_beats(tmp_path)[1]
    assert (beat.place, beat.identity) == ("sum gradients, epoch 2 step 5", identity(1))
    assert abs(beat.time - time.time()) < 5
    heartbeat.stop()
    assert list(tmp_path.iterdir()) == []


def test_a_beat_says_what_its_bar_shows(tmp_path: Path) -> None:
    work = Work("training", 7, 10, "loss 1.0")
    heartbeat = Heartbeat(tmp_path, identity(0), Pulse(), stall_seconds=60, end_with=3, find_work=lambda: work)
    heartbeat.start()
    wait_until(lambda: 0 in read_beats(tmp_path))
    assert read_beats(tmp_path)[0].work == work
    assert find_work(tmp_path) == work
    heartbeat.stop(keep_beat=True)
    path = beat_path(tmp_path, 0)
    old = dataclasses.replace(read_beats(tmp_path)[0], time=time.time() - 40)
    path.write_text(old.to_json())  # of an attempt that was killed
    assert find_work(tmp_path) is None
    path.write_text(dataclasses.replace(old, time=time.time()).to_json().replace("numbers", "other"))
    assert find_work(tmp_path) is None  # of another version
    path.unlink()
    assert find_work(tmp_path) is None


def test_a_process_that_was_stopped_has_not_stalled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after Ctrl-Z and fg: the time between is neither training nor a stall."""
    now = [1000.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    log = tmp_path / "rank0.log"
    heartbeat = Heartbeat(tmp_path, identity(log=str(log)), Pulse(), stall_seconds=60, end_with=3)
    for now[0] in (1000.0, 1000.5, 5000.0, 5000.5):
        heartbeat._beat()
    assert not log.exists()
    assert read_beats(tmp_path)[0].progress_time == pytest.approx(4999.5)
    for now[0] in range(5001, 5065):  # type: ignore[assignment]
        heartbeat._beat()
    assert log.read_text().count("no progress for 60 s") == 1


def test_a_stall_leaves_the_stacks_in_the_log_once(tmp_path: Path) -> None:
    log = tmp_path / "rank0.log"
    log.write_text("before\n")
    pulse = Pulse()
    heartbeat = Heartbeat(tmp_path, identity(log=str(log)), pulse, stall_seconds=0.1, end_with=3, interval_seconds=0.02)
    heartbeat.start()
    pulse.enter("forward", epoch=1, step=4)
    wait_until(lambda: "no progress" in log.read_text())
    time.sleep(0.3)
    heartbeat.stop()
    text = log.read_text()
    assert text.startswith("before\n")
    assert text.count("no progress for 0 s, in forward, epoch 1 step 4") == 1
    assert "test_a_stall_leaves_the_stacks_in_the_log_once" in text  # the stack of this very thread


def test_a_full_disk_stops_nothing(tmp_path: Path) -> None:
    heartbeat = Heartbeat(tmp_path / "gone", identity(), Pulse(), stall_seconds=60, end_with=3, interval_seconds=0.02)
    heartbeat.start()
    wait_until(lambda: heartbeat.last_error is not None)
    (tmp_path / "gone").mkdir()  # there is room again
    wait_until(lambda: 0 in read_beats(tmp_path / "gone"))
    heartbeat.stop()


@pytest.mark.slow
def test_a_process_without_its_launcher_gets_sigterm_and_is_ended_after_a_while(tmp_path: Path) -> None:
    worker = (
        "import os, signal, sys, time\n"
        "from pathlib import Path\n"
        "from signs_dist.monitoring.heartbeat import *\n"
        "folder = Path(sys.argv[1])\n"
        "signal.signal(signal.SIGTERM, lambda *_: (folder / 'asked').touch())\n"
        "times = {'stall_seconds': 60, 'interval_seconds': 0.1, 'orphan_seconds': 1}\n"
        "me = Identity(0, 2, 'here', 1, 'cpu', str(folder / 'rank0.log'))\n"
        "Heartbeat(folder, me, Pulse(), end_with=3, launcher_pid=os.getppid(), **times).start()\n"
        "time.sleep(0.5)\n"
        "(folder / 'ready').touch()\n"
        "while True:\n"
        "    time.sleep(0.1)\n"
    )
    launcher = "import subprocess, sys; print(subprocess.Popen(sys.argv[1:]).pid, flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", launcher, sys.executable, "-c", worker, str(tmp_path)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(), start_new_session=True
    )
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    wait_until((tmp_path / "ready").exists)
    assert not (tmp_path / "asked").exists()
    process.kill()
    process.communicate()
    wait_until((tmp_path / "asked").exists)
    log = (tmp_path / "rank0.log").read_text()
    assert f"its launcher (process {process.pid}) is gone, and it stops as after SIGTERM" in log
    wait_until(lambda: process_state(pid) == "gone")


@pytest.mark.slow
def test_a_stuck_process_ends_when_another_has_failed(tmp_path: Path) -> None:
    program = (
        "import sys, time, multiprocessing\n"
        "from pathlib import Path\n"
        "from signs_dist.monitoring.heartbeat import *\n"
        "folder = Path(sys.argv[1])\n"
        "child = multiprocessing.get_context('fork').Process(target=time.sleep, args=(60,), daemon=True)\n"
        "child.start()\n"
        "me = Identity(0, 2, 'here', 1, 'cpu', str(folder / 'rank0.log'))\n"
        "times = {'stall_seconds': 60, 'grace_seconds': 0.5, 'interval_seconds': 0.1}\n"
        "Heartbeat(folder, me, Pulse(), end_with=3, attempt=2, **times).start()\n"
        "print(child.pid, flush=True)\n"
        "while True:\n"
        "    try:\n"
        "        time.sleep(0.1)\n"
        "    except BaseException:\n"
        "        pass\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment())
    assert process.stdout is not None
    child = int(process.stdout.readline())
    (tmp_path / "failed.1").touch()  # of the previous attempt, which NFS may still show
    time.sleep(1)
    assert process.poll() is None
    (tmp_path / "failed.2").touch()
    assert process.wait(timeout=10) == 3
    wait_until(lambda: process_state(child) == "gone")
    assert "another process failed, and this process did not end" in (tmp_path / "rank0.log").read_text()
    process.stdout.close()


def test_a_long_wait_for_another_process_is_told_once(tmp_path: Path) -> None:
    pulse, told = Pulse(), []
    heartbeat = Heartbeat(
        tmp_path,
        identity(0),
        pulse,
        stall_seconds=60,
        end_with=3,
        interval_seconds=0.02,
        notice_seconds=0.1,
        tell=told.append,
    )
    pulse.enter("load")
    heartbeat.start()
    time.sleep(0.3)
    assert told == []  # it works itself
    pulse.enter("backward", epoch=1, step=3, collective=True)
    pulse.is_told = True
    time.sleep(0.3)
    assert told == []  # the code that waits says it
    pulse.is_told = False
    wait_until(lambda: len(told) == 1)
    assert told[0].startswith("rank 0 waits for other processes: rank 1 has no heartbeat")
    time.sleep(0.2)
    assert len(told) == 1
    pulse.enter("backward", epoch=1, step=4, collective=True)
    wait_until(lambda: len(told) == 2)
    heartbeat.stop()
