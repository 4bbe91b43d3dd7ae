from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from signs_dist.errors import UserError
from signs_dist.results.comparison import compare_runs
from signs_dist.results.predictions import PredictionsHeader, predictions_path, to_text
from signs_dist.results.statistics import mcnemar
from tests.results.runs import make_run

CLASSES = ("0", "1", "2")


def make_evaluated(
    path: Path,
    said: Mapping[str, int],
    *,
    split: str = "val",
    fingerprint: str | None = "f1",
    data: str = "/photos",
    classes: tuple[str, ...] = CLASSES,
    config: str = "seed: 0",
) -> Path:
    """A run with predictions: file → the class that it predicts. The class of a file is its first letter."""
    if not path.exists():
        make_run(path, config=config)
    header = PredictionsHeader(split=split, classes=classes, epoch=3, step=81, weights="best", root="/photos")
    rows = [
        (file, classes.index(file[0]), [0.9 if number == label else 0.05 for number in range(len(classes))])
        for file, label in said.items()
    ]
    predictions_path(path, split).write_text(to_text(header, rows), encoding="utf-8")
    if fingerprint is not None:
        manifest = {"data": {"name": data, "fingerprints": {split: fingerprint}}}
        (path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return path


BEFORE = {"0a": 0, "0b": 1, "1a": 1, "1b": 2, "2a": 0, "2b": 2}
AFTER = {"0a": 0, "0b": 0, "1a": 0, "1b": 1, "2a": 1, "2b": 2}


def test_fixed_and_broken_images(tmp_path: Path) -> None:
    first = make_evaluated(tmp_path / "a", BEFORE, config="optim: {lr: 0.1}\nlog: {samples: true}")
    found = compare_runs(first, make_evaluated(tmp_path / "b", AFTER, config="optim: {lr: 0.05}"), "val")
    assert [(image.file, image.label, image.before, image.after) for image in found.fixed] == [
        ("0b", "0", "1", "0"),
        ("1b", "1", "2", "1"),
    ]
    assert [(image.file, image.before, image.after) for image in found.broke] == [("1a", "1", "0")]  # 2a stays wrong
    assert (found.num_images, found.num_correct, found.is_same_data) == (6, (3, 4), True)
    assert found.accuracies == (3 / 6, 4 / 6)
    assert found.settings == {"optim.lr": [0.1, 0.05]}
    assert found.p_value == mcnemar(2, 1)
    change, low, high = found.change
    assert change == pytest.approx(1 / 6)
    assert low < change < high
    fields = found.to_fields()
    assert json.loads(json.dumps(fields, allow_nan=False)) == fields
    assert fields["fixed"][0] == {"file": "0b", "label": "0", "before": "1", "after": "0"}


def test_classes_are_compared_by_name(tmp_path: Path) -> None:
    first = make_evaluated(tmp_path / "a", {"0a": 0, "2b": 2})
    second = make_evaluated(tmp_path / "b", {"0a": 1, "2b": 0}, classes=("2", "0"))  # 1 is 0 here, and 0 is 2
    found = compare_runs(first, second, "val")
    assert (found.fixed, found.broke, found.num_correct) == ((), (), (2, 2))


def test_of_other_data_the_common_images_are_compared(tmp_path: Path) -> None:
    first = make_evaluated(tmp_path / "a", {"0a": 1, "0b": 0, "1c": 1})
    second = make_evaluated(tmp_path / "b", {"0a": 0, "0b": 0, "2d": 2}, fingerprint="f2")
    found = compare_runs(first, second, "val")
    assert (found.is_same_data, found.num_images, len(found.fixed)) == (False, 2, 1)
    assert (found.first.num_images, found.second.num_images) == (3, 3)


def test_without_a_manifest_the_same_names_are_the_same_data(tmp_path: Path) -> None:
    first = make_evaluated(tmp_path / "a", BEFORE, fingerprint=None)
    assert compare_runs(first, make_evaluated(tmp_path / "b", AFTER), "val").is_same_data
    other = make_evaluated(tmp_path / "c", {"0a": 0})
    assert not compare_runs(first, other, "val").is_same_data


@pytest.mark.parametrize(
    ("said", "data", "told"),
    [
        (
            {"0z": 0},
            "/photos",
            "other val images (6 and 1), and they have no image in common. To see how",
        ),
        (AFTER, "synthetic", "drawn images of the same name are other images"),
    ],
)
def test_runs_without_a_common_image_are_refused(tmp_path: Path, said: dict[str, int], data: str, told: str) -> None:
    first = make_evaluated(tmp_path / "a", BEFORE)
    second = make_evaluated(tmp_path / "b", said, fingerprint="f2", data=data)
    with pytest.raises(UserError) as caught:
        compare_runs(first, second, "val")
    assert told in str(caught.value)


def test_missing_predictions_say_what_to_type(tmp_path: Path) -> None:
    first = make_evaluated(tmp_path / "a", BEFORE)
    bare = make_run(tmp_path / "b")
    with pytest.raises(UserError, match=r"b has no predictions-val\.jsonl: no val images were evaluated, or"):
        compare_runs(first, bare, "val")
    with pytest.raises(UserError, match=r"a has no predictions for its test images, but for val\. Type --split val"):
        compare_runs(first, bare, "test")
    predictions_path(bare, "val").write_text('{"kind": "header", "version": 99}\n', encoding="utf-8")
    with pytest.raises(UserError, match=r"predictions-val\.jsonl cannot be read, or a later release has written it"):
        compare_runs(first, bare, "val")
    with pytest.raises(UserError, match=r"nope does not exist"):
        compare_runs(first, tmp_path / "nope", "val")
