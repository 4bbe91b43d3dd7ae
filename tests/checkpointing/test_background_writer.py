"""Checkpoints written in the background."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from signs_dist.checkpointing.background_writer import BackgroundWriter
from signs_dist.checkpointing.store import CheckpointStore, Cursor
from signs_dist.errors import SaveError
from signs_dist.rehearsal.save_stages import watching_saves
from tests.checkpointing.test_store import content, names, number_in


def test_the_writer_writes_one_after_the_other_in_the_background(tmp_path: Path) -> None:
    stages: list[tuple[int, str]] = []
    gate, current = threading.Event(), [0]

    def at_stage(stage: str) -> None:
        stages.append((current[0], stage))
        if stage == "open":
            assert gate.wait(10)

    writer = BackgroundWriter(CheckpointStore(tmp_path, 3), None)
    order: list[int] = []

    def begin(number: int) -> None:
        order.append(number)
        current[0] = number

    with watching_saves(at_stage):
        writer.submit(Cursor(1, 0), content(1), None, lambda: begin(1))
        assert not names(tmp_path)  # the save is running, and this thread continued
        threading.Timer(0.2, gate.set).start()
        writer.submit(Cursor(2, 0), content(2), None, lambda: begin(2))
        writer.wait()
    assert order == [1, 2]
    assert [number for number, _ in stages] == sorted(number for number, _ in stages)
    assert number_in(tmp_path / "last.pt") == 2
    assert writer.last_write_seconds > 0


@pytest.mark.parametrize("warns", [False, True])
def test_a_save_that_fails_ends_the_run_or_warns(tmp_path: Path, warns: bool) -> None:
    (tmp_path / "file").write_text("")
    said: list[str] = []
    writer = BackgroundWriter(CheckpointStore(tmp_path / "file", 3), said.append if warns else None)
    writer.submit(Cursor(1, 0), content(1), None, lambda: None)
    if warns:
        writer.wait()
        assert f"cannot write {tmp_path / 'file' / 'epoch-0001.pt'}: " in said[0]
        assert said[0].endswith("Training continues without this checkpoint (checkpoint.on_error=warn).")
    else:
        with pytest.raises(SaveError, match="cannot write"):
            writer.wait()
    writer.check()  # reported once


def test_a_bug_in_the_thread_is_raised_even_where_errors_warn(tmp_path: Path) -> None:
    writer = BackgroundWriter(CheckpointStore(tmp_path, 3), lambda message: None)
    writer.submit(Cursor(1, 0), {"model": lambda: None}, None, lambda: None)
    with pytest.raises((AttributeError, TypeError, Exception), match="pickle"):
        writer.wait()
