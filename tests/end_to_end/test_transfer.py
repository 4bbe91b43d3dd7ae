"""A thaw, layer-wise rates and gradient checkpointing on several processes, killed and resumed: one result."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from signs_dist.environment.process_table import find_descendants
from tests.processes import finish, run, started, train_command, wait_for
from tests.sets import small_run, write_colour_set

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_colour_set(tmp_path_factory.mktemp("colours"), counts={"train": 17, "val": 5})


def settings(root: Path, *more: str) -> list[str]:
    """3 steps an epoch, of 8 micro-batches; the backbone thaws after step 3."""
    thaw = ("model.freeze=backbone", "model.thaw_after_epochs=1")
    return small_run(root, *thaw, *more, epochs=3, global_batch=16)


def launch(world_size: int, *arguments: str) -> list[str]:
    if world_size == 1:
        return train_command(*arguments)
    return [sys.executable, "-m", "launch.local", "--nproc", str(world_size), "--", *arguments]


def result(folder: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return value


def test_one_result_on_1_to_3_processes_killed_before_and_after_the_thaw(colours: Path, tmp_path: Path) -> None:
    rates = ("optim.layer_decay=0.7", "optim.groups=[{match: head.*, lr: 0.2}]", "optim.lr=0.05")
    often = ("log.every_steps=1", "checkpoint.every_steps=1")
    arguments = settings(colours, "exact=true", *rates, *often)
    ended = run(train_command("--run-dir", "whole", *arguments), tmp_path)
    assert ended.code == 0, ended.err
    assert "of them trainable in the first epoch" in ended.out
    for world_size, step in ((3, 2), (2, 5)):
        with started(launch(world_size, "--run-dir", "run", *arguments), tmp_path) as process:
            wait_for(tmp_path / "run" / "metrics.jsonl", f'"step": {step},')
            for pid in (process.pid, *find_descendants(process.pid)):
                os.kill(pid, signal.SIGKILL)
            finish(process)
    ended = run(launch(1, "--run-dir", "run", *arguments), tmp_path)
    assert ended.code == 0, ended.err
    for name in ("weights_sha256", "val_loss", "best_epoch"):
        assert result(tmp_path / "run")[name] == result(tmp_path / "whole")[name], name


def test_in_fast_mode_two_processes_sum_the_gradients_of_what_has_thawed(colours: Path, tmp_path: Path) -> None:
    for world_size in (1, 2):
        arguments = settings(colours, "train.precision=float32", "optim.lr=0.05", "train.epochs=2")
        ended = run(launch(world_size, "--run-dir", f"w{world_size}", *arguments), tmp_path)
        assert ended.code == 0, ended.err
    losses = [result(tmp_path / f"w{world_size}")["val_loss"] for world_size in (1, 2)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
