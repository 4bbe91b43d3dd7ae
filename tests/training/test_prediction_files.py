"""The files of predictions that a run leaves: of its best epoch so far, and at its end of the weights of model.pt."""

from __future__ import annotations

import errno
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from signs_dist.data.plan import Shard
from signs_dist.errors import SaveError, TrainingFailedError
from signs_dist.learning.probabilities import KeptProbabilities
from signs_dist.results.predictions import Prediction, PredictionsHeader, predictions_path, read_predictions
from signs_dist.run_folder.folder import RunFolder
from signs_dist.training import prediction_files
from signs_dist.training.prediction_files import PredictionFiles, drop_later_predictions
from signs_dist.training.trainer import Trainer
from tests.training.parts import Made, make_process, make_silent, make_stepper, make_trainer, shown

ABOUT = {"epoch": 1, "step": 4, "weights": "best"}


def read(folder: RunFolder, split: str = "val") -> tuple[PredictionsHeader, list[Prediction]]:
    return read_predictions(predictions_path(folder.path, split)) or pytest.fail(f"no predictions of {split}")


def confusion(images: list[Prediction]) -> list[list[int]]:
    counts = [[0] * 3 for _ in range(3)]
    for image in images:
        counts[image.label][image.predicted] += 1
    return counts


def files_of(made: Made, process: Any = None, *, stops_on_error: bool = True) -> PredictionFiles:
    data = made.stepper.prepared.data
    return PredictionFiles(made.folder, data, process or made.process, stops_on_error=stops_on_error)


def evaluated(made: Made) -> KeptProbabilities:
    kept = KeptProbabilities(3)
    made.stepper.evaluate("val", kept)
    return kept


def test_a_finished_run_has_the_predictions_of_its_final_weights(tmp_path: Path) -> None:
    made = make_trainer(tmp_path, "evaluate.batch=5")
    result = made.trainer.train(time.perf_counter())
    index = made.stepper.prepared.data.splits
    for split in ("val", "test"):
        header, images = read(made.folder, split)
        assert header == PredictionsHeader(
            split=split,
            classes=("0", "1", "2"),
            epoch=2,
            step=8,
            weights="last",
            root=str((tmp_path / "colours").resolve()),
        )
        assert [image.file for image in images] == list(index[split].paths)
        assert confusion(images) == result[f"{split}_confusion"]
        assert all(sum(image.probabilities.values()) == pytest.approx(1, abs=1e-5) for image in images)


def test_before_its_end_a_run_has_those_of_its_best_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_trainer(tmp_path, "train.epochs=3")
    monkeypatch.setattr(Trainer, "_finish", lambda *arguments: {})
    made.trainer.train(time.perf_counter())
    header, images = read(made.folder)
    best = made.run_state.best
    assert best is not None
    assert (header.weights, header.epoch, header.step) == ("best", best.epoch, 4 * best.epoch)
    assert sum(image.is_right for image in images) / len(images) == best.accuracy
    assert not predictions_path(made.folder.path, "test").exists()


@pytest.mark.parametrize("loss", ["cross_entropy", "bce", "mse", "l1"])
def test_probabilities_are_those_of_the_evaluation_for_every_loss(tmp_path: Path, loss: str) -> None:
    settings = (f"loss.name={loss}", "evaluate.flip_average=true", "train.precision=float32", "ema.decay=0.9")
    made = make_trainer(tmp_path, *settings)
    kept = evaluated(made)
    batch = next(iter(made.stepper.evaluation_loaders["val"]))
    images, _ = made.stepper.prepare_evaluation(batch)
    model = made.stepper.state.model.eval()
    with torch.no_grad():
        expected = ((model(images) + model(images.flip(3))) / 2).softmax(dim=1)
    assert kept.table().values == pytest.approx(expected.numpy(), abs=1e-6)


def test_processes_write_one_file_in_the_order_of_the_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_trainer(tmp_path)
    files_of(made).write("val", evaluated(made), ABOUT)
    alone = predictions_path(made.folder.path, "val").read_bytes()
    tables = []
    for rank in range(4):  # batches of 5: the fourth process has no image
        process = make_process()
        process.strategy.shard = Shard(rank, 4)
        stepper, _ = make_stepper(tmp_path, "evaluate.batch=5", "train.micro_batch=2", process=process)
        kept = KeptProbabilities(3)
        stepper.evaluate("val", kept)
        tables.append(kept.table())
    assert [len(table.values) for table in tables] == [5, 5, 2, 0]
    monkeypatch.setattr(made.process.strategy, "gather_values", lambda value, phase: tables)
    files_of(made).write("val", evaluated(made), ABOUT)
    assert predictions_path(made.folder.path, "val").read_bytes() == alone


def test_one_process_writes(tmp_path: Path) -> None:
    made = make_trainer(tmp_path, process=make_silent(make_process()))
    files_of(made).write("val", evaluated(made), ABOUT)
    assert not predictions_path(made.folder.path, "val").exists()


def test_nothing_is_written_into_a_folder_that_was_taken_over(tmp_path: Path) -> None:
    made = make_trainer(tmp_path)

    def refuse() -> None:
        raise TrainingFailedError("another run")

    made.folder.require_held = refuse
    with pytest.raises(TrainingFailedError, match="another run"):
        files_of(made).write("val", evaluated(made), ABOUT)
    assert not predictions_path(made.folder.path, "val").exists()


def test_names_that_are_not_utf_8_are_escaped(tmp_path: Path) -> None:
    path = tmp_path / "predictions-val.jsonl"
    prediction_files.write_predictions(path, '{"file": "\udcff"}\n')
    assert path.read_text() == '{"file": "\\udcff"}\n'


def test_a_full_disk_ends_the_run_or_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_trainer(tmp_path, process=make_process(quiet=False))
    files_of(made).write("val", evaluated(made), ABOUT)
    before = predictions_path(made.folder.path, "val").read_bytes()

    def fail(path: Path, text: str) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(prediction_files, "write_predictions", fail)
    with pytest.raises(SaveError, match=r"cannot write .*predictions-val.jsonl: Input/output error"):
        files_of(made).write("val", evaluated(made), {**ABOUT, "epoch": 2})
    files_of(made, stops_on_error=False).write("val", evaluated(made), {**ABOUT, "epoch": 2})
    assert "Training continues without these predictions." in shown(made.process)
    assert predictions_path(made.folder.path, "val").read_bytes() == before


@pytest.mark.parametrize(("num_steps", "stays"), [(3, False), (4, True), (5, True)])
def test_predictions_of_steps_that_are_trained_again_are_removed(tmp_path: Path, num_steps: int, stays: bool) -> None:
    made = make_trainer(tmp_path)
    files_of(made).write("val", evaluated(made), ABOUT)
    drop_later_predictions(made.folder, num_steps)
    assert predictions_path(made.folder.path, "val").exists() == stays


def test_a_run_that_is_trained_further_keeps_the_earlier_predictions(tmp_path: Path) -> None:
    made = make_trainer(tmp_path)
    made.trainer.train(time.perf_counter())
    names = [path.name for path in made.folder.set_result_aside()]
    assert names == [
        *("result-2-epochs.json", "model-2-epochs.pt"),
        *("predictions-val-2-epochs.jsonl", "predictions-test-2-epochs.jsonl"),
    ]
