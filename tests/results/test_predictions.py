from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest

from signs_dist.results.predictions import (
    PredictionsHeader,
    photo_path,
    predictions_path,
    read_header,
    read_predictions,
    to_text,
)

HEADER = PredictionsHeader(split="val", classes=("cat", "dog"), epoch=3, step=81, weights="best", root="/photos")


def write(folder: Path, text: str) -> Path:
    path = predictions_path(folder, "val")
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    path = write(tmp_path, to_text(HEADER, [("val/é.jpg", 1, (0.25, 0.75)), ("val/b.jpg", 1, (0.5, 0.5))]))
    assert path.name == "predictions-val.jsonl"
    header, images = read_predictions(path) or pytest.fail("not read")
    assert header == HEADER
    assert [image.file for image in images] == ["val/é.jpg", "val/b.jpg"]
    assert [(image.predicted, image.confidence, image.is_right) for image in images] == [
        (1, 0.75, True),
        (0, 0.5, False),
    ]


def test_with_many_classes_a_line_holds_the_most_probable_ones_and_its_own(tmp_path: Path) -> None:
    classes = tuple(map(str, range(200)))
    header = PredictionsHeader(split="val", classes=classes, epoch=1, step=1, weights="last")
    probabilities = [number / 20000 for number in range(200)]
    _, images = read_predictions(write(tmp_path, to_text(header, [("a.jpg", 3, probabilities)]))) or pytest.fail("none")
    assert sorted(images[0].probabilities) == [3, *range(190, 200)]
    assert images[0].predicted == 199
    assert images[0].probabilities[3] == pytest.approx(3 / 20000)


def test_probabilities_may_be_given_by_class(tmp_path: Path) -> None:
    classes = tuple(map(str, range(200)))
    header = PredictionsHeader(split="val", classes=classes, epoch=1, step=1, weights="last")
    text = to_text(header, [("a.jpg", 3, {199: 0.75, 3: 1e-9})])
    assert text.splitlines()[1] == '{"file": "a.jpg", "label": 3, "probabilities": {"3": 1e-09, "199": 0.75}}'
    _, images = read_predictions(write(tmp_path, text)) or pytest.fail("none")
    assert images[0].probabilities == {3: 1e-9, 199: 0.75}


@pytest.mark.parametrize("probabilities", [(math.nan, 0.0), {0: math.inf, 1: 0.0}])
def test_an_image_without_finite_probabilities_is_omitted(
    tmp_path: Path, probabilities: tuple[float, ...] | dict[int, float]
) -> None:
    text = to_text(HEADER, [("a.jpg", 1, probabilities), ("b.jpg", 1, (0.0, 1.0))])
    assert '"probabilities": null' in text
    _, images = read_predictions(write(tmp_path, text)) or pytest.fail("none")
    assert [image.file for image in images] == ["b.jpg"]


def test_the_header_is_read_alone(tmp_path: Path) -> None:
    path = write(tmp_path, to_text(HEADER, [("a.jpg", 1, (0.0, 1.0))]))
    assert read_header(path) == HEADER
    assert read_header(tmp_path) is None
    assert read_header(tmp_path / "missing") is None


@pytest.mark.parametrize(
    "first_line",
    ["", "{}", '{"kind": "header", "version": 99, "split": "val"}', '{"kind": "header", "version": 1}', "[1]"],
)
def test_a_file_without_a_header_that_is_understood_is_not_read(tmp_path: Path, first_line: str) -> None:
    assert read_predictions(write(tmp_path, f"{first_line}\n")) is None


@pytest.mark.parametrize(
    ("root", "file", "photo"),
    [
        ("/photos", "val/a.jpg", Path("/photos/val/a.jpg")),
        ("/photos", "/home/private.jpg", None),
        ("/photos", "val/../../private.jpg", None),
        ("", "a.jpg", None),
    ],
)
def test_a_photo_lies_in_the_folder_of_the_data_set(root: str, file: str, photo: Path | None) -> None:
    assert photo_path(dataclasses.replace(HEADER, root=root), file) == photo


def test_a_missing_file_is_not_read(tmp_path: Path) -> None:
    assert read_predictions(predictions_path(tmp_path, "val")) is None


@pytest.mark.parametrize(
    "line",
    [
        {"file": 7, "label": 0, "probabilities": [1, 0]},
        {"file": "a", "label": 2, "probabilities": [1, 0]},
        {"file": "a", "label": True, "probabilities": [1, 0]},
        {"file": "a", "label": 0, "probabilities": [1, 0, 0]},
        {"file": "a", "label": 0, "probabilities": []},
        {"file": "a", "label": 0, "probabilities": {"x": 1}},
        {"file": "a", "label": 0},
        {"file": "a", "label": 0, "probabilities": [1e308, 0]},
        {"file": "a", "label": 0, "probabilities": [-20, 0]},
        {"file": "a", "label": 0, "probabilities": [10**400, 0]},
    ],
)
def test_lines_that_are_not_understood_are_omitted(tmp_path: Path, line: dict[str, object]) -> None:
    text = to_text(HEADER, [("a.jpg", 0, (1.0, 0.0))]) + json.dumps(line) + "\n"
    _, images = read_predictions(write(tmp_path, text)) or pytest.fail("none")
    assert [image.file for image in images] == ["a.jpg"]


@pytest.mark.parametrize(
    "changes", [{"classes": "ab"}, {"classes": None}, {"root": 5}, {"split": None}, {"epoch": "1"}, {"step": -1}]
)
def test_a_header_with_a_value_of_a_wrong_type_is_not_read(tmp_path: Path, changes: dict[str, object]) -> None:
    first, *others = to_text(HEADER, [("a.jpg", 0, (1.0, 0.0))]).splitlines()
    text = "\n".join([json.dumps(json.loads(first) | changes), *others])
    assert read_predictions(write(tmp_path, text)) is None
