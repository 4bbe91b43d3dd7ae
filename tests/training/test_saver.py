"""When a run is saved, and what a save leaves."""

from __future__ import annotations

import gc
import json
import time
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from signs_dist.checkpointing.store import Cursor, read_checkpoint
from signs_dist.errors import SaveError
from signs_dist.monitoring import waiting
from signs_dist.run_folder.records import SaveLine, of_kind
from signs_dist.training.run_state import Best
from signs_dist.training.saver import SaveTimer
from tests.training.parts import Made, make_process, make_silent, make_trainer, shown


class Clock:
    """Seconds that a test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        fake = SimpleNamespace(monotonic=lambda: self.now, perf_counter=time.perf_counter)
        monkeypatch.setattr("signs_dist.training.saver.time", fake)


def saves(made: Made) -> list[SaveLine]:
    return of_kind(made.folder.read_metrics(), SaveLine)


def save(made: Made) -> None:
    made.saver.save(made.run_state, made.stepper)
    made.saver.wait()


def test_a_save_is_due_when_its_seconds_have_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    timer, never = SaveTimer(5.0), SaveTimer(None)
    assert (timer.seconds, timer.is_due()) == (0.0, False)  # training has not begun
    for each in (timer, never):
        each.restart()
    clock.now += 4.9
    assert (timer.is_due(), never.is_due()) == (False, False)
    clock.now += 0.1
    assert (timer.is_due(), never.is_due()) == (True, False)
    assert timer.seconds == pytest.approx(5.0)
    timer.restart()
    assert not timer.is_due()


def test_a_save_leaves_a_checkpoint_and_a_line(tmp_path: Path) -> None:
    made = make_trainer(tmp_path)
    made.saver.begin({"host": "n1"})
    made.run_state.advance()
    save(made)
    (path,) = (path for _, path in made.saver.store.files())
    assert path == made.saver.newest() == made.folder.checkpoints / "epoch-0001-step-000001.pt"
    content = read_checkpoint(path)
    assert (content["cursor"], content["images"], content["run"]) == ({"epoch": 0, "step": 1}, 8, {"host": "n1"})
    assert content["config"]["train"]["global_batch"] == 8
    (line,) = saves(made)
    assert (line.epoch, line.step, line.last_write_seconds) == (1, 1, None)
    assert 0 < line.stall_seconds < 5
    raw = json.loads(made.folder.metrics.read_text())
    assert raw.keys() == {"kind", "epoch", "step", "stall_seconds", "version"}  # the first save: no time before it


def test_the_next_line_tells_how_long_the_save_before_took(tmp_path: Path) -> None:
    made = make_trainer(tmp_path)
    save(made)
    took = made.saver.last_write_seconds
    made.run_state.advance()
    save(made)
    assert took > 0
    assert [line.last_write_seconds for line in saves(made)] == [None, round(took, 3) or None]


def test_the_time_of_a_save_of_an_earlier_attempt_counts_until_the_first_of_this_one(tmp_path: Path) -> None:
    made = make_trainer(tmp_path)
    made.saver._writer.last_write_seconds = 7.5
    assert made.saver.last_write_seconds == 7.5
    save(made)
    assert saves(made)[0].last_write_seconds == 7.5
    assert made.saver.last_write_seconds < 7.5


def test_the_best_epoch_is_kept_by_a_name(tmp_path: Path) -> None:
    made = make_trainer(tmp_path, "checkpoint.keep=1")
    for epoch in (1, 2):
        made.run_state.cursor = Cursor(epoch, 0)
        made.run_state.best = made.run_state.best or Best(1, 1.0, 0.1)
        save(made)
    assert read_checkpoint(made.saver.store.best)["cursor"] == {"epoch": 1, "step": 0}
    names = [path.name for _, path in made.saver.store.files()]
    assert names == ["epoch-0002.pt", "epoch-0001.pt"]


def test_milestones_are_kept(tmp_path: Path) -> None:
    made = make_trainer(tmp_path, "checkpoint.keep=1", "checkpoint.keep_every_epochs=2")
    for place in (Cursor(1, 0), Cursor(1, 2), Cursor(2, 0), Cursor(3, 0), Cursor(4, 0), Cursor(4, 1)):
        made.run_state.cursor = place
        save(made)
    assert [path.stem for _, path in made.saver.store.files()] == ["epoch-0005-step-000001", "epoch-0004", "epoch-0002"]


def test_a_process_that_does_not_write_only_counts_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    made = make_trainer(tmp_path, "checkpoint.every_seconds=5", process=make_silent(make_process()))
    save(made)
    clock.now += 60
    assert made.saver.timer.seconds == 60
    assert not made.saver.timer.is_due()  # rank 0 says when
    assert made.saver.newest() is None
    assert not made.folder.metrics.exists()


def fail(*arguments: Any) -> int:
    raise SaveError("no space left for epoch-0000.pt: it needs 10 bytes and 3 are free.")


def test_a_save_that_fails_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_trainer(tmp_path)
    monkeypatch.setattr(made.saver.store, "write", fail)
    made.saver.save(made.run_state, made.stepper)
    with pytest.raises(SaveError, match="no space left"):
        made.saver.wait()
    made.saver.check()  # told once


def test_a_save_that_fails_is_only_told_where_the_config_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_trainer(tmp_path, "checkpoint.on_error=warn")
    monkeypatch.setattr(made.saver.store, "write", fail)
    save(made)
    assert "warning: no space left for" in shown(made.process)
    assert "checkpoint.on_error=warn" in shown(made.process)


@pytest.mark.parametrize("fails", [False, True])
def test_what_travels_is_taken_whole_even_if_the_save_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    """Else the other processes would wait for ever until their pieces are taken."""
    drained: list[bool] = []
    made = make_trainer(tmp_path)
    made.saver.begin({})
    state = made.stepper.state
    content = {"ema": None, "optimizer": state.optimizer.state_dict()}
    shipment = SimpleNamespace(drain=lambda: drained.append(True))
    state.sharding = SimpleNamespace(ship=lambda *_: (shipment, content))  # type: ignore[assignment]
    made.run_state.advance()
    if fails:
        monkeypatch.setattr(type(made.saver.store), "write", _no_space)
        with pytest.raises(SaveError, match="no space"):
            save(made)
    else:
        save(made)
    assert drained == [True]


def _no_space(*_: Any) -> int:
    raise SaveError("no space")


@pytest.mark.parametrize(
    ("launcher", "took", "advice"),
    [
        ("torchrun", 16.0, "start torchrun with --shutdown-timeout 48"),
        ("srun", 16.0, "checkpoint.every_seconds"),
        ("torchrun", 15.0, None),  # half of the time is left
    ],
)
def test_saves_that_take_long_are_warned_of_once(
    tmp_path: Path, launcher: str, took: float, advice: str | None
) -> None:
    made = make_trainer(tmp_path, process=make_process(launcher=launcher, kill_seconds=30.0))
    for _ in range(2):
        made.saver._writer.last_write_seconds = took
        save(made)
    text = shown(made.process)
    assert text.count("warning: a save takes 16 s") == (1 if advice else 0)
    assert advice is None or advice in text


def test_without_a_killer_no_save_takes_too_long(tmp_path: Path) -> None:
    made = make_trainer(tmp_path, process=make_process(kill_seconds=None))
    made.saver._writer.last_write_seconds = 1e6
    save(made)
    assert shown(made.process) == ""


def test_the_error_of_a_failed_save_is_freed_with_its_last_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_trainer(tmp_path)
    monkeypatch.setattr(made.saver.store, "write", fail)
    gc.collect()
    gc.disable()
    try:
        made.saver.save(made.run_state, made.stepper)
        try:
            made.saver.wait()
        except SaveError as error:
            watched = weakref.ref(error)
        assert watched() is None  # else it would keep the whole run by its traceback
    finally:
        gc.enable()


def test_a_long_write_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(waiting, "NOTICE_SECONDS", 0.05)
    made = make_trainer(tmp_path)
    write = made.saver._writer._store.write

    def write_slowly(*arguments: Any) -> None:
        time.sleep(0.5)
        write(*arguments)

    monkeypatch.setattr(made.saver._writer._store, "write", write_slowly)
    save(made)
    told = f"waits until a checkpoint is written to {made.folder.checkpoints} (0 s so far)"
    assert capsys.readouterr().err.splitlines() == [told]
