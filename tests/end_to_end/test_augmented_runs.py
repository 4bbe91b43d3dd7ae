"""Exact runs with all that changes images, rates and what trains, an average and early stopping, killed and resumed.

The optimizer and the average are in pieces while several processes train, and whole at the start and at the end.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from signs_dist.config.reading import load_config
from signs_dist.environment.process_table import find_descendants
from signs_dist.training.fit import fit
from tests.processes import finish, started, wait_for
from tests.sets import small_run, write_colour_set

pytestmark = pytest.mark.slow

CHANGING = ("images_per_second", "data_wait_share", "stall_seconds", "last_write_seconds")
"""Numbers of metrics.jsonl that tell of the machine, not of the run."""


def settings(root: Path) -> list[str]:
    augmentation = (
        *("augment.mixup=0.4", "augment.cutmix=1", "augment.policy=randaugment", "augment.erase=0.3"),
        *("augment.erase_fill=noise", "augment.crop_scale=[0.5, 1]"),
    )
    ending = (
        "train.patience=1",
        "evaluate.best_by=loss",
        "schedule.name=constant",
        "optim.lr=0.3",
        "evaluate.ten_crop=true",
    )
    saved = ("log.every_steps=1", "checkpoint.every_steps=3", "log.report=false")
    layers = (
        *("model.freeze=backbone", "model.thaw_after_epochs=2"),
        *("optim.layer_decay=0.8", "optim.groups=[{match: head.*, lr: 0.4}]"),
    )
    others = ("exact=true", "loss.class_weights=balanced", "train.micro_batch=4")
    return [*small_run(root, epochs=9, global_batch=12), *augmentation, *layers, *ending, *saved, *others]


def read_result(folder: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return value


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [
        {name: value for name, value in line.items() if name not in CHANGING}
        for line in sorted(lines, key=lambda line: (line["step"], line["kind"] == "state"))
        if line["kind"] != "save"
    ]


def test_one_result_on_1_process_and_on_2_and_3_that_are_killed_before_and_at_the_thaw(tmp_path: Path) -> None:
    root = write_colour_set(tmp_path / "colours", counts={"train": 20, "val": 4})
    for path in sorted((root / "train_signs").glob("0_*"))[8:]:
        path.unlink()  # so that the classes weigh differently
    config = load_config(None, settings(root))
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    fit(config, whole, quiet=True)
    for world_size, step in ((2, 5), (3, 8)):  # the backbone thaws after step 8
        command = [sys.executable, "-m", "launch.local", "--nproc", str(world_size), "--", "--run-dir", "parts"]
        with started([*command, *settings(root), "train.shard_optimizer=true"], tmp_path) as process:
            wait_for(parts / "metrics.jsonl", f'"step": {step},')
            for pid in (process.pid, *find_descendants(process.pid)):
                os.kill(pid, signal.SIGKILL)
            finish(process)
        assert not (parts / "result.json").exists()
    fit(config, parts, quiet=True)
    for name in ("weights_sha256", "val_loss", "val_confusion", "best_epoch", "epochs_trained", "stopped_early"):
        assert read_result(parts)[name] == read_result(whole)[name], name
    assert read_result(whole)["stopped_early"]
    assert read_result(whole)["epochs_trained"] > 3  # some of them after the thaw
    assert read_metrics(parts) == read_metrics(whole)
    for file in ("training-images.png", "training-images.jsonl"):
        assert (parts / file).read_bytes() == (whole / file).read_bytes(), file
    assert "shares" in (whole / "training-images.jsonl").read_text()


def test_one_result_with_images_that_grow_on_2_processes_that_are_killed_and_on_1(tmp_path: Path) -> None:
    root = write_colour_set(tmp_path / "colours", counts={"train": 12, "val": 4})
    network = ("model.name=signs_fast", "model.args={width: 4}", "train.progressive_sizes=[[0.5, 0.33], [0.75, 0.66]]")
    saved = ("exact=true", "log.every_steps=1", "checkpoint.every_steps=2", "log.report=false")
    given = [*small_run(root, epochs=3, global_batch=12), *network, *saved]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    fit(load_config(None, given), whole, quiet=True)
    command = [sys.executable, "-m", "launch.local", "--nproc", "2", "--", "--run-dir", "parts"]
    with started([*command, *given], tmp_path) as process:
        wait_for(parts / "metrics.jsonl", '"step": 5,')  # in the second of 3 epochs of 3 steps, which has 12 pixels
        for pid in (process.pid, *find_descendants(process.pid)):
            os.kill(pid, signal.SIGKILL)
        finish(process)
    fit(load_config(None, given), parts, quiet=True)
    assert read_result(parts)["weights_sha256"] == read_result(whole)["weights_sha256"]
