"""A killed run compared with the uninterrupted run: every loss is seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from signs_dist.rehearsal.verdicts import compare_with_whole, describe_verdicts
from signs_dist.run_folder.folder import RunFolder
from signs_dist.run_folder.sample_log import SampleLog
from tests.lines import save_line, state_line, step_line


def make_run(folder: Path, **changes: Any) -> RunFolder:
    run = RunFolder(folder).create()
    for step in (1, 2):
        SampleLog(run.logs, 0).write(1, step, 0, changes.get("samples", {}).get(step, [step, step + 10]))
        run.add(step_line(step, train_loss=changes.get("loss", 1.0), images_per_second=float(len(str(folder)))))
    for line in changes.get("more_lines", ()):
        run.add(line)
    run.add(save_line(2, stall_seconds=float(len(str(folder)))))
    numbers = {"weights_sha256": "a" * 64, "val_loss": 1.0, "val_confusion": [], "best_epoch": 1, "steps": 2}
    run.write_result({**numbers, **changes.get("result", {})})
    (run.path / "predictions-val.jsonl").write_text(changes.get("predictions", "the same"))
    for name in changes.get("files", ()):
        (run.checkpoints / name).touch()
    return run


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, None),
        ({"samples": {2: [2, 13]}}, "other samples at 1 steps, first at epoch 1 step 2"),
        ({"samples": {2: [1, 12]}}, "samples repeated at epoch 1 step 2"),
        ({"loss": 1.0000001}, 'other metrics: {"kind": "step", "epoch": 1, "step": 1, "images": 8, "train_loss": 1.0'),
        ({"more_lines": [step_line(3)]}, "other metrics: 2 lines → 3"),
        ({"more_lines": [state_line(2)]}, "other metrics: 2 lines → 3"),
        ({"result": {"weights_sha256": "b" * 64}}, f"weights_sha256: {'a' * 64} → {'b' * 64}"),
        ({"result": {"stopped_early": True}}, "stopped_early: None → True"),
        ({"predictions": "others"}, "other predictions: predictions-val.jsonl"),
        ({"files": ["epoch-0001.pt.broken"]}, "checkpoints that could not be read: epoch-0001"),
        ({"files": ["epoch-0002.pt"]}, "epoch-0002.pt is broken: epoch-0002.pt.sha256 does not exist."),
    ],
)
def test_a_loss_is_seen(tmp_path: Path, changes: Any, told: str | None) -> None:
    whole, killed = make_run(tmp_path / "whole"), make_run(tmp_path / "killed", **changes)
    verdict = compare_with_whole(whole, killed, 1, is_balanced=False)
    text = describe_verdicts([verdict], 5)
    if told is None:
        assert verdict.differences == []
        assert "2 steps: samples, metrics, weights equal" in text
        assert text.endswith("PASS: 5 kills, 1 run, nothing lost")
    else:
        assert told in text
        assert text.endswith("FAIL: 5 kills, 1 of 1 run differ")


def test_a_balanced_order_may_repeat_samples(tmp_path: Path) -> None:
    whole, killed = (make_run(tmp_path / name, samples={2: [1, 12]}) for name in ("whole", "killed"))
    assert compare_with_whole(whole, killed, 1, is_balanced=True).differences == []
    assert compare_with_whole(whole, killed, 1, is_balanced=False).differences == ["samples repeated at epoch 1 step 2"]


def test_the_line_of_a_state_may_come_late_and_must_be_equal(tmp_path: Path) -> None:
    one, late, other = (RunFolder(tmp_path / name).create() for name in ("one", "late", "other"))
    lines = {
        one: [step_line(1), state_line(1), step_line(2)],
        late: [step_line(1), step_line(2), state_line(1)],
        other: [step_line(1), state_line(1, chain="f" * 64), step_line(2)],
    }
    for folder, written in lines.items():
        for line in written:
            folder.add(line)
        numbers = {"weights_sha256": "a" * 64, "val_loss": 1.0, "val_confusion": [], "best_epoch": 1, "steps": 2}
        folder.write_result(numbers)
    assert compare_with_whole(one, late, 1, is_balanced=False).differences == []
    (difference,) = compare_with_whole(one, other, 1, is_balanced=False).differences
    assert difference.startswith('other metrics: {"kind": "state", "epoch": 1, "step": 1')
