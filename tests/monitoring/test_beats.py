"""Beats: the last state of each process, on disk."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from signs_dist.monitoring.beats import Beat, Identity, Work, beat_path, failed_path, read_beats


def test_where_beats_are(tmp_path: Path) -> None:
    assert beat_path(tmp_path, 3) == tmp_path / "rank3.beat"


def test_unreadable_beats_are_skipped(tmp_path: Path) -> None:
    (tmp_path / "rank0.beat").write_text("{half")
    (tmp_path / "rank1.beat").write_text('{"phase": "load"}')
    assert read_beats(tmp_path) == {}


def test_a_beat_survives_the_disk_with_and_without_work(tmp_path: Path) -> None:
    identity = Identity(1, 3, "here", 4711, "cpu", "rank1.log")
    beat = Beat(identity, "forward", 2, 5, False, 1000.0, 990.0)
    for one in (beat, dataclasses.replace(beat, work=Work("training", 7, 10, "loss 1.0"))):
        beat_path(tmp_path, 1).write_text(one.to_json())
        assert read_beats(tmp_path) == {1: one}
    assert beat.place == "forward, epoch 2 step 5"


def test_a_failure_is_known_by_its_attempt(tmp_path: Path) -> None:
    assert failed_path(tmp_path, 3) == tmp_path / "failed.3"
