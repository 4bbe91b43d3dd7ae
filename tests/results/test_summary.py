from __future__ import annotations

import json
from pathlib import Path

import pytest

from signs_dist.results.summary import summarise_run
from signs_dist.run_folder.folder import RunFolder
from signs_dist.run_folder.records import EndLine, EpochLine, Line, StartLine

START = StartLine(attempt=1, time="2026-01-31T12:00:00+00:00", first_step=0, world_size=1, host="node1")


def epoch(number: int, accuracy: float) -> EpochLine:
    return EpochLine(
        epoch=number,
        step=27 * number,
        images=864 * number,
        train_loss=1.0,
        train_accuracy=0.5,
        lr=0.1,
        images_per_second=300.0,
        data_wait_share=0.0,
        val_loss=1 - accuracy,
        val_accuracy=accuracy,
    )


def make_run(path: Path, *lines: Line, result: dict[str, object] | None = None) -> Path:
    folder = RunFolder(path).create()
    folder.write_config("train: {epochs: 5, micro_batch: 8}\nexact: true\n")
    for line in lines:
        folder.add(line)
    if result is not None:
        folder.write_result(result)
    return path


def end(reason: str) -> EndLine:
    return EndLine(attempt=1, time="2026-01-31T12:10:00+00:00", reason=reason, last_step=54)


@pytest.mark.parametrize(
    ("lines", "state", "why"),
    [
        ((), "not begun", ""),
        ((START,), "failed", "killed"),
        ((START, end("SIGTERM")), "stopped", "SIGTERM"),
        ((START, end("ValueError: x")), "failed", "ValueError: x"),
    ],
)
def test_the_state_of_a_run_without_a_result(tmp_path: Path, lines: tuple[Line, ...], state: str, why: str) -> None:
    summary = summarise_run(make_run(tmp_path / "run", *lines))
    assert (summary.state, summary.why) == (state, why)


def test_the_numbers_are_those_of_the_files(tmp_path: Path) -> None:
    path = make_run(
        tmp_path / "run",
        START,
        epoch(1, 0.5),
        epoch(2, 0.75),
        epoch(3, 0.75),
        result={"finished": True, "test_accuracy": 0.7, "data": "photos"},
    )
    summary = summarise_run(path)
    assert summary.state == "finished"
    assert (summary.epoch, summary.num_epochs, summary.step) == (3, 5, 81)
    assert (summary.val_accuracy, summary.best_epoch, summary.val_loss) == (0.75, 2, 0.25)
    assert (summary.test_accuracy, summary.data, summary.where) == (0.7, "photos", "node1")
    assert summary.is_exact


def test_a_folder_with_torn_files_has_a_summary(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", START)
    (path / "config.yaml").write_text("train: [", encoding="utf-8")
    (path / "metrics.jsonl").write_bytes(b"{\x00")
    (path / "result.json").write_text(json.dumps([1]), encoding="utf-8")
    summary = summarise_run(path)
    assert (summary.state, summary.epoch, summary.num_epochs) == ("failed", 0, None)
