"""A loader that gives nothing says what it waits for, and ends; a worker that fails is named with the reason."""

from __future__ import annotations

import dataclasses
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import Dataset

from signs_dist.data import loader_wait
from signs_dist.data.loader import LoaderSettings, TrainLoader, explain_start
from signs_dist.data.loader_wait import describe_end, describe_workers, explain_failure
from signs_dist.data.plan import EpochPlan, Shard
from signs_dist.errors import LoadingError, UserError
from signs_dist.monitoring import waiting
from signs_dist.monitoring.waiting import WaitWatcher
from tests.processes import wait_until

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
]


@dataclasses.dataclass
class _Doing(Dataset[Any]):
    """Calls an action for the second batch."""

    action: Callable[[], None]

    def __getitem__(self, key: Any) -> Any:
        if key.step == 1:
            self.action()
        return torch.zeros(len(key.samples))

    def __len__(self) -> int:
        return 12


def _batches(action: Callable[[], None], *, num_workers: int, seconds: float = 60.0) -> TrainLoader:
    settings = LoaderSettings(num_workers, prefetch=1, pin_memory=False, timeout_seconds=seconds)
    return TrainLoader(_Doing(action), EpochPlan(12, 4, 0), Shard(), settings)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What waits of 0.1 s and more say."""
    lines: list[str] = []
    monkeypatch.setattr(loader_wait, "WaitWatcher", lambda: WaitWatcher(lines.append, notice_seconds=0.1))
    return lines


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_long_wait_is_told_with_what_it_waits_for(num_workers: int, told: list[str]) -> None:
    loader = _batches(lambda: time.sleep(0.6), num_workers=num_workers)
    batches = list(loader.epoch(4))  # slow is no error
    loader.close()
    assert len(batches) == 3
    # A worker's first batch may take as long as this too, on a busy machine.
    line = next(line for line in told if "epoch 5, step 2" in line)
    assert line.startswith("rank 0 waits for the images of epoch 5, step 2: ")
    by = "loader workers: process " if num_workers else "this process reads and decodes them; "
    assert f"step 2: {by}" in line
    assert "after data.timeout_seconds=60 it ends" in line


def test_a_worker_that_hangs_ends_the_wait() -> None:
    loader = _batches(lambda: time.sleep(3), num_workers=1, seconds=1)
    reason = r"no batch came within data.timeout_seconds=1 s; loader workers: process \d"
    with pytest.raises(LoadingError, match=reason):
        list(loader.epoch(0))
    loader.close()


def test_a_read_that_hangs_in_this_process_is_reported_by_another_thread(told: list[str]) -> None:
    stuck: list[LoadingError] = []
    done = threading.Event()
    loader = _batches(lambda: wait_until(done.is_set), num_workers=0, seconds=0.2)

    def end(error: LoadingError) -> None:
        stuck.append(error)
        if "step 2" in str(error):  # on a busy machine the first batch is late too
            done.set()  # a run ends its process here

    loader.on_stuck = end
    assert len(list(loader.epoch(0))) == 3
    text = next(str(error) for error in stuck if "step 2" in str(error))
    assert text.startswith("rank 0 waited ")
    assert "s for the images of epoch 1, step 2: this process reads and decodes them" in text
    assert "larger data.timeout_seconds (it is 0.2)" in text


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGBUS])
def test_a_killed_worker_is_named_with_its_signal(number: signal.Signals) -> None:
    loader = _batches(lambda: os.kill(os.getpid(), number), num_workers=1)
    with pytest.raises(LoadingError, match=rf"loader worker \d+ was ended by signal {int(number)} \({number.name}\)"):
        list(loader.epoch(0))
    loader.close()


def test_a_worker_that_exits_is_named_with_its_code() -> None:
    loader = _batches(lambda: os._exit(7), num_workers=1)
    with pytest.raises(LoadingError, match=r"loader worker \d+ ended with exit code 7"):
        list(loader.epoch(0))
    loader.close()


@pytest.fixture
def _long_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))


@pytest.mark.usefixtures("_long_temporary_folder")
def test_a_batch_that_cannot_be_sent_is_an_error_and_no_endless_wait() -> None:
    loader = _batches(lambda: None, num_workers=1)
    with pytest.raises(LoadingError, match="could not send a batch: OSError: AF_UNIX path too long"):
        list(loader.epoch(0))
    loader.close()


@dataclasses.dataclass
class _Ended:
    pid: int
    exitcode: int | None


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (1, "loader worker 5 ended with exit code 1"),
        (-9, "signal 9 (SIGKILL): most often memory ran out"),
        (-7, "signal 7 (SIGBUS): shared memory (/dev/shm) is full"),
        (-11, "loader worker 5 was ended by signal 11 (SIGSEGV)"),
        (-25, "signal 25 (SIGXFSZ): the size of files is limited"),
        (-200, "signal 200 (unknown)"),
    ],
)
def test_how_a_worker_ended(code: int, text: str) -> None:
    assert text in describe_end(_Ended(5, code))


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("DataLoader timed out after 3 seconds", "no batch came within data.timeout_seconds=3 s"),
        ("Too many open files. Communication with the workers is no longer possible", "Type ulimit -n 4096"),
        ("DataLoader worker (pid(s) 5) exited unexpectedly", "loader worker 5 was ended by signal 9"),
        ("mat1 and mat2 shapes cannot be multiplied", None),
    ],
)
def test_what_torch_says_of_its_workers(message: str, expected: str | None) -> None:
    explained = explain_failure(RuntimeError(message), [_Ended(5, -9), _Ended(6, None)], 3)
    assert explained is None if expected is None else expected in str(explained)


def test_a_worker_that_has_ended_unseen_leaves_torchs_words() -> None:
    explained = explain_failure(RuntimeError("DataLoader worker (pid 5) is killed by signal: Killed."), [], 3)
    assert "is killed by signal" in str(explained)


def test_many_workers_are_cut_short() -> None:
    text = describe_workers([os.getpid()] * 50)
    assert text.count("process ") == loader_wait.MOST_SHOWN
    assert text.endswith(" …")


def test_workers_that_the_system_does_not_start_name_the_limits() -> None:
    error = explain_start(BlockingIOError(11, "Resource temporarily unavailable"), 4)
    assert isinstance(error, UserError)
    assert "cannot start 4 loader workers: Resource temporarily unavailable" in str(error)
    assert "processes -u" in str(error)


def test_the_first_notice_comes_within_15_seconds() -> None:
    assert waiting.NOTICE_SECONDS + waiting.POLL_SECONDS < 15
