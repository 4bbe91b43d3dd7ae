"""Watching the stages of a save."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from signs_dist.checkpointing import store
from signs_dist.checkpointing.store import CheckpointStore, Cursor
from signs_dist.rehearsal.save_stages import STAGES, STAGES_OF_EVERY_SAVE, watching_saves


def save(folder: Path, epoch: int) -> None:
    CheckpointStore(folder, keep=1).write(Cursor(epoch, 0), {"model": {"w": torch.zeros(100)}}, None)


def test_every_stage_is_seen_in_its_order(tmp_path: Path) -> None:
    seen: list[str] = []
    with watching_saves(seen.append):
        save(tmp_path, 1)
        assert seen == list(STAGES_OF_EVERY_SAVE)
        seen.clear()
        save(tmp_path, 2)
    assert seen == list(STAGES)


def test_behind_the_block_nobody_watches(tmp_path: Path) -> None:
    seen: list[str] = []
    with pytest.raises(KeyError), watching_saves(seen.append):
        raise KeyError
    save(tmp_path, 1)
    assert seen == []
    assert store.on_stage is store.ignore_stage
