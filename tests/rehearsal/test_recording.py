"""A process that trains some steps and writes down what it did."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from signs_dist.data.plan import EpochPlan, Shard
from signs_dist.rehearsal.records import read_record
from tests.processes import run
from tests.sets import write_colour_set


@pytest.mark.slow
def test_steps_are_recorded_past_the_end_of_an_epoch(tmp_path: Path) -> None:
    colours = write_colour_set(tmp_path / "colours", counts={"train": 8, "val": 5})
    settings = [f"data.root={colours}", f"data.cache={tmp_path / 'cache'}", "data.image_size=16", "exact=true"]
    model = ["model.name=signs_net", "model.args={channels: 4, dropout: 0.3}"]
    train = ["train.global_batch=8", "train.micro_batch=4", "train.epochs=9", "seed=3", "train.precision=float32"]
    program = [sys.executable, "-m", "signs_dist.rehearsal.recording", ".", "--device", "cpu"]
    ended = run([*program, "--steps", "4", *settings, *model, *train], tmp_path)
    assert ended.code == 0, ended.err
    record = read_record(tmp_path, 1)
    num_images = 8 * 3
    plan = EpochPlan(num_images, 8, 3, micro_batch=4)
    assert plan.num_steps == 3
    assert record.samples == [plan.samples(*place, Shard(0, 1)).tolist() for place in [(0, 0), (0, 1), (0, 2), (1, 0)]]
    assert [len(images) for images in record.images] == [8] * 4
    assert record.precision == "float32"
    assert all(loss > 0 for loss in record.losses)
