"""The end of a run: its weights, its numbers, its tables."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from signs_dist.checkpointing.store import Cursor
from signs_dist.learning.metrics import Score
from signs_dist.models.trainable import count_parameters
from signs_dist.training.result import final_weights, make_result, show_result
from signs_dist.training.run_state import Best
from tests.training.parts import make_process, make_stepper, make_trainer, shown

SCORES = {
    "val": Score(6.0, np.array([[4, 0, 0], [1, 3, 0], [0, 0, 4]])),
    "test": Score(12.0, np.array([[4, 0, 0], [0, 4, 0], [0, 2, 2]])),
}


def test_the_final_weights_are_a_copy_on_the_cpu(tmp_path: Path) -> None:
    stepper, _ = make_stepper(tmp_path, "model.name=signs_net")
    weights = final_weights(stepper)
    own = stepper.state.model.state_dict()
    assert weights.keys() == {name for name in own if not name.endswith("num_batches_tracked")} | (
        weights.keys() & own.keys()
    )
    for name, tensor in weights.items():
        assert torch.equal(tensor, own[name])
        assert tensor.is_contiguous()
        assert tensor.data_ptr() != own[name].data_ptr()


def test_the_final_weights_are_the_average_where_there_is_one(tmp_path: Path) -> None:
    stepper, _ = make_stepper(tmp_path, "ema.decay=0.9", "optim.lr=0.5")
    for _ in stepper.steps(Cursor(0, 0)):
        pass
    average = stepper.state.average
    assert average is not None
    weights, last = final_weights(stepper), stepper.state.model.state_dict()
    assert all(torch.equal(tensor, average.weights()[name]) for name, tensor in weights.items())
    assert any(not torch.equal(tensor, last[name]) for name, tensor in weights.items())


def test_the_result_is_plain_json_with_what_a_reader_looks_for(tmp_path: Path) -> None:
    made = make_trainer(tmp_path, "seed=7", "train.precision=float32")
    made.run_state.cursor = Cursor(2, 0)
    made.run_state.best = Best(1, 0.9, 0.4)
    result = make_result(
        made.stepper,
        made.run_state,
        made.process,
        SCORES,
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
    assert (read["best_epoch"], read["best_val_accuracy"]) == (1, 0.9)
    assert (read["epochs"], read["steps"], read["seed"]) == (2, 8, 7)
    assert (read["train_seconds"], read["total_seconds"], read["images_per_second"]) == (61.235, 70.0, None)
    assert (read["world_size"], read["strategy"], read["device"]) == (1, "single", "cpu")
    assert (read["exact"], read["micro_batch"], read["precision"], read["model"]) == (False, 8, "float32", "mlp")
    assert read["num_parameters"] == count_parameters(made.stepper.state.model)[0]
    assert read["weights_sha256"] == "abc"


def test_the_closing_lines(tmp_path: Path) -> None:
    process = make_process(quiet=False)
    made = make_trainer(tmp_path, process=process)
    result = {
        "classes": ["a", "b", "c"],
        "data": "photos",
        "images_per_second": 1234.5,
        "train_seconds": 185.0,
        "best_epoch": 3,
        "best_val_accuracy": 0.917,
    }
    show_result(process, result, SCORES, made.folder)
    lines = shown(process).splitlines()
    assert "val of photos" in lines
    assert any(line.startswith("val accuracy 91.7 % (11/12 photos images") for line in lines)
    assert any(line.startswith("test accuracy 83.3 % (10/12 photos images") for line in lines)
    assert lines[-2:] == [
        "trained in 3 min 05 s at 1,234 images/s; best epoch 3 (91.7 %)",
        f"everything is in {made.folder.path}",
    ]


def test_a_run_without_a_step_of_its_own_has_no_speed(tmp_path: Path) -> None:
    process = make_process(quiet=False)
    made = make_trainer(tmp_path, process=process)
    result = {"classes": ["a", "b", "c"], "data": "photos", "images_per_second": None, "train_seconds": 5.0}
    show_result(process, {**result, "best_epoch": 1, "best_val_accuracy": 0.5}, {}, made.folder)
    assert "\ntrained in 5.0 s; best epoch 1 (50.0 %)\n" in shown(process)
