"""What is written down of a step is what the step computes, on whatever micro-batch."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from unittest import mock

import pytest
import torch

from signs_dist.data.plan import EpochPlan, Shard
from signs_dist.diverging.observing import StepCall
from signs_dist.learning.metrics import RunningSums
from tests.diverging.faults import base_settings
from tests.diverging.offline import Recorded, record
from tests.sets import write_colour_set


@pytest.fixture(scope="module")
def side(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    colours = write_colour_set(tmp_path_factory.mktemp("colours"), counts={"train": 8, "val": 2})
    return record([*base_settings(colours), "augment.backend=none", "seed=5"], 2, (3,))


def test_samples_places_and_groups_of_steps(side: Recorded) -> None:
    plan = EpochPlan(24, 16, 5, micro_batch=2)
    first, second = side.script.steps
    assert [(step.number, step.epoch, step.step) for step in (first, second)] == [(1, 1, 1), (2, 2, 1)]
    assert [part.number for part in first.parts] == list(range(8))
    assert [sample for part in first.parts for sample in part.samples] == plan.samples(0, 0, Shard(0, 1)).tolist()
    assert [sample for part in second.parts for sample in part.samples] == plan.samples(1, 0, Shard(0, 1)).tolist()
    assert first.entries[0]["lr"] < second.entries[0]["lr"]
    assert "momentum" in first.entries[0]
    assert all((first.summed, first.clipped, first.weights, first.optimizer, first.average, first.buffers))
    assert first.weights != second.weights


def test_an_image_without_augmentation_has_one_digest_in_all_steps(side: Recorded) -> None:
    seen: dict[int, set[str]] = {}
    for step in side.script.steps:
        for part in step.parts:
            for sample, image in zip(part.samples, part.images, strict=True):
                seen.setdefault(sample, set()).add(image)
    assert len(seen) > 16
    assert {len(images) for images in seen.values()} == {1}


def test_a_step_done_again_computes_the_same_and_names_each_layer(side: Recorded) -> None:
    for step in side.script.steps:
        one, other = side.script.details[step.number, 3]
        assert one == other
        assert one.loss == step.parts[3].loss
        forward = [name for name, direction, _ in one.events if direction == "forward"]
        assert forward[0] == "conv1"
        assert [name for name in forward if name in ("bn1", "conv2", "bn2", "drop", "fc")] == [
            *("bn1", "conv2", "bn2", "drop", "fc")
        ]
        assert one.summed.keys() == one.weights.keys()
        assert "bn1.running_mean" in one.buffers
        assert "fc.weight:momentum_buffer" in one.optimizer


def test_a_step_done_again_does_not_count_its_images_twice() -> None:
    device = torch.device("cpu")
    sums = RunningSums(3, device)
    state = mock.Mock(num_classes=3)
    call = StepCall(mock.Mock(), state, mock.Mock(), mock.Mock(device=device), 0, 0, sums)
    again = call.again()
    assert again.sums is not sums
    assert dataclasses.replace(again, sums=sums) == call


def test_the_folder_of_the_set_is_not_in_the_digests(side: Recorded, tmp_path: Path) -> None:
    colours = write_colour_set(tmp_path / "elsewhere", counts={"train": 8, "val": 2})
    other = record([*base_settings(colours), "augment.backend=none", "seed=5"], 1, ())
    assert other.script.steps[0] == side.script.steps[0]
