from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from signs_dist.errors import UserError
from signs_dist.run_folder.folder import RunFolder
from signs_dist.tracking import feeding
from signs_dist.tracking.feeding import feed, find_ending, note_error, polling
from signs_dist.tracking.marks import Mark, read_mark, write_mark
from signs_dist.tracking.tracker import Ending, RunFacts
from tests.tracking.runs import RESULT, START, end, epoch_line, make_run, step_line


class Recorder:
    """A dashboard that keeps what it gets. `steps_kept` is what `last_step` tells."""

    def __init__(self, steps_kept: int | None = None, fails_at: int | None = None) -> None:
        self.steps_kept, self.fails_at = steps_kept, fails_at
        self.run_id, self.url = "made-here", "https://example.org/made-here"
        self.steps: list[int] = []
        self.endings: list[tuple[Ending, Mapping[str, Any]]] = []
        self.opened_as = ""

    def last_step(self) -> int | None:
        return self.steps_kept

    def log(self, step: int, values: Mapping[str, float]) -> None:
        if step == self.fails_at:
            raise ConnectionError("no network")
        self.steps.append(step)

    def flush(self) -> None: ...

    def show_picture(self, step: int, name: str, picture: bytes) -> None: ...

    def end(self, ending: Ending, result: Mapping[str, Any]) -> None:
        self.endings.append((ending, result))


def use(monkeypatch: pytest.MonkeyPatch, recorder: Recorder) -> Recorder:
    def open_tracker(name: str, facts: RunFacts, run_id: str) -> Recorder:
        recorder.opened_as = run_id
        assert facts.settings["optim.lr"] == 0.05
        return recorder

    monkeypatch.setattr(feeding, "open_tracker", open_tracker)
    return recorder


def feed_run(monkeypatch: pytest.MonkeyPatch, folder: RunFolder, **about: int | None) -> Recorder:
    recorder = use(monkeypatch, Recorder(**about))
    feed(folder.path, "wandb")
    return recorder


def test_each_step_is_sent_once_over_attempts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", START, step_line(5), epoch_line(10), end("stopped by SIGTERM after epoch 1"))
    first = feed_run(monkeypatch, folder)
    assert (first.steps, first.endings, first.opened_as) == ([5, 10], [("stopped", {})], "")
    assert read_mark(folder.path, "wandb") == Mark("made-here", 10, "https://example.org/made-here")

    folder.add(dataclasses.replace(START, attempt=2))
    for line in (step_line(15), epoch_line(20), end("finished", 2)):
        folder.add(line)
    folder.write_result(RESULT)
    second = feed_run(monkeypatch, folder)
    assert (second.steps, second.endings, second.opened_as) == ([15, 20], [("finished", RESULT)], "made-here")

    third = feed_run(monkeypatch, folder)
    assert (third.steps, third.endings) == ([], [("finished", {})])  # the result is there already


@pytest.mark.parametrize(
    ("known", "marked", "sent"),
    [
        (None, 10, [15, 20]),  # a dashboard that cannot tell: the mark counts
        (15, 10, [20]),  # sent, and killed before the mark was written
        (5, 10, [10, 15, 20]),  # marked, and killed before it was sent
        (-1, 10, [5, 10, 15, 20]),  # its data were deleted
    ],
)
def test_after_a_kill_the_dashboard_says_what_it_has(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, known: int | None, marked: int, sent: list[int]
) -> None:
    folder = make_run(tmp_path / "run", START, step_line(5), epoch_line(10), step_line(15), epoch_line(20))
    write_mark(folder.path, "wandb", Mark(run_id="made-here", step=marked))
    assert feed_run(monkeypatch, folder, steps_kept=known).steps == sent


def test_lines_that_come_while_it_waits_are_sent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", START, step_line(5))
    recorder, coming = use(monkeypatch, Recorder()), [epoch_line(10), step_line(15)]

    def wait() -> bool:
        folder.add(coming.pop(0))
        return bool(coming)

    feed(folder.path, "wandb", wait_for_more=wait)
    assert recorder.steps == [5, 10, 15]


def test_a_failure_keeps_the_mark_of_what_was_sent_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", START, step_line(5))
    feed_run(monkeypatch, folder)
    folder.add(epoch_line(10))
    use(monkeypatch, Recorder(fails_at=10))
    with pytest.raises(ConnectionError):
        feed(folder.path, "wandb")
    note_error(folder.path, "wandb", "no network")
    mark = read_mark(folder.path, "wandb")
    assert (mark.step, mark.error) == (5, "no network")
    assert feed_run(monkeypatch, folder).steps == [10]
    assert read_mark(folder.path, "wandb").error == ""


def test_two_feeders_at_once_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", START)
    use(monkeypatch, Recorder())
    monkeypatch.setattr(feeding, "LOCK_SECONDS", 0.1)

    def feed_again() -> bool:
        with pytest.raises(UserError, match="feeds wandb"):
            feed(folder.path, "wandb")
        return False

    feed(folder.path, "wandb", wait_for_more=feed_again)


@pytest.mark.parametrize(
    ("reason", "ending"),
    [
        ("stopped by SIGTERM after epoch 1, step 4 of 9", "stopped"),
        ("interrupted", "stopped"),
        ("NonFiniteLossError: loss nan", "failed"),
        ("", "failed"),  # killed before it wrote its end
    ],
)
def test_how_an_attempt_ended(tmp_path: Path, reason: str, ending: Ending) -> None:
    assert find_ending(make_run(tmp_path / "run", START, *([end(reason)] if reason else [])).path) == ending


def test_a_run_with_a_result_is_finished(tmp_path: Path) -> None:
    assert find_ending(make_run(tmp_path / "run", START, is_finished=True).path) == "finished"


def test_polling_ends_at_once_when_the_run_is_over() -> None:
    assert polling(lambda: True, 60.0)() is False
    assert polling(lambda: False, 0.01)() is True
