"""Run folders for tests, made without training."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
from pathlib import Path
from typing import Any

from signs_dist.run_folder.folder import RunFolder
from signs_dist.run_folder.holder import Holder
from signs_dist.run_folder.lease import NAME as LEASE
from signs_dist.run_folder.records import EndLine, EpochLine, Line, StartLine, StepLine

HOST = platform.node()


def start(number: int = 1, **fields: Any) -> StartLine:
    values = {"time": f"2026-01-31T12:0{number}:00+00:00", "first_step": 0, "world_size": 1, "host": "node1"}
    return StartLine(**{"attempt": number, **values, **fields})


def end(reason: str, number: int = 1) -> EndLine:
    return EndLine(attempt=number, time="2026-01-31T12:10:00+00:00", reason=reason, last_step=54)


def epoch(number: int, accuracy: float | None, **fields: Any) -> EpochLine:
    values = {
        **{"step": 27 * number, "images": 864 * number, "train_loss": 1.0 / number, "train_accuracy": 0.5, "lr": 0.1},
        **{"images_per_second": 100.0, "data_wait_share": 0.0},
        **({} if accuracy is None else {"val_loss": 1 - accuracy, "val_accuracy": accuracy}),
    }
    return EpochLine(**{"epoch": number, **values, **fields})


def step(number: int, epoch: int) -> StepLine:
    return StepLine(
        epoch=epoch,
        step=number,
        images=32 * number,
        train_loss=1.0,
        train_accuracy=0.5,
        lr=0.1,
        images_per_second=100.0,
        data_wait_share=0.0,
    )


def make_run(path: Path, *lines: Line, result: dict[str, object] | None = None, config: str = "") -> Path:
    folder = RunFolder(path).create()
    folder.write_config(config or "train: {epochs: 5, micro_batch: 8}\nexact: true\n")
    for line in lines:
        folder.add(line)
    if result is not None:
        folder.write_result({"finished": True} | result)
    return path


def make_finished(path: Path, accuracy: float = 0.75, **fields: Any) -> Path:
    return make_run(path, start(**fields), epoch(5, accuracy), end("finished"), result={"data": "photos"})


def hold(path: Path, *, elsewhere: bool = False) -> Path:
    """Write the lease that a process holds: this one, or one of another machine. Returns its file."""
    holder = Holder.here(HOST, os.getpid())
    if elsewhere:
        holder = dataclasses.replace(holder, machine="node7 boot pid:[1]", host="node7")
    (path / LEASE).write_text(json.dumps(dataclasses.asdict(holder)), encoding="utf-8")
    return path / LEASE


def hold_dead(path: Path) -> None:
    """Write the lease of a process of this machine that is gone."""
    holder = dataclasses.replace(Holder.here(HOST, os.getpid()), born="1")
    (path / LEASE).write_text(json.dumps(dataclasses.asdict(holder)), encoding="utf-8")
