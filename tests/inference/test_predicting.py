"""Predicting the class of photos."""

from __future__ import annotations

import itertools
import shutil
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from signs_dist.data.images import BadImageError
from signs_dist.inference.predicting import CHUNK, Prediction, decode_ahead
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


def test_decoding_is_in_order_and_in_several_threads() -> None:
    both_run = threading.Barrier(2, timeout=60)
    names: set[str] = set()

    def decode(path: Path) -> Any:
        names.add(threading.current_thread().name)
        if int(path.name) in (0, CHUNK):  # the first of each of the first two chunks wait for each other
            both_run.wait()
        return path.name

    paths = [Path(str(number)) for number in range(5 * CHUNK + 3)]
    found = list(decode_ahead(paths, decode, num_threads=2, num_ahead=2 * CHUNK))
    assert found == [(path, path.name) for path in paths]
    assert len(names) == 2
