"""examples/own_project/ as a user has it: copied elsewhere, on 1 and 2 processes, stopped and resumed, evaluated."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.processes import REPOSITORY, Ended, run

PROJECT = REPOSITORY / "examples" / "own_project"
PARTS = ("shapes.images", "shapes.network", "shapes.training")
"""examples.own_project.shapes.images, examples.own_project.shapes.network, examples.own_project.shapes.training"""
TRAIN = ["-m", "signs_dist.train", "--config", "config.yaml", "train.epochs=4", "log.report=false", "--run-dir"]
STOPPED = """
import os, signal, sys
from signs_dist.training.trainer import Trainer
after_step = Trainer._after_step
def stopping(trainer, sums):
    if trainer._run_state.steps_done == 7:
        os.kill(os.getpid(), signal.SIGTERM)
    after_step(trainer, sums)
Trainer._after_step = stopping
from signs_dist.train import main
from signs_dist.console.command import run_command
sys.argv[0] = "train"
sys.exit(run_command(main))
"""
"""A training that gets SIGTERM after its seventh step, in its second epoch."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own") / "project"
    shutil.copytree(PROJECT, folder, ignore=shutil.ignore_patterns("__pycache__", "runs", "data"))
    return folder


@pytest.fixture(scope="module")
def expected(project: Path) -> dict[str, Any]:
    return result(run([sys.executable, *TRAIN, "runs/one"], project), project / "runs" / "one")


def result(ended: Ended, run_path: Path) -> dict[str, Any]:
    assert ended.code == 0, ended.err
    found: dict[str, Any] = json.loads((run_path / "result.json").read_text())
    return found


@pytest.mark.slow
def test_a_run_leaves_what_its_own_code_computed(expected: dict[str, Any], project: Path) -> None:
    assert expected["classes"] == ["circle", "cross", "ring", "square"]
    assert 0 <= expected["val_metrics"]["top_two"] <= 1
    lines = [json.loads(line) for line in (project / "runs/one/metrics.jsonl").read_text().splitlines()]
    epochs = [line for line in lines if line["kind"] == "epoch"]
    assert [set(line["val_metrics"]) for line in epochs] == [{"top_two"}] * 4
    assert epochs[-1]["val_metrics"] == expected["val_metrics"]
    files = json.loads((project / "runs/one/manifest.json").read_text())["code"]["files"]
    assert {name: Path(files[name]["path"]) for name in PARTS} == {
        name: project / f"{name.replace('.', '/')}.py" for name in PARTS
    }


@pytest.mark.slow
def test_two_processes_that_are_stopped_and_one_that_resumes_give_the_same(
    expected: dict[str, Any], project: Path
) -> None:
    (project / "stopping.py").write_text(STOPPED)
    stopped = run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "stopping.py"),
            *(*TRAIN[2:], "runs/stopped"),
        ],
        project,
    )
    assert stopped.code != 0
    assert "saved in runs/stopped" in stopped.out, stopped.err
    starts = [json.loads(line) for line in (project / "runs/stopped/attempts.jsonl").read_text().splitlines()]
    assert starts[0]["world_size"] == 2
    assert 7 <= starts[-1]["last_step"] < 20
    resumed = result(run([sys.executable, *TRAIN, "runs/stopped"], project), project / "runs" / "stopped")
    for name in ("weights_sha256", "val_metrics", "val_confusion"):
        assert resumed[name] == expected[name]


def test_the_reader_gives_the_same_image_for_the_same_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PROJECT))
    from shapes.images import SHAPES, Shapes  # type: ignore[import-not-found]

    reader = Shapes(train=2, val=1)
    listed = list(reader.images())
    assert len(listed) == 3 * len(SHAPES)
    assert listed[0] == ("train/circle/0000", "circle", "train")
    assert (reader.read("train/ring/0001") == Shapes().read("train/ring/0001")).all()
    assert reader.read("train/ring/0001").shape == (32, 32, 3)
