"""Predicting the class of photos."""

from __future__ import annotations

import itertools
import shutil
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from signs_dist.data.images import BadImageError
from signs_dist.inference.parts import CHUNK
from signs_dist.inference.predicting import Prediction
from signs_dist.inference.predicting import predict as predict_batches
from signs_dist.inference.trained_model import TrainedModel, load_model
from tests.inference.runs import make_run


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    return load_model(make_run(tmp_path_factory.mktemp("trained"), "train.epochs=6", "evaluate.batch=5"))


def predict(model: TrainedModel, paths: Iterable[Path], **named: Any) -> Iterator[Prediction]:
    return itertools.chain.from_iterable(predict_batches(model, paths, **named))


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
    rows = predict_batches(model, mixed, skip_bad=False)
    assert [row["path"] for row in next(rows)] == [str(mixed[0])]
    with pytest.raises(BadImageError, match=r"1\.jpg"):
        next(rows)


def test_a_photo_that_cannot_be_read_at_the_start_of_a_batch_ends_it(model: TrainedModel, mixed: list[Path]) -> None:
    with pytest.raises(BadImageError, match=r"1\.jpg"):
        next(predict_batches(model, mixed[1:], skip_bad=False))


def test_a_photo_that_cannot_be_read_is_told_in_its_place(model: TrainedModel, mixed: list[Path]) -> None:
    found = list(predict(model, mixed, skip_bad=True))
    assert [row["path"] for row in found] == [str(path) for path in mixed]
    assert ["error" in row for row in found] == [False, True, False, False, False, True]
    assert found[1].keys() == {"path", "error"}
    whole = [path for path in mixed if path not in (mixed[1], mixed[5])]
    alone = {row["path"]: row["class"] for row in predict(model, whole, skip_bad=False)}
    assert {row["path"]: row["class"] for row in found if "class" in row} == alone


def test_the_most_probable_classes_come_first(model: TrainedModel) -> None:
    path = photos(model)[0]
    (whole,) = predict(model, [path], skip_bad=False)
    (best,) = predict(model, [path], skip_bad=False, top=2)
    ranked = sorted(whole["probabilities"].items(), key=lambda item: -item[1])
    assert list(best["probabilities"].items()) == ranked[:2]
    assert (best["class"], best["probability"]) == ranked[0]


@pytest.mark.parametrize(("batch", "num_threads"), [(1, 1), (4, 3), (64, 2)])
def test_neither_the_batch_nor_the_threads_change_a_class(model: TrainedModel, batch: int, num_threads: int) -> None:
    paths = photos(model)
    found = list(predict(model, paths, skip_bad=False, batch=batch, num_threads=num_threads))
    assert [(row["path"], row["class"]) for row in found] == [
        (row["path"], row["class"]) for row in predict(model, paths, skip_bad=False)
    ]


def test_batches_are_as_large_as_asked(model: TrainedModel) -> None:
    assert [len(rows) for rows in predict_batches(model, photos(model), skip_bad=False, batch=8)] == [8, 4]
    assert [len(rows) for rows in predict_batches(model, photos(model), skip_bad=False)] == [5, 5, 2]


def test_paths_are_taken_a_little_ahead_only(model: TrainedModel) -> None:
    taken = itertools.count()

    def endless() -> Iterator[Path]:
        for path in itertools.cycle(photos(model)):
            next(taken)
            yield path

    rows = predict_batches(model, endless(), skip_bad=False, batch=4)
    next(rows)
    rows.close()
    assert next(taken) <= 4 + 2 * 4 + 2 * CHUNK


def test_threads_that_compute_give_what_one_gives(model: TrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = photos(model) * 3  # 36 photos: two batches in parts, and four photos beside them
    alone = list(predict(model, paths, skip_bad=False, batch=16))
    computed_by: set[str] = set()
    compute = TrainedModel.__call__

    def noted(self: TrainedModel, images: Any) -> Any:
        computed_by.add(f"{threading.current_thread() is threading.main_thread()} {torch.get_num_threads()}")
        return compute(self, images)

    monkeypatch.setattr(TrainedModel, "__call__", noted)
    torch.set_num_threads(2)
    found = list(predict(model, paths, skip_bad=False, batch=16))
    assert computed_by == {"False 1", "True 2"}
    assert torch.get_num_threads() == 2
    assert [(row["path"], row["class"]) for row in found] == [(row["path"], row["class"]) for row in alone]
    assert [row["probability"] for row in found] == pytest.approx([row["probability"] for row in alone], abs=1e-6)
