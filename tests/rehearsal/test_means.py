"""The means by which an attempt is ended, and how their moments are chosen."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from signs_dist.rehearsal.attempts import START_SECONDS, Attempt
from signs_dist.rehearsal.means import MEANS, KillInSave, NoKill, SendSignal, choose_kill
from signs_dist.rehearsal.save_stages import STAGES_OF_EVERY_SAVE
from signs_dist.run_folder.folder import RunFolder

TRAIN = ["--run-dir", "run"]


@pytest.mark.parametrize(
    ("name", "number", "is_for_all"),
    [
        ("KILL one rank", signal.SIGKILL, False),
        ("KILL all", signal.SIGKILL, True),
        ("TERM all", signal.SIGTERM, True),
        ("USR2 one rank", signal.SIGUSR2, False),
    ],
)
def test_a_signal_by_its_name(name: str, number: signal.Signals, is_for_all: bool) -> None:
    chosen = choose_kill(name, random.Random(0), first_step=10, num_steps=40, num_later_kills=1)
    assert isinstance(chosen, SendSignal)
    assert (chosen.number, chosen.is_for_all) == (number, is_for_all)


@pytest.mark.parametrize(
    ("first_step", "num_steps", "num_later_kills", "last_target"),
    [(0, 40, 0, 39), (0, 40, 2, 20), (30, 40, 0, 39), (30, 40, 3, 34), (38, 40, 5, 39), (40, 40, 0, 41), (0, 1, 0, 1)],
)
def test_the_moment_leaves_steps_for_later_kills(
    first_step: int, num_steps: int, num_later_kills: int, last_target: int
) -> None:
    where = {"first_step": first_step, "num_steps": num_steps, "num_later_kills": num_later_kills}
    choose = random.Random(0)
    signals = [choose_kill("TERM all", choose, **where) for _ in range(300)]
    steps = {one.step for one in signals if isinstance(one, SendSignal)}
    assert (min(steps), max(steps)) == (first_step + 1, last_target)
    saves = [choose_kill("KILL in a save", choose, **where) for _ in range(300)]
    numbers = {one.number for one in saves if isinstance(one, KillInSave)}
    assert numbers == set(range(1, max(1, (last_target - first_step) // 3) + 1))
    assert {one.stage for one in saves if isinstance(one, KillInSave)} == set(STAGES_OF_EVERY_SAVE)


def test_some_signals_come_at_the_start() -> None:
    choose = random.Random(0)
    chosen = [choose_kill("TERM all", choose, first_step=0, num_steps=40, num_later_kills=0) for _ in range(1000)]
    patience = [one.patience_seconds for one in chosen if isinstance(one, SendSignal)]
    early = [seconds for seconds in patience if seconds < START_SECONDS]
    assert 100 < len(early) < 200
    assert 0.5 <= min(early) <= max(early) <= 5


def test_what_is_started() -> None:
    killed_file = Path("/m")
    assert NoKill().program(TRAIN, killed_file) == ("signs_dist.train", TRAIN)
    assert SendSignal(signal.SIGTERM, True, 1, 1).program(TRAIN, killed_file) == ("signs_dist.train", TRAIN)
    assert KillInSave("open", 2).program(TRAIN, killed_file) == (
        "signs_dist.rehearsal.kill_in_save",
        ["open", "2", "/m", "signs_dist.train", "--run-dir", "run"],
    )


def started_attempt(tmp_path: Path, code: str) -> Attempt:
    process = subprocess.Popen([sys.executable, "-c", code])
    return Attempt(process, RunFolder(tmp_path / "run"), tmp_path / "output", tmp_path / "killed_file", 0)


SLEEP = "import time; time.sleep(60)"


def test_a_signal_ends_an_attempt(tmp_path: Path) -> None:
    attempt = started_attempt(tmp_path, SLEEP)
    told = SendSignal(signal.SIGTERM, is_for_all=True, step=9, patience_seconds=0).end(attempt, random.Random(0))
    assert told == "TERM to all processes"
    assert attempt.process.wait() == -signal.SIGTERM
    assert attempt.killed_file.exists()


def test_a_signal_to_one_rank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attempt = started_attempt(tmp_path, SLEEP)
    monkeypatch.setattr(Attempt, "rank_process_ids", lambda self: {3: self.process.pid})
    told = SendSignal(signal.SIGKILL, is_for_all=False, step=9, patience_seconds=0).end(attempt, random.Random(0))
    assert told == "KILL to rank 3"
    assert attempt.process.wait() == -signal.SIGKILL


def test_an_attempt_that_ends_before_the_signal_is_not_marked_as_killed(tmp_path: Path) -> None:
    attempt = started_attempt(tmp_path, "")
    told = SendSignal(signal.SIGTERM, is_for_all=True, step=9, patience_seconds=60).end(attempt, random.Random(0))
    assert told == "ended by itself"
    assert attempt.process.wait() == 0
    assert not attempt.killed_file.exists()


def test_without_a_kill_an_attempt_is_waited_for(tmp_path: Path) -> None:
    attempt = started_attempt(tmp_path, "")
    assert NoKill().end(attempt, random.Random(0)) == "finished"
    assert attempt.has_ended
    attempt = started_attempt(tmp_path, "")
    assert KillInSave("flushed", 2).end(attempt, random.Random(0)) == "KILL in save 2 (flushed)"
    assert attempt.has_ended


def test_all_names_can_be_chosen() -> None:
    for name in MEANS:
        assert choose_kill(name, random.Random(0), first_step=0, num_steps=9, num_later_kills=0)
