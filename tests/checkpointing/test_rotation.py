"""Which checkpoints a save deletes."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pytest

from signs_dist.checkpointing.cursor import Cursor
from signs_dist.checkpointing.rotation import choose_deleted, is_milestone

FILES = [
    (cursor, Path(cursor.file_name))
    for cursor in (Cursor(6, 0), Cursor(5, 3), Cursor(5, 0), Cursor(4, 0), Cursor(3, 2), Cursor(3, 0), Cursor(2, 0))
]


@pytest.mark.parametrize(
    ("keep", "best", "every", "protected", "deleted"),
    [
        (2, None, None, (), ["epoch-0005", "epoch-0004", "epoch-0004-step-000002", "epoch-0003", "epoch-0002"]),
        (2, Cursor(3, 0), None, (), ["epoch-0005", "epoch-0004", "epoch-0004-step-000002", "epoch-0002"]),
        (2, None, 1, (), ["epoch-0004-step-000002"]),
        (2, None, 2, (), ["epoch-0005", "epoch-0004-step-000002", "epoch-0003"]),
        (1, Cursor(3, 0), 4, {Cursor(3, 2), Cursor(9, 9)}, ["epoch-0006-step-000003", "epoch-0005", "epoch-0002"]),
        (9, None, None, (), []),
    ],
)
def test_old_checkpoints_are_deleted_but_those_that_are_wanted(
    keep: int, best: Cursor | None, every: int | None, protected: Collection[Cursor], deleted: list[str]
) -> None:
    found = choose_deleted(FILES, keep=keep, best=best, keep_every_epochs=every, protected=protected)
    assert [path.stem for path in found] == deleted


@pytest.mark.parametrize(
    ("cursor", "every", "stays"),
    [
        (Cursor(4, 0), 2, True),
        (Cursor(4, 0), 3, False),
        (Cursor(4, 1), 2, False),  # within epoch 5
        (Cursor(0, 0), 2, False),  # before the first step
        (Cursor(4, 0), None, False),
    ],
)
def test_milestones_are_ends_of_epochs(cursor: Cursor, every: int | None, stays: bool) -> None:
    assert is_milestone(cursor, every) is stays
