"""The end of a run: its weights, its numbers, its tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from signs_dist.checkpointing.store import Cursor
from signs_dist.learning.metrics import Score
from signs_dist.models.trainable import count_parameters
from signs_dist.training.final_weights import FinalWeights
from signs_dist.training.result import best_text, make_result, show_result
from signs_dist.training.run_state import Best
from tests.training.parts import make_process, make_trainer, shown

SCORES = {
    "val": Score(6.0, np.array([[4, 0, 0], [1, 3, 0], [0, 0, 4]])),
    "test": Score(12.0, np.array([[4, 0, 0], [0, 4, 0], [0, 2, 2]])),
}


def test_the_result_is_plain_json_with_what_a_reader_looks_for(tmp_path: Path) -> None:
    made = make_trainer(tmp_path, "seed=7", "train.precision=float32")
    made.run_state.cursor = Cursor(2, 0)
    made.run_state.best = Best(1, 0.9, 0.4, 0.88)
    result = make_result(
        made.stepper,
        made.run_state,
        made.process,
        SCORES,
        FinalWeights("last", 2, 8),
        train_seconds=61.23456,
        total_seconds=70.0,
        images_per_second=None,
        weights_sha256="abc",
    )
    read = json.loads(json.dumps(result, allow_nan=False))
    assert read == result
    assert (read["finished"], read["data"], read["classes"]) == (True, str(tmp_path / "colours"), ["0", "1", "2"])
    assert read["split_sizes"] == {"train": 36, "val": 12, "test": 12}
    assert (read["val_correct"], read["val_images"], read["val_loss"]) == (11, 12, 0.5)
    assert (read["test_accuracy"], read["test_confusion"][2]) == (10 / 12, [0, 2, 2])
    assert (read["best_epoch"], read["best_by"]) == (1, "accuracy")
    assert (read["best_val_accuracy"], read["best_val_loss"], read["best_val_macro_f1"]) == (0.9, 0.4, 0.88)
    assert read["val_macro_f1"] == SCORES["val"].macro_f1
    assert read["weights"] == {"kind": "last", "epoch": 2}
    assert (read["epochs"], read["epochs_trained"], read["stopped_early"]) == (2, 2, False)
    assert (read["steps"], read["seed"]) == (8, 7)
    assert (read["train_seconds"], read["total_seconds"], read["images_per_second"]) == (61.235, 70.0, None)
    assert (read["world_size"], read["strategy"], read["device"]) == (1, "single", "cpu")
    assert (read["exact"], read["micro_batch"], read["precision"], read["model"]) == (False, 8, "float32", "mlp")
    assert read["num_parameters"] == count_parameters(made.stepper.state.model)[0]
    assert read["weights_sha256"] == "abc"


ENDED = {
    "classes": ["a", "b", "c"],
    "data": "photos",
    "images_per_second": 1234.5,
    "train_seconds": 185.0,
    "best_epoch": 3,
    "best_by": "accuracy",
    "best_val_accuracy": 0.917,
    "best_val_loss": 0.25,
    "best_val_macro_f1": 0.9,
    "weights": {"kind": "last", "epoch": 5},
    "epochs": 5,
    "epochs_trained": 5,
    "stopped_early": False,
}


def test_the_closing_lines(tmp_path: Path) -> None:
    process = make_process(quiet=False)
    made = make_trainer(tmp_path, process=process)
    show_result(process, ENDED, SCORES, made.folder)
    lines = shown(process).splitlines()
    assert "val of photos" in lines
    assert any(line.startswith("val accuracy 91.7 % (11/12 photos images") for line in lines)
    assert any(line.startswith("test accuracy 83.3 % (10/12 photos images") for line in lines)
    assert lines[-3:] == [
        "trained in 3 min 05 s at 1,234 images/s; best epoch 3 (91.7 %)",
        "model.pt holds the weights of epoch 5, the last; train.final_weights=best keeps the best",
        f"everything is in {made.folder.path}",
    ]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"images_per_second": None, "train_seconds": 5.0}, "trained in 5.0 s; best epoch 3 (91.7 %)"),
        (
            {"stopped_early": True, "epochs": 9},
            "trained 5 of 9 epochs in 3 min 05 s at 1,234 images/s; best epoch 3 (91.7 %)",
        ),
        ({"weights": {"kind": "best", "epoch": 3}}, "model.pt holds the weights of epoch 3, the best"),
        ({"best_epoch": 5}, "model.pt holds the weights of epoch 5, the last and the best"),
    ],
)
def test_what_the_closing_lines_say_of_the_run(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    process = make_process(quiet=False)
    made = make_trainer(tmp_path, process=process)
    show_result(process, ENDED | changes, {}, made.folder)
    assert told in shown(process).splitlines()


@pytest.mark.parametrize(
    ("best_by", "told"),
    [("accuracy", "3 (91.7 %)"), ("loss", "3 (loss 0.2500)"), ("macro_f1", "3 (macro F1 0.900)")],
)
def test_the_best_epoch_is_told_with_the_number_that_made_it_the_best(best_by: str, told: str) -> None:
    assert best_text(ENDED | {"best_by": best_by}) == told
    assert best_text(ENDED | {"best_by": "loss", "best_val_loss": None}) == "3 (loss nan)"
