"""Stages of several ranks, here threads: a rank that is silent is left behind and named, and nobody hangs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch.distributed as dist

from signs_dist.distributed.board import Board
from signs_dist.errors import PeerLostError
from signs_dist.health.stages import Stages


def run_ranks(world_size: int, work: Callable[[Stages, int], Any], grace_seconds: float = 1.0) -> list[Any]:
    """What `work` gives on each rank, or what it raises."""
    store, results = dist.HashStore(), [None] * world_size

    def run(rank: int) -> None:
        stages = Stages(Board(rank, store), rank, world_size, grace_seconds)
        try:
            results[rank] = work(stages, rank)
        except PeerLostError as error:
            results[rank] = error
        finally:
            stages.close()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(world_size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return results


def test_all_get_what_all_found() -> None:
    found = run_ranks(3, lambda stages, rank: stages.run("one", lambda: rank * 10, 5.0), grace_seconds=10.0)
    assert found == [{0: 0, 1: 10, 2: 20}] * 3


def test_only_some_measure() -> None:
    found = run_ranks(3, lambda stages, rank: stages.run("one", lambda: rank, 5.0, ranks=[2]), grace_seconds=10.0)
    assert found == [{2: 2}] * 3


def test_a_silent_rank_is_left_behind() -> None:
    def work(stages: Stages, rank: int) -> Any:
        if rank == 2:
            return "silent"
        first = stages.run("first", lambda: rank, 0.2)
        started = time.monotonic()
        second = stages.run("second", lambda: rank, 5.0)
        assert time.monotonic() - started < 4  # nobody waits for it again
        return first, second, stages.living, stages.lost

    for found in run_ranks(3, work)[:2]:
        first, second, living, lost = found
        assert first == second == {0: 0, 1: 1}
        assert living == [0, 1]
        assert lost == {2: ("first", pytest.approx(1.2))}


def test_a_measurement_that_hangs_is_told_and_the_rank_goes_on() -> None:
    let_go = threading.Event()

    def work(stages: Stages, rank: int) -> Any:
        return stages.run("one", lambda: let_go.wait(20) if rank == 1 else rank, 0.2)

    found = run_ranks(2, work, grace_seconds=5.0)
    let_go.set()
    assert found == [{0: 0, 1: {"broken": "no answer within 0.2 s"}}] * 2


def test_a_rank_that_comes_too_late_ends() -> None:
    def work(stages: Stages, rank: int) -> Any:
        if rank == 1:
            time.sleep(3.0)
        return stages.run("one", lambda: rank, 0.2)

    first, late = run_ranks(2, work)
    assert first == {0: 0}
    assert str(late) == "rank 1 answered too late in the stage 'one': the others went on."


def test_rank_0_leaves_last() -> None:
    def work(stages: Stages, rank: int) -> float:
        stages.run("one", lambda: rank, 5.0)
        time.sleep(0.3 * rank)
        stages.leave()
        return time.monotonic()

    first, second = run_ranks(2, work, grace_seconds=5.0)
    assert second <= first + 0.05


def test_without_rank_0_the_others_end() -> None:
    def work(stages: Stages, rank: int) -> Any:
        return None if rank == 0 else stages.run("one", lambda: rank, 0.1)

    assert str(run_ranks(2, work)[1]) == "rank 1 waited 1.1 s for rank 0 in the stage 'one'."
