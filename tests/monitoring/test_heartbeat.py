"""Heartbeats: what is written, what is read from it, and how a stuck process ends."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from launch.follow import find_work
from signs_dist.environment.process_table import process_state
from signs_dist.monitoring.beats import Beat, Identity, Work, beat_path, read_beats
from signs_dist.monitoring.heartbeat import Heartbeat
from signs_dist.monitoring.pulse import Pulse
from signs_dist.monitoring.standings import describe_standings, end_stopped, judge_processes
from tests.processes import environment


def identity(rank: int = 0, *, pid: int = 1, host: str = "here", log: str = "") -> Identity:
    return Identity(rank, 3, host, pid, "cpu", log)


def wait_until(condition: Callable[[], bool], timeout: float = 60) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


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


def test_what_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "rank0.beat").write_text("{half")
    (tmp_path / "rank1.beat").write_text('{"phase": "load"}')
    assert read_beats(tmp_path) == {}


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
def test_who_loses_its_launcher_is_asked_to_stop_and_ended_after_a_while(tmp_path: Path) -> None:
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
    assert f"its launcher (process {process.pid}) has gone" in (tmp_path / "rank0.log").read_text()
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
    (tmp_path / "failed.1").touch()  # of the attempt before, as another machine may still see it
    time.sleep(1)
    assert process.poll() is None
    (tmp_path / "failed.2").touch()
    assert process.wait(timeout=10) == 3
    wait_until(lambda: process_state(child) == "gone")
    assert "another process has failed, and this one did not end" in (tmp_path / "rank0.log").read_text()
    process.stdout.close()


def test_states_of_processes() -> None:
    process = subprocess.Popen(["sleep", "60"])
    try:
        assert process_state(process.pid) == "running"
        os.kill(process.pid, signal.SIGSTOP)
        wait_until(lambda: process_state(process.pid) == "stopped")
        # Stopped, but another program than this one: its number was used again.
        assert not end_stopped(identity(pid=process.pid), identity())
        assert not end_stopped(identity(pid=process.pid, host="elsewhere"), identity())
    finally:
        process.kill()
        wait_until(lambda: process_state(process.pid) == "gone")  # a zombie is gone too
        process.wait()
    assert process_state(process.pid) == "gone"


def beat(rank: int, *, phase: str = "backward", collective: bool = True, age: float = 0.0, host: str = "here") -> Beat:
    return Beat(identity(rank, pid=100 + rank, host=host), phase, 1, 17, collective, 1000 - age, 990)


@pytest.mark.parametrize(
    ("beats", "states", "have_lost", "lines"),
    [
        (
            [beat(0), beat(1, phase="forward", collective=False), beat(2)],
            {},
            (),
            [
                "rank 1 is in forward, epoch 1 step 17 for 10 s, not in a collective",
                "rank 0 waits in a collective (backward, epoch 1 step 17) for 10 s",
                "rank 2 waits in a collective (backward, epoch 1 step 17) for 10 s",
            ],
        ),
        (
            [beat(0), beat(1), beat(2)],
            {102: "gone", 101: "stopped"},
            (),
            [
                "rank 2 is gone (process 102 on here); last seen in backward, epoch 1 step 17",
                "rank 1 does not answer: process 101 on here is stopped; last seen in backward, epoch 1 step 17",
                "rank 0 waits in a collective (backward, epoch 1 step 17) for 10 s",
            ],
        ),
        (
            [beat(0), beat(2, host="there", age=12)],
            {102: "gone"},  # a number on another machine says nothing here
            (),
            [
                "rank 1 has no heartbeat: it never began to train, or has ended",
                "rank 2 does not answer: process 102 on there has not been heard of for 12 s; "
                "last seen in backward, epoch 1 step 17",
                "rank 0 waits in a collective (backward, epoch 1 step 17) for 10 s",
            ],
        ),
        (
            # Two have told of a loss and have ended, here and elsewhere: neither is the one that was lost.
            [beat(0, host="there", age=12), beat(1, phase="forward", collective=False), beat(2, collective=False)],
            {102: "gone"},
            (0, 2),
            [
                "rank 1 is in forward, epoch 1 step 17 for 10 s, not in a collective",
                "rank 0 waited in a collective (backward, epoch 1 step 17), and has lost another as well",
                "rank 2 was in backward, epoch 1 step 17, and has lost another as well",
            ],
        ),
        (
            [beat(0), beat(1, age=12), beat(2)],
            {},
            (0, 2),
            [
                "rank 1 does not answer: process 101 on here has not been heard of for 12 s; "
                "last seen in backward, epoch 1 step 17",
                "rank 0 waits in a collective (backward, epoch 1 step 17) for 10 s",
                "rank 2 waits in a collective (backward, epoch 1 step 17) for 10 s",
            ],
        ),
    ],
)
def test_who_waits_and_who_does_not(
    beats: list[Beat], states: dict[int, str], have_lost: tuple[int, ...], lines: list[str]
) -> None:
    standings = judge_processes(
        {one.identity.rank: one for one in beats},
        world_size=3,
        now=1000,
        host="here",
        state=lambda pid: states.get(pid, "running"),
        have_lost=have_lost,
    )
    assert describe_standings(standings) == lines


def test_many_waiting_ranks_are_summed_up() -> None:
    standings = judge_processes(
        {rank: beat(rank) for rank in range(1, 64)}, world_size=64, now=1000, host="here", state=lambda pid: "running"
    )
    lines = describe_standings(standings, most=3)
    assert lines[0].startswith("rank 0 has no heartbeat")
    assert lines[-1] == "and 61 more, of which 61 wait in a collective"


def test_where_beats_are(tmp_path: Path) -> None:
    assert beat_path(tmp_path, 3) == tmp_path / "rank3.beat"
