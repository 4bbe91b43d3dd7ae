"""Predicting the class of photos."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

from signs_dist.data.images import BadImageError
from signs_dist.inference.predicting import predict
from signs_dist.inference.trained_model import TrainedModel, load_model
from tests.inference.runs import make_run


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    return load_model(make_run(tmp_path_factory.mktemp("trained"), "train.epochs=6", "evaluate.batch=5"))


def photos(model: TrainedModel, split: str = "val") -> list[Path]:
    return sorted((model.folder.path.parent / "colours" / f"{split}_signs").iterdir())


def test_each_photo_has_its_class_and_its_probabilities(model: TrainedModel) -> None:
    paths = photos(model)[::-1]  # 12 photos, in batches of 5, in the order given
    found = list(predict(model, paths, skip_bad=False))
    assert [row["path"] for row in found] == [str(path) for path in paths]
    for row in found:
        assert row.keys() == {"path", "class", "probability", "probabilities"}
        assert list(row["probabilities"]) == ["0", "1", "2"]
        assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert row["probability"] == max(row["probabilities"].values()) == row["probabilities"][row["class"]]
    assert sum(row["class"] == Path(row["path"]).name[0] for row in found) >= 9


def test_photos_of_any_size_and_kind(model: TrainedModel, tmp_path: Path) -> None:
    Image.new("RGB", (300, 200), (40, 200, 40)).save(tmp_path / "large.png")
    Image.new("L", (16, 16), 128).save(tmp_path / "grey.jpg")
    found = list(predict(model, [tmp_path / "large.png", tmp_path / "grey.jpg"], skip_bad=False))
    assert all(row["class"] in model.classes for row in found)


def test_no_photos_give_no_predictions(model: TrainedModel) -> None:
    assert list(predict(model, [], skip_bad=False)) == []


@pytest.fixture
def mixed(model: TrainedModel, tmp_path: Path) -> list[Path]:
    """Six photos of which the second and the sixth, alone in its batch, cannot be read."""
    paths = []
    for number, photo in enumerate(photos(model)[:6]):
        paths.append(tmp_path / f"{number}.jpg")
        shutil.copyfile(photo, paths[-1])
    for broken in (paths[1], paths[5]):
        broken.write_bytes(b"no photo")
    return paths


def test_a_photo_that_cannot_be_read_ends_it(model: TrainedModel, mixed: list[Path]) -> None:
    with pytest.raises(BadImageError, match=r"1\.jpg"):
        list(predict(model, mixed, skip_bad=False))


def test_a_photo_that_cannot_be_read_is_told_in_its_place(model: TrainedModel, mixed: list[Path]) -> None:
    found = list(predict(model, mixed, skip_bad=True))
    assert [row["path"] for row in found] == [str(path) for path in mixed]
    assert ["error" in row for row in found] == [False, True, False, False, False, True]
    assert found[1].keys() == {"path", "error"}
    whole = [path for path in mixed if path not in (mixed[1], mixed[5])]
    alone = {row["path"]: row["class"] for row in predict(model, whole, skip_bad=False)}
    assert {row["path"]: row["class"] for row in found if "class" in row} == alone
