from __future__ import annotations

import time
from pathlib import Path

import pytest
from rich.console import Console

from signs_dist.errors import UserError
from signs_dist.monitoring.beats import Beat, Identity, Work, beat_path
from signs_dist.monitoring.failure_card import FailureCard
from signs_dist.results import watching
from signs_dist.results.queued import QueueAnswer, QueuedJob
from signs_dist.results.watching import (
    GrowingMetrics,
    View,
    ending_code,
    look,
    new_epochs,
    news,
    polls,
    progress_line,
    render_view,
    state_line,
)
from signs_dist.run_folder.folder import RunFolder
from tests.results.runs import end, epoch, hold, make_finished, make_run, start, step

NOBODY = QueueAnswer()


def write_card(run: Path, **fields: object) -> None:
    values = {
        "rank": 0,
        "world_size": 2,
        "host": "n1",
        "device": "cpu",
        "log": "",
        "phase": "train",
        "epoch": 3,
        "step": 2,
        "error": "ValueError: x",
        "place": "",
        "kind": "error",
        "time": 1.0,
        "told_by": 0,
        "exit_code": 1,
    }
    card = FailureCard(**{**values, **fields})  # type: ignore[arg-type]
    (run / "logs" / "failure-rank0.json").write_text(card.to_json(), encoding="utf-8")


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("SIGTERM", 75),
        ("stopped by SIGUSR2 after epoch 3", 75),
        ("stopped by Ctrl-C after epoch 3", 130),
        ("StoppedError: stopped by Ctrl-C after epoch 3", 130),
        ("KeyboardInterrupt: ", 130),
        ("ValueError: x", 1),
        ("TrainingFailedError: the loss", 1),
        ("UserError: x", 2),
        ("PeerLostError: x", 3),
        ("SaveError: x", 74),
        ("killed without a message", 1),
    ],
)
def test_the_exit_code_is_that_of_the_run(tmp_path: Path, reason: str, code: int) -> None:
    assert ending_code(look(make_run(tmp_path / "a", start(), end(reason)), NOBODY)) == code


def test_other_exit_codes(tmp_path: Path) -> None:
    assert ending_code(look(make_finished(tmp_path / "a"), NOBODY)) == 0
    assert ending_code(look(make_run(tmp_path / "b", start()), NOBODY)) == 1  # killed
    run = make_run(tmp_path / "c", start(), end("lost"))
    write_card(run, exit_code=3)
    assert ending_code(look(run, NOBODY)) == 3


def test_the_state_in_a_line(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", start(host="node3", job="7.0"))
    hold(run)
    assert state_line(look(run, NOBODY).summary) == "running on node3, job 7, attempt 1"
    queued = QueueAnswer({run: QueuedJob("8", True, "Priority")})
    (run / "lease.json").unlink()
    assert state_line(look(run, queued).summary) == "waiting, job 8, attempt 1: Priority"
    assert state_line(look(run, NOBODY).summary) == "failed: killed"
    RunFolder(run).add(end("stopped by SIGTERM after epoch 3"))
    assert state_line(look(run, NOBODY).summary) == "stopped by SIGTERM after epoch 3"


def test_the_numbers_in_a_line() -> None:
    assert progress_line(epoch(3, 0.75), 20, 125.0) == (
        "epoch 3/20 | loss 0.333  50.0 % | val 0.250  75.0 % | lr 0.1 | 100 images/s | 2 min 05 s left"
    )
    assert progress_line(epoch(3, None, images_per_second=0.0), None) == "epoch 3 | loss 0.333  50.0 % | lr 0.1"
    assert progress_line(step(1234, 3), 20).startswith("epoch 3/20, step 1,234 | loss")


def test_a_line_for_each_change(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", start(), epoch(1, 0.5), epoch(2, 0.5))
    hold(run)
    first = look(run, NOBODY)
    assert news(None, first) == [
        "running on node1, attempt 1",
        "attempt 1 began 2026-01-31T12:01:00+00:00 on node1, 1 process, from step 0",
    ]
    assert [line.epoch for line in new_epochs(None, first)] == [2]  # not the whole past
    assert (news(first, first), new_epochs(first, first)) == ([], [])
    for line in (epoch(3, 0.6), step(90, 4), end("SIGTERM\nmore")):
        RunFolder(run).add(line)
    (run / "lease.json").unlink()
    second = look(run, NOBODY)
    assert [line.epoch for line in new_epochs(first, second)] == [3]
    assert news(first, second) == ["attempt 1 ended 2026-01-31T12:10:00+00:00: SIGTERM", "stopped: SIGTERM"]


def test_epochs_that_a_resumed_run_repeats_are_told_once(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", start(), epoch(1, 0.5), epoch(2, 0.5))
    before = look(run, NOBODY)
    RunFolder(run).keep_lines(run / "metrics.jsonl", lambda line: line["epoch"] == 1)
    back = look(run, NOBODY)
    assert new_epochs(before, back) == []
    RunFolder(run).add(epoch(2, 0.7))
    assert [line.epoch for line in new_epochs(back, look(run, NOBODY))] == [2]


def test_metrics_that_grow_are_read_once(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", epoch(1, 0.5))
    metrics = GrowingMetrics(run / "metrics.jsonl")
    assert [line.epoch for line in metrics.read()] == [1]
    with (run / "metrics.jsonl").open("ab") as stream:
        stream.write(b'{"kind": "ep')
    assert [line.epoch for line in metrics.read()] == [1]
    with (run / "metrics.jsonl").open("ab") as stream:
        stream.write(b"och\x00}\n")
    RunFolder(run).add(epoch(2, 0.5))
    assert [line.epoch for line in metrics.read()] == [1, 2]
    RunFolder(run).keep_lines(run / "metrics.jsonl", lambda line: line["epoch"] == 2)  # another file takes its place
    assert [line.epoch for line in metrics.read()] == [2]
    (run / "metrics.jsonl").unlink()
    assert metrics.read() == []


@pytest.mark.parametrize(("width", "height"), [(60, 24), (120, 40), (40, 8), (200, 60), (10, 3)])
def test_a_view_fits_the_terminal(tmp_path: Path, width: int, height: int) -> None:
    run = make_run(tmp_path / "a\x1b[2J", start(), *(epoch(number, 0.5 + number / 50) for number in range(1, 12)))
    hold(run)
    work = Work("training", 297, 540, "")
    beat = Beat(Identity(0, 1, "n", 1, "cpu", ""), "train", 11, 27, False, time.time(), 0.0, work)
    beat_path(run / "logs", 0).write_text(beat.to_json(), encoding="utf-8")
    view = look(run, NOBODY)
    console = Console(width=width, height=height, color_system=None, file=None, force_terminal=False)
    with console.capture() as capture:
        console.print(render_view(view, width, height, has_colour=False))
    told = capture.get()
    assert "\x1b" not in told
    assert all(len(line.rstrip()) <= width for line in told.splitlines())
    if width >= 60:
        assert "running on node1, attempt 1" in told
        assert "297/540" in told
        assert "best val 72.0 % in epoch 11" in told
        assert "loss by epoch: line = train, o = val" in told
        assert "attempt 1 began" in told
        assert len(told.splitlines()) <= height


def test_the_card_of_a_failure_is_shown(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", start(), end("ValueError: x"))
    write_card(run)
    view = look(run, NOBODY)
    console = Console(width=100, color_system=None)
    with console.capture() as capture:
        console.print(render_view(view, 100, 40, has_colour=False))
    assert "rank 0 of 2 failed" in capture.get()
    assert "ValueError: x" in capture.get()


def test_watching_ends_with_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path / "a", start())
    hold(run)
    moments: list[float] = []

    def pass_time(seconds: float) -> None:
        moments.append(seconds)
        if len(moments) == 2:
            make_finished(run)

    monkeypatch.setattr(watching.time, "sleep", pass_time)
    states = [view.summary.state for view in polls(run, 1.0)]
    assert states == ["running", "running", "finished"]


def test_a_restart_is_no_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path / "a", start())
    now = [100.0]

    def pass_time(seconds: float) -> None:
        now[0] += seconds
        if now[0] == 102.0:
            hold(run)  # torchrun has started the processes again
        elif now[0] == 104.0:
            (run / "lease.json").unlink()

    monkeypatch.setattr(watching.time, "sleep", pass_time)
    monkeypatch.setattr(watching.time, "monotonic", lambda: now[0])
    states = [view.summary.state for view in polls(run, 1.0)]
    assert states == ["failed", "failed", "running", "running", "failed", "failed", "failed", "failed"]


def test_the_scheduler_is_asked_at_long_intervals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path / "a", start(), end("SIGTERM"))
    now, asked = [100.0], []

    def pass_time(seconds: float) -> None:
        now[0] += seconds

    def ask(summaries: list[object]) -> QueueAnswer:
        asked.append(now[0])
        return QueueAnswer({run: QueuedJob("7", True)} if now[0] < 120 else {})

    monkeypatch.setattr(watching.time, "sleep", pass_time)
    monkeypatch.setattr(watching.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(watching, "ask_queue", ask)
    views: list[View] = list(polls(run, 1.0))
    assert {view.summary.state for view in views[:19]} == {"waiting"}
    assert views[-1].summary.state == "stopped"
    assert asked == [100.0, 110.0, 120.0]


def test_a_folder_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", start())
    (run / "metrics.jsonl").mkdir()
    with pytest.raises(UserError, match="nowhere was removed or renamed"):
        look(tmp_path / "nowhere", NOBODY)
    with pytest.raises(UserError, match="is not a file"):
        look(run, NOBODY)
