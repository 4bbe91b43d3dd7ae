"""Worker processes: how many, in which order, and how they end."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from signs_dist.data import workers
from signs_dist.environment import cores
from signs_dist.errors import UserError
from signs_dist.monitoring.signals import CommandSignals
from tests.processes import wait_until


def _processes(_: object, items: Sequence[int]) -> list[tuple[int, int]]:
    return [(item, os.getpid()) for item in items]


def _die(_: object, items: object) -> list[int]:
    os.kill(os.getpid(), signal.SIGKILL)
    return []


def _blocked(_: object, items: object) -> list[set[int]]:
    return [set(signal.pthread_sigmask(signal.SIG_BLOCK, [])) - {signal.SIGTERM}]


def _sleep_long(folder: Path, items: Sequence[int]) -> list[int]:
    (folder / str(os.getpid())).touch()
    time.sleep(60 if items[0] else 0)
    return [1]


class _Nothing:
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


@dataclasses.dataclass(frozen=True)
class _Folder:
    path: Path

    def __call__(self) -> contextlib.AbstractContextManager[Path]:
        return contextlib.nullcontext(self.path)


def test_workers_leave_signals_to_their_parent() -> None:
    batches = list(workers.run_batches(_blocked, list(range(100)), resource=_Nothing, processes=2))
    assert batches == [[{signal.SIGINT, signal.SIGHUP, signal.SIGUSR2, signal.SIGXCPU}]] * 7
    assert _blocked(None, None) == [set()]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_workers_in_the_middle_of_their_work(tmp_path: Path, number: signal.Signals) -> None:
    with CommandSignals().handling(until_exit=False):
        batches = workers.run_batches(_sleep_long, list(range(100)), resource=_Folder(tmp_path), processes=2)
        with contextlib.closing(batches):
            assert next(batches) == [1]
            wait_until(lambda: len(list(tmp_path.iterdir())) == 2)
            begun = time.monotonic()
            sent = [*map(int, (path.name for path in tmp_path.iterdir())), os.getpid()]  # as to the whole job
            with pytest.raises(KeyboardInterrupt):  # noqa: PT012 - the signal may come late
                for pid in sent:
                    os.kill(pid, number)
                next(batches)
    assert time.monotonic() - begun < 20  # they had a minute of work


@pytest.mark.slow
def test_worker_killed_by_the_system_is_told() -> None:
    with pytest.raises(UserError, match="memory ran out"):
        list(workers.run_batches(_die, list(range(100)), resource=_Nothing, processes=2))


@pytest.mark.parametrize("processes", [1, 2])
def test_every_item_is_worked_on_once(processes: int) -> None:
    batches = list(workers.run_batches(_processes, list(range(100)), resource=_Nothing, processes=processes))
    assert sorted(item for batch in batches for item, _ in batch) == list(range(100))
    ids = {process for batch in batches for _, process in batch}
    assert (ids == {os.getpid()}) == (processes == 1)


def test_a_control_group_of_one_core_on_a_machine_of_two_gives_one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    monkeypatch.setattr(cores, "read_cgroup_limit", lambda: 1.0)
    batches = workers.run_batches(_processes, list(range(100)), resource=_Nothing)
    assert {process for batch in batches for _, process in batch} == {os.getpid()}


def _hang(_: object, items: object) -> list[int]:
    time.sleep(60)
    return []


def test_workers_that_hang_end_the_wait_and_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "STUCK_SECONDS", 0.5)
    with pytest.raises(UserError, match=r"no image came within 0.5 s from process \d+ \("):
        list(workers.run_batches(_hang, range(4), resource=contextlib.nullcontext, processes=2, batch=1))


def _nothing(_: object, items: Sequence[int]) -> list[int]:
    return list(items)


def test_workers_that_the_system_does_not_start_name_the_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(concurrent.futures.ProcessPoolExecutor, "submit", fail)
    with pytest.raises(UserError, match=r"cannot start worker processes: Too many open files\. .* open files -n"):
        list(workers.run_batches(_nothing, range(4), resource=contextlib.nullcontext, processes=2, batch=1))
