"""Standings: which process holds up the others."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from signs_dist.environment.process_table import process_state
from signs_dist.monitoring.beats import Beat, Identity
from signs_dist.monitoring.standings import Standing, describe_standings, describe_wait, end_stopped, judge_processes
from tests.processes import environment, wait_until


def identity(rank: int = 0, *, pid: int = 1, host: str = "here") -> Identity:
    return Identity(rank, 3, host, pid, "cpu", "")


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
                "rank 1 has no heartbeat: it never began to train, or it has ended",
                "rank 2 does not answer: process 102 on there wrote no heartbeat for 12 s; "
                "last seen in backward, epoch 1 step 17",
                "rank 0 waits in a collective (backward, epoch 1 step 17) for 10 s",
            ],
        ),
        (
            # Two reported a loss and have ended, here and on another machine: neither is the lost process.
            [beat(0, host="there", age=12), beat(1, phase="forward", collective=False), beat(2, collective=False)],
            {102: "gone"},
            (0, 2),
            [
                "rank 1 is in forward, epoch 1 step 17 for 10 s, not in a collective",
                "rank 0 waited in a collective (backward, epoch 1 step 17), and lost another process too",
                "rank 2 was in backward, epoch 1 step 17, and lost another process too",
            ],
        ),
        (
            [beat(0), beat(1, age=12), beat(2)],
            {},
            (0, 2),
            [
                "rank 1 does not answer: process 101 on here wrote no heartbeat for 12 s; "
                "last seen in backward, epoch 1 step 17",
                "rank 0 waits in a collective (backward, epoch 1 step 17) for 10 s",
                "rank 2 waits in a collective (backward, epoch 1 step 17) for 10 s",
            ],
        ),
    ],
)
def test_which_processes_wait(
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


def test_a_process_that_runs_or_is_another_program_is_not_killed() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        pid = process.pid
        try:
            assert not end_stopped(identity(pid=pid), identity())
            process.send_signal(signal.SIGSTOP)
            wait_until(lambda: process_state(pid) == "stopped")
            # Stopped, but another program than this one: its number was used again.
            assert not end_stopped(identity(pid=pid), identity())
            assert not end_stopped(identity(pid=pid, host="elsewhere"), identity())
            assert process_state(pid) == "stopped"
        finally:
            process.kill()


STOPS_ITS_TWIN = """
import os, signal, time
from signs_dist.monitoring.beats import Identity
from signs_dist.monitoring.standings import end_stopped
child = os.fork()
if child == 0:
    os.kill(os.getpid(), signal.SIGSTOP)
os.waitpid(child, os.WUNTRACED)
own, other = (Identity(rank, 2, "here", pid, "cpu", "") for rank, pid in enumerate((os.getpid(), child)))
print(end_stopped(other, own), os.WTERMSIG(os.waitpid(child, 0)[1]))
"""


def test_a_stopped_process_of_the_same_program_is_killed() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", STOPS_ITS_TWIN], capture_output=True, text=True, timeout=60, env=environment()
    )
    assert ended.stdout == f"True {signal.SIGKILL.value}\n", ended.stderr


@pytest.mark.parametrize(
    ("kinds", "rank", "expected"),
    [
        (["busy", "waiting", "waiting"], 1, "rank 1 waits for other processes: rank 0 busy"),
        (["busy", "waiting", "waiting"], 2, ""),  # rank 1 says it
        (["waiting", "gone", "silent"], 0, "rank 0 waits for other processes: rank 1 gone; rank 2 silent"),
        (["waiting", "waiting", "waiting"], 0, ""),
    ],
)
def test_one_process_says_for_whom_all_wait(kinds: list[str], rank: int, expected: str) -> None:
    standings = [Standing(number, kind, f"rank {number} {kind}") for number, kind in enumerate(kinds)]
    assert describe_wait(standings, rank) == expected
