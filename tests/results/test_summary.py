from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from signs_dist.errors import UserError
from signs_dist.monitoring.beats import Beat, Identity, Work, beat_path
from signs_dist.results.summary import summarise_run, takeover_seconds
from signs_dist.run_folder.records import Line
from tests.results.runs import end, epoch, hold, hold_dead, make_run, start, step

START = start()


@pytest.mark.parametrize(
    ("lines", "state", "why"),
    [
        ((), "not begun", ""),
        ((START,), "failed", "killed"),
        ((START, end("SIGTERM")), "stopped", "SIGTERM"),
        ((START, end("ValueError: x")), "failed", "ValueError: x"),
        ((START, end("ValueError: x\ny")), "failed", "ValueError: x"),
        ((START, end("stopped by SIGTERM after epoch 3")), "stopped", "stopped by SIGTERM after epoch 3"),
        ((START, end("StoppedError: stopped by Ctrl-C after epoch 3")), "stopped", "stopped by Ctrl-C after epoch 3"),
        ((START, end("interrupted")), "stopped", "interrupted"),  # by a second Ctrl-C
        ((START, end("killed without a message")), "failed", "killed without a message"),
        ((START, end("SIGTERM"), start(2)), "failed", "killed"),
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
        result={"test_accuracy": 0.7, "data": "photos"},
    )
    summary = summarise_run(path)
    assert summary.state == "finished"
    assert (summary.epoch, summary.num_epochs, summary.step) == (3, 5, 81)
    assert (summary.val_accuracy, summary.best_epoch, summary.val_loss) == (0.75, 2, 0.25)
    assert (summary.test_accuracy, summary.data, summary.where) == (0.7, "photos", "node1")
    assert summary.is_exact


@pytest.mark.parametrize(("best_by", "best"), [("accuracy", 2), ("loss", 1), ("macro_f1", 3), ("nonsense", 2), ("", 2)])
def test_the_best_epoch_is_by_the_setting(tmp_path: Path, best_by: str, best: int) -> None:
    lines = (
        epoch(1, 0.5, val_loss=0.25, val_macro_f1=0.25),
        epoch(2, 0.75, val_loss=0.5, val_macro_f1=0.5),
        epoch(3, 0.625, val_loss=0.75, val_macro_f1=0.75),
        epoch(4, 0.75, val_loss=0.25, val_macro_f1=0.75),
    )
    config = f"evaluate: {{best_by: {best_by}}}\n" if best_by else ""
    summary = summarise_run(make_run(tmp_path / "run", start(), *lines, config=config))
    chosen = lines[best - 1]
    assert (summary.best_epoch, summary.val_accuracy, summary.val_loss) == (best, chosen.val_accuracy, chosen.val_loss)


def test_a_run_that_ended_early_says_so(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", start(), epoch(2, 0.5), end("finished"), result={"stopped_early": True})
    summary = summarise_run(path)
    assert (summary.state, summary.why, summary.epoch, summary.num_epochs) == ("finished", "ended early", 2, 5)


def test_a_folder_with_torn_files_has_a_summary(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", START)
    (path / "config.yaml").write_text("train: [", encoding="utf-8")
    (path / "metrics.jsonl").write_bytes(b"{\x00")
    (path / "result.json").write_text(json.dumps([1]), encoding="utf-8")
    summary = summarise_run(path)
    assert (summary.state, summary.epoch, summary.num_epochs) == ("failed", 0, None)


def test_a_run_that_is_held_is_running(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", START, end("SIGTERM"), start(2))
    hold(path)
    assert summarise_run(path).state == "running"
    hold_dead(path)
    assert summarise_run(path).state == "failed"


def test_a_run_on_another_machine_ends_with_its_lease(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", START, config="checkpoint: {takeover_seconds: 600}")
    lease = hold(path, elsewhere=True)
    os.utime(lease, (time.time() - 500, time.time() - 500))
    assert summarise_run(path, quick=True).state == "running"
    os.utime(lease, (time.time() - 700, time.time() - 700))
    assert summarise_run(path, quick=True).state == "failed"
    assert takeover_seconds(path) == 600
    assert takeover_seconds(tmp_path) == 30


def test_the_job_and_the_first_start(tmp_path: Path) -> None:
    summary = summarise_run(make_run(tmp_path / "run", start(job="12_3.0"), start(2, job="12_3.1", host="node2")))
    assert (summary.job, summary.where, summary.num_attempts) == ("12_3", "node2", 2)
    assert summary.started == "2026-01-31T12:01:00+00:00"


def test_the_time_left(tmp_path: Path) -> None:
    # 5 epochs of 27 steps of 32 images at 100 images/s; 54 steps are done
    path = make_run(tmp_path / "run", START, epoch(1, 0.5), epoch(2, 0.5))
    assert summarise_run(path).seconds_left is None  # it does not run
    hold(path)
    assert summarise_run(path).seconds_left == pytest.approx(81 * 32 / 100)


def test_the_time_left_in_the_first_epoch_is_told_by_the_heartbeat(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", START, step(10, 1))
    hold(path)
    assert summarise_run(path).seconds_left is None
    beat = Beat(
        Identity(0, 1, "h", 1, "cpu", ""), "train", 1, 10, False, time.time(), 0.0, Work("training", 20, 60, "")
    )
    beat_path(path / "logs", 0).write_text(beat.to_json(), encoding="utf-8")
    assert summarise_run(path).seconds_left == pytest.approx(40 * 32 / 100)


def test_quick_leaves_out_the_settings_only(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", START, epoch(1, 0.5), step(30, 2))
    quick, whole = summarise_run(path, quick=True), summarise_run(path)
    assert quick.settings == {}
    assert whole.settings["train.micro_batch"] == 8
    assert (quick.num_epochs, quick.is_exact, quick.epoch, quick.step) == (5, True, 2, 30)
    assert (quick.val_accuracy, quick.best_epoch) == (0.5, 1)


def test_lines_that_are_no_records_are_passed_over(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", START, epoch(1, 0.5), epoch(2, 0.25))
    with (path / "metrics.jsonl").open("ab") as stream:
        stream.write(b'{"kind": "epoch", "val_accuracy": 0.99}\n')  # an epoch line without its other fields
        stream.write(b'{"kind": "later", "val_accuracy": 0.98}\n{"kind": "epoch", "val_accuracy": NaN\n')
        stream.write(b'{"kind": "epoch", "val_accuracy": 1e')
    summary = summarise_run(path)
    assert (summary.val_accuracy, summary.best_epoch, summary.epoch) == (0.5, 1, 2)


@pytest.mark.parametrize("text", ["NaN", "Infinity", '"0.7"', "true", "null"])
def test_a_result_that_is_no_number_is_not_known(tmp_path: Path, text: str) -> None:
    path = make_run(tmp_path / "run", START)
    (path / "result.json").write_text(f'{{"finished": true, "test_accuracy": {text}}}', encoding="utf-8")
    assert summarise_run(path).test_accuracy is None


def test_a_pipe_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", START)
    os.mkfifo(path / "metrics.jsonl")
    with pytest.raises(UserError, match="is not a file"):
        summarise_run(path)
