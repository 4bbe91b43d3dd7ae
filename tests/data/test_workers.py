"""Worker processes: how many, in which order, and how they end."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Sequence

import pytest

from signs_dist.data import workers
from signs_dist.environment import cores
from signs_dist.errors import UserError


def _processes(_: object, items: Sequence[int]) -> list[tuple[int, int]]:
    return [(item, os.getpid()) for item in items]


def _die(_: object, items: object) -> list[int]:
    os.kill(os.getpid(), signal.SIGKILL)
    return []


def _interrupt_is_blocked(_: object, items: object) -> list[bool]:
    return [signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])]


class _Nothing:
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def test_workers_leave_ctrl_c_to_their_parent() -> None:
    batches = list(workers.run_batches(_interrupt_is_blocked, list(range(100)), resource=_Nothing, processes=2))
    assert batches == [[True]] * 7
    assert not _interrupt_is_blocked(None, None)[0]


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

    monkeypatch.setattr(workers, "_submit_masked", fail)
    with pytest.raises(UserError, match=r"cannot start worker processes: Too many open files\. .* open files -n"):
        list(workers.run_batches(_nothing, range(4), resource=contextlib.nullcontext, processes=2, batch=1))
