"""All that a report shows of one run, read from its folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from signs_dist.errors import UserError
from signs_dist.monitoring.failure_card import FailureCard
from signs_dist.reporting.content import read_content
from signs_dist.run_folder.holder import Holder
from tests.reporting.run_folders import NAMES, write_run


def test_a_finished_run(one_run: Path) -> None:
    content = read_content(one_run)
    assert (content.name, content.summary.state, content.classes) == ("signs-1", "finished", list(NAMES))
    assert [line.epoch for line in content.epochs] == list(range(1, 31))
    assert len(content.steps) == 60
    assert list(content.predictions) == ["val"]
    assert content.training_labels[:2] == [("train/0.png", "cat"), ("train/1.png", "dog")]
    assert content.card == ""


def test_what_is_missing_or_torn_is_left_out(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", epochs=2, is_finished=False)
    (run / "manifest.json").write_text("{")
    (run / "predictions-val.jsonl").write_text("torn")
    (run / "training-images.png").unlink()
    (run / "training-images.jsonl").write_text('{"file": "a.png", "label": 77}\n')
    content = read_content(run)
    assert (content.manifest, content.predictions, content.training_images, content.classes) == ({}, {}, None, [])
    assert content.training_labels == [("a.png", "77")]


def test_the_card_of_a_failed_run_is_rendered(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", epochs=2, is_finished=False, end="RuntimeError: boom")
    card = FailureCard(1, 2, "node7", "cpu", "", "train", 2, 30, "RuntimeError: boom", "loop.py:88", "error", 1.0, 1, 1)
    (run / "logs" / "failure-rank1.json").write_text(card.to_json())
    content = read_content(run)
    assert content.summary.state == "failed"
    assert "rank 1 of 2 failed" in content.card
    assert "RuntimeError: boom" in content.card


@pytest.mark.parametrize(("is_ended", "state"), [(False, "running"), (True, "stopped")])
def test_the_process_that_holds_the_folder_says_that_its_attempt_has_ended(
    tmp_path: Path, is_ended: bool, state: str
) -> None:
    run = write_run(tmp_path / "a", epochs=2, is_finished=False, end="SIGTERM")
    holder = Holder.here(os.uname().nodename, os.getpid())
    fields = ", ".join(f'"{name}": {value!r}'.replace("'", '"') for name, value in vars(holder).items())
    (run / "lease.json").write_text(f"{{{fields}}}")
    assert read_content(run, is_ended=is_ended).summary.state == state


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a run folder"):
        read_content(tmp_path)


def test_mixed_training_images_are_told_with_their_shares(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", epochs=2)
    classes = read_content(run).classes
    lines = ['{"file": "a.png", "label": 1}', '{"file": "b.png", "label": 1, "shares": {"0": 0.7, "1": 0.3}}']
    (run / "training-images.jsonl").write_text("\n".join(lines) + "\n")
    text = f"{classes[0]} 70% + {classes[1]} 30%"
    assert read_content(run).training_labels == [("a.png", classes[1]), ("b.png", text)]
