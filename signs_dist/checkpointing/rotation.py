"""Which checkpoints stay on disk when a new one is written."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from signs_dist.checkpointing.cursor import Cursor


def choose_deleted(
    files: Sequence[tuple[Cursor, Path]],
    *,
    keep: int,
    best: Cursor | None = None,
    keep_every_epochs: int | None = None,
    protected: Collection[Cursor] = (),
) -> list[Path]:
    """The files that a save deletes.

    Args:
        files: all checkpoints, the newest first, the one just written among them.
        keep: how many of the newest stay.
        best: the place of the best epoch's checkpoint, which stays.
        keep_every_epochs: checkpoints at the end of an epoch that is a multiple of it stay. None: no such.
        protected: other places whose checkpoints stay.
    """
    return [
        path
        for cursor, path in files[keep:]
        if cursor != best and cursor not in protected and not is_milestone(cursor, keep_every_epochs)
    ]


def is_milestone(cursor: Cursor, keep_every_epochs: int | None) -> bool:
    """Whether a checkpoint at this place stays for good, by `checkpoint.keep_every_epochs`."""
    if keep_every_epochs is None or cursor.step or not cursor.epoch:
        return False
    return cursor.epoch % keep_every_epochs == 0
