"""The benchmark of shares: what it counts, what it makes of that, and one small run."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from benchmarks.shares import COLUMNS, shares_of, to_line
from benchmarks.shares_rank import BESIDE, TIMED, Timers, find
from tests.processes import environment
from tests.sets import write_colour_set
from tests.test_layers import REPOSITORY

RANKS = [
    {
        "saving": 0.1,
        "logging": 0.02,
        "evaluating": 1.0,
        "training": 10.0,
        "heartbeat": 0.1,
        "writing": 0.5,
        "on cores": 9,
    },
    {
        "saving": 5.0,
        "logging": 5.0,
        "evaluating": 5.0,
        "training": 10.0,
        "heartbeat": 0.1,
        "writing": 0.0,
        "on cores": 11,
    },
]


def test_the_shares_of_a_run() -> None:
    shares = shares_of(RANKS)
    assert shares == pytest.approx(
        {"saving": 0.01, "logging": 0.002, "evaluating": 0.1, "heartbeat": 0.01, "writing": 0.025, "together": 0.022}
    )
    row = "        2     10.0 s       1.00%       0.20%       1.00%       2.20%      10.00%       2.50%"
    assert to_line(2, 10.0, shares) == row


def test_all_columns_are_known() -> None:
    assert set(COLUMNS) - {"together"} == {*TIMED, *BESIDE} - {"training"}


@pytest.mark.parametrize("name", [name for names in (*TIMED.values(), *BESIDE.values()) for name in names])
def test_what_is_timed_exists(name: str) -> None:
    holder, attribute = find(name)
    assert callable(getattr(holder, attribute))


def test_the_outer_of_two_counts() -> None:
    now = iter(range(100))
    timers = Timers(lambda: float(next(now)))
    write = timers.timed("logging", lambda: None)
    save = timers.timed("saving", write)
    train = timers.timed("training", lambda: (save(), write()))
    train()
    assert timers.seconds["saving"] == 1.0
    assert timers.seconds["logging"] == 1.0
    assert timers.seconds["training"] == 5.0  # six readings of the clock


def test_other_threads_do_not_count_as_waits() -> None:
    timers = Timers()
    thread = threading.Thread(target=timers.timed("logging", lambda: sum(range(1000))))
    thread.start()
    thread.join()
    assert timers.seconds["logging"] == 0.0
    timers.on_core("heartbeat", lambda: sum(range(100_000)))()
    assert timers.seconds["heartbeat"] > 0.0


@pytest.mark.slow
@pytest.mark.cold
def test_a_small_run(tmp_path: Path) -> None:
    photos = write_colour_set(tmp_path / "photos", counts={"train": 22, "val": 4}, size=16)
    small = ["data.image_size=16", "model.name=mlp", "train.global_batch=16", f"data.root={photos}"]
    flags = ["--config", str(REPOSITORY / "configs/signs.yaml"), "--processes", "1", "--rounds", "1", "--epochs", "1"]
    command = [sys.executable, str(REPOSITORY / "benchmarks/shares.py"), *flags, *small, "train.progressive_sizes=[]"]
    ended = subprocess.run(command, env=environment(), cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr + ended.stdout
    assert re.search(r"^ +1 +[\d.]+ s( +[\d.]+%){6}$", ended.stdout, re.MULTILINE), ended.stdout
