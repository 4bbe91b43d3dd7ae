"""The photos that an export is checked on."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from signs_dist.data.images import load_rgb
from signs_dist.errors import UserError
from signs_dist.exporting.photos import evenly_spaced, judge
from signs_dist.exporting.run import in_float32
from signs_dist.inference.scoring import open_scored_split, score
from signs_dist.inference.trained_model import TrainedModel, read_trained_model
from tests.inference.runs import make_run


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    run = make_run(tmp_path_factory.mktemp("trained"), "train.epochs=6", "evaluate.batch=5")
    return in_float32(read_trained_model(run, weights="final", device="cpu"))


@pytest.mark.parametrize(
    ("count", "most", "expected"), [(3, 10, [0, 1, 2]), (10, 3, [0, 3, 6]), (1, 1, [0]), (0, 5, [])]
)
def test_photos_are_chosen_evenly(count: int, most: int, expected: list[int]) -> None:
    assert list(evenly_spaced(count, most)) == expected


def test_all_photos_are_judged(model: TrainedModel) -> None:
    opened = open_scored_split(model, None, None, num_cores=1, report=lambda *_: None)
    judged = judge(model, opened, num_cores=1)
    whole = score(model)
    assert (
        (judged.result.num_correct, judged.result.num_images)
        == (whole.num_correct, whole.num_images)
        == (
            sum(judged.num_correct_of_class),
            sum(judged.num_of_class),
        )
    )
    assert judged.result.interval == whole.accuracy_interval()
    assert (judged.result.split, judged.result.data) == ("val", "colours")
    own, larger, largest = judged.photo_sets
    assert own.images.shape == (12, 16, 16, 3)
    assert larger.images.shape == (12, 28, 40, 3)
    assert largest.images.shape == (12, 80, 112, 3)
    paths = sorted((model.folder.path.parent / "colours" / "val_signs").iterdir())
    first = np.asarray(load_rgb(paths[0], name="first", size=16))
    assert np.array_equal(own.images[0], first)
    assert [each.expected.shape for each in judged.photo_sets] == [(12, 3)] * 3
    assert own.what == "12 val photos"


def test_a_split_without_photos_is_told(model: TrainedModel) -> None:
    opened = open_scored_split(model, None, None, num_cores=1, report=lambda *_: None)
    with pytest.raises(UserError, match=r"has no val images to check the export on\. Give --data DIR"):
        judge(model, dataclasses.replace(opened, num_images=0), num_cores=1)


def test_the_folder_of_the_photos_is_not_told(model: TrainedModel) -> None:
    opened = open_scored_split(model, None, None, num_cores=1, report=lambda *_: None)
    assert "/" in opened.data_name
    assert judge(model, opened, num_cores=1).result.data == Path(opened.data_name).name
