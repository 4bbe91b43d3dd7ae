"""A run that is killed and resumed is one curve in each dashboard, without a step twice or missing.

The dashboards are real: signs_dist/tracking/tensorboard.py, signs_dist/tracking/wandb.py, signs_dist/tracking/mlflow.py
and signs_dist/tracking/trackio.py write, and programs with their own libraries read back.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.processes import Ended, run, started, wait_for
from tests.sets import small_run, write_colour_set
from tests.tracking.dashboards import python, variables
from tests.tracking.programs import MLFLOW, TENSORBOARD, TRACKIO, WANDB, ask
from tests.tracking.runs import START, epoch_line, make_run, step_line

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("dashboards")


@pytest.fixture(scope="module")
def colours(folder: Path) -> Path:
    return write_colour_set(folder / "colours", counts={"train": 40, "val": 4})


@pytest.fixture(scope="module")
def resumed(folder: Path, colours: Path) -> Ended:
    """A run that was killed within its second epoch, and resumed; all four dashboards get it."""
    settings = small_run(
        colours,
        "log.every_steps=1",
        "log.to=[tensorboard, wandb, mlflow, trackio]",
        "exact=true",
        epochs=2,
        global_batch=8,
    )
    command, environment = [python(), "-m", "signs_dist.train", "--run-dir", "run", *settings], variables(folder)
    with started(command, folder, environment) as process:
        wait_for(folder / "run" / "metrics.jsonl", '"step": 18')
        os.killpg(process.pid, signal.SIGKILL)
    ended = run(command, folder, environment)
    assert ended.code == 0, ended.err
    return ended


def lines(folder: Path) -> list[dict[str, Any]]:
    every = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    return [line for line in every if line["kind"] in ("step", "epoch")]


def mark(folder: Path, name: str) -> Mapping[str, Any]:
    value: dict[str, Any] = json.loads((folder / "run" / "trackers" / f"{name}.json").read_text())
    return value


def expected(folder: Path) -> list[list[float]]:
    """[step, loss] of each line; exact mode repeats a step with the same loss."""
    points = [[line["step"], line["train_loss"]] for line in lines(folder)]
    assert [step for step, _ in points] == list(range(1, 31))
    return points


def result(folder: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((folder / "run" / "result.json").read_text())
    return value


def test_the_run_tells_that_each_dashboard_has_it(resumed: Ended) -> None:
    for name in ("tensorboard", "wandb", "mlflow", "trackio"):
        assert f"{name} has the run" in resumed.out


def test_tensorboard(resumed: Ended, folder: Path) -> None:
    found = ask(TENSORBOARD, folder / "run" / "tensorboard")
    assert found["points"] == [[step, pytest.approx(loss, rel=1e-6)] for step, loss in expected(folder)]
    assert {"val/loss", "val/accuracy", "lr", "final/val_accuracy"} <= set(found["scalars"])
    assert "global_batch: 8" in found["config"]
    assert {"val/confusion_matrix", "train/images"} <= set(found["pictures"])


def test_weights_and_biases(resumed: Ended, folder: Path) -> None:
    found = ask(WANDB, folder / "wandb-files")
    assert set(found["ids"]) == {mark(folder, "wandb")["run_id"]}
    assert [point[:2] for point in found["points"]] == expected(folder)
    assert [point[2] for point in found["points"] if point[2] is not None] == [
        line["val_loss"] for line in lines(folder) if "val_loss" in line
    ]
    assert found["config"]["train.global_batch"] == 8
    assert found["summary"]["val_accuracy"] == result(folder)["val_accuracy"]
    assert {"val/confusion_matrix", "train/images"} <= set(found["pictures"])


def test_mlflow(resumed: Ended, folder: Path) -> None:
    found = ask(MLFLOW, folder / "mlflow.db")
    assert found["ids"] == [mark(folder, "mlflow")["run_id"]]
    assert found["points"] == expected(folder)
    assert found["status"] == "FINISHED"
    assert found["params"]["train.global_batch"] == "8"
    assert found["final"] == result(folder)["val_accuracy"]
    assert {"result.json", "images"} <= set(found["artifacts"])


def test_trackio(resumed: Ended, folder: Path) -> None:
    found = ask(TRACKIO, folder / "trackio" / "signs_dist.db")
    assert found["ids"] == [mark(folder, "trackio")["run_id"]]
    assert found["points"] == expected(folder)
    assert found["final"] == [result(folder)["val_accuracy"]]
    assert found["config"]["train.global_batch"] == 8


def test_what_trackio_could_not_store_is_told_and_sent_later(tmp_path: Path) -> None:
    """Trackio itself only warns."""
    run_path = make_run(tmp_path / "run", START, step_line(5), epoch_line(10), is_finished=True).path
    (tmp_path / "file").touch()
    command = [python(), "-m", "signs_dist.track", str(run_path), "--to", "trackio"]
    ended = run(command, tmp_path, variables(tmp_path) | {"TRACKIO_DIR": str(tmp_path / "file" / "below")})
    assert ended.code == 1
    assert "trackio: OSError: Trackio has stored nothing." in ended.err
    ended = run(command, tmp_path, variables(tmp_path))
    assert ended.code == 0, ended.err
    found = ask(TRACKIO, tmp_path / "trackio" / "signs_dist.db")
    assert [step for step, _ in found["points"]] == [5, 10]
    assert len(found["final"]) == 1
