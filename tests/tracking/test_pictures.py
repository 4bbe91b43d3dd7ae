from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from signs_dist.results.predictions import PredictionsHeader, predictions_path, to_text
from signs_dist.tracking.pictures import (
    CONFUSION,
    LINE,
    MISTAKES,
    MOST_CLASSES,
    TILE,
    TRAINING,
    confusion_png,
    pictures_of,
)

RED = (250, 0, 0)


def opened(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png)).convert("RGB")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Two classes; one photo right, one wrong and there, one wrong and away."""
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (64, 64), RED).save(tmp_path / "photos" / "wrong.png")
    header = PredictionsHeader(
        split="val", classes=("猫", "a" * 60), epoch=3, step=81, weights="best", root=str(tmp_path / "photos")
    )
    images = [("right.png", 0, (0.9, 0.1)), ("wrong.png", 1, (0.8, 0.2)), ("away.png", 1, (0.6, 0.4))]
    predictions_path(tmp_path, "val").write_text(to_text(header, images), encoding="utf-8")
    return tmp_path


def test_the_worst_mistakes_are_photos_side_by_side(run: Path) -> None:
    pictures = pictures_of(run)
    assert pictures is not None
    assert (pictures.epoch, pictures.step) == (3, 81)
    sheet = opened(pictures.named[MISTAKES])
    assert sheet.size == (2 * (TILE + 4), TILE + 2 * LINE + 4)
    assert sheet.getpixel((TILE // 2, TILE // 2)) == RED
    assert sheet.getpixel((TILE + 4 + TILE // 2, TILE // 2)) == (211, 211, 211)


def test_the_training_images_are_shown_as_they_are(run: Path) -> None:
    assert TRAINING not in (pictures_of(run) or pytest.fail("none")).named
    Image.new("RGB", (8, 8), RED).save(run / "training-images.png")
    assert opened((pictures_of(run) or pytest.fail("none")).named[TRAINING]).size == (8, 8)


def test_the_shade_of_the_matrix_is_the_share_of_the_true_class(run: Path) -> None:
    matrix = opened((pictures_of(run) or pytest.fail("none")).named[CONFUSION])
    colours = {colour: count for count, colour in matrix.getcolors(1_000_000) or []}
    assert colours[(0x08, 0x4A, 0x90)] > 1000  # all images of each class have one prediction
    assert matrix.width < 500  # a name of 60 letters is cut by Vega


def test_many_classes_are_shown_in_part() -> None:
    num_classes = 200
    confusion = [[0] * num_classes for _ in range(num_classes)]
    few = opened(confusion_png([str(number) for number in range(MOST_CLASSES)], [[1] * MOST_CLASSES] * MOST_CLASSES))
    confusion[150][160] = 5
    many = opened(confusion_png([str(number) for number in range(num_classes)], confusion))
    assert abs(many.width - few.width) < 60


def test_a_run_without_predictions_has_no_pictures(tmp_path: Path) -> None:
    assert pictures_of(tmp_path) is None
