"""The board on which ranks leave values: those that answer are read, and nobody waits for the others for ever."""

from __future__ import annotations

import threading
import time

import torch.distributed as dist

from signs_dist.distributed.board import Board


def test_alone() -> None:
    board = Board(0)
    board.put("a", {"x": [1, None]})
    assert board.get("a", [0], 5.0) == {0: {"x": [1, None]}}


def test_a_rank_that_is_silent_is_not_waited_for_longer_than_the_limit() -> None:
    store = dist.HashStore()
    first, second = Board(0, store), Board(1, store)
    second.put("a", 7)
    started = time.monotonic()
    assert first.get("a", [1, 2], 0.1) == {1: 7}
    assert time.monotonic() - started < 5


def test_a_value_that_comes_later() -> None:
    store = dist.HashStore()
    timer = threading.Timer(0.1, lambda: Board(1, store).put("a", 3))
    timer.start()
    assert Board(0, store).get("a", [1], 10.0) == {1: 3}
    timer.join(5)
