"""The stages of a save, and how to watch a process reach them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

STAGES_OF_EVERY_SAVE = (
    *("open", "quarter 1", "quarter 2", "quarter 3", "quarter 4", "flushed"),
    *("before rename", "after rename", "before rotation"),
)
"""In the order in which `CheckpointStore.write` reaches them."""
STAGES = (*STAGES_OF_EVERY_SAVE, "in rotation")
"""All stages. The last one is reached once for each old checkpoint that is deleted, so not in every save."""


@contextlib.contextmanager
def watching_saves(watch: Callable[[str], None]) -> Iterator[None]:
    """Within the block, call `watch` with the name of each stage that a save of this process reaches.

    `watch` is called in the thread that saves.
    """
    from signs_dist.checkpointing import store  # torch: not for --help

    before = store.on_stage
    store.on_stage = watch
    try:
        yield
    finally:
        store.on_stage = before
