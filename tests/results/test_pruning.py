from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from signs_dist.results.pruning import choose_removed, find_obstacle, is_alive
from signs_dist.results.queued import QueueAnswer
from signs_dist.results.summary import RunSummary


def run(name: str, state: Any = "finished", **fields: Any) -> RunSummary:
    return RunSummary(path=Path(name), state=state, **fields)


RUNS = [
    run("a", val_accuracy=0.7, val_loss=0.9, started="2026-01-01"),
    run("b", val_accuracy=0.9, val_loss=0.8, started="2026-01-03"),
    run("c", val_accuracy=0.9, val_loss=0.1, started="2026-01-02"),
    run("d", "failed", started="2026-01-01"),
]


@pytest.mark.parametrize(
    ("keep", "by", "removed"),
    [
        (1, "val_accuracy", "bad"),  # of b and c, which are equal, c began first
        (2, "val_accuracy", "ad"),
        (3, "val_accuracy", "d"),
        (4, "val_accuracy", ""),
        (9, "val_accuracy", ""),
        (1, "val_loss", "bad"),
        (2, "val_loss", "ad"),
        (1, "test_accuracy", "dcb"),  # none has it: the earliest is kept
    ],
)
def test_all_but_the_best_are_removed(keep: int, by: str, removed: str) -> None:
    assert [str(each.path) for each in choose_removed(RUNS, keep, by)] == list(removed)


@pytest.mark.parametrize(
    ("summary", "answer", "told"),
    [
        (RUNS[0], QueueAnswer(), ""),
        (RUNS[3], QueueAnswer(), ""),
        (run("a", "stopped"), QueueAnswer(), ""),
        (run("a", "not begun"), QueueAnswer(), ""),
        (run("a", "partly removed"), QueueAnswer(), ""),
        (run("a", "running", where="n1"), QueueAnswer(), "a is running on n1. To stop it first: Ctrl-C where it runs"),
        (run("a", "running", job="7"), QueueAnswer(), "a is running. To stop it first: .*submit.* cancel a"),
        (run("a b", "waiting", job="7"), QueueAnswer(), "waits as job 7. To cancel it first: .*submit.* cancel 'a b'"),
        (run("a", "unreadable", why="no"), QueueAnswer(), "a cannot be read: no"),
        (run("a", "stopped"), QueueAnswer(unknown={Path("a"): "no SLURM."}), "not known whether its job waits: no SL"),
    ],
)
def test_what_may_not_be_removed(summary: RunSummary, answer: QueueAnswer, told: str) -> None:
    obstacle = find_obstacle(summary, answer, [])
    if told:
        import re

        assert re.search(told, obstacle)
    else:
        assert obstacle == ""
    assert is_alive(summary, answer) is bool(told)


def test_a_run_that_holds_another_is_kept() -> None:
    assert "a holds another run folder: a/b" in find_obstacle(RUNS[0], QueueAnswer(), [Path("a/b")])
