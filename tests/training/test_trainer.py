"""The epochs of a run, without the run around them: what is written, saved and said, and how it ends."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import json
import math
import signal
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from signs_dist.checkpointing.store import Cursor, read_checkpoint
from signs_dist.checkpointing.tensors import weights_sha256
from signs_dist.console.screen import Screen
from signs_dist.environment.core_wait import CoreWatch
from signs_dist.errors import EXIT_INTERRUPTED, EXIT_STOPPED, SaveError, StoppedError, TrainingFailedError, UserError
from signs_dist.learning.metrics import Score
from signs_dist.run_folder.records import EpochLine, SaveLine, StepLine, of_kind
from signs_dist.run_folder.sample_log import find_repeated, read_samples
from signs_dist.training import trainer as trainer_module
from signs_dist.training.run_state import Best
from signs_dist.training.stepper import Stepper
from signs_dist.training.trainer import Trainer
from tests.training.parts import Made, make_process, make_silent, make_trainer, shown


def train(made: Made) -> dict[str, Any]:
    return made.trainer.train(time.perf_counter())


def places(made: Made) -> list[str]:
    return [path.stem for _, path in reversed(made.saver.store.files())]


def after_step(monkeypatch: pytest.MonkeyPatch, number: int, action: Any) -> None:
    """Call `action` when so many steps of the run are done, before the trainer looks around."""
    original = Trainer._after_step

    def after_step(self: Trainer, sums: Any) -> None:
        if self._run_state.steps_done == number:
            action()
        original(self, sums)

    monkeypatch.setattr(Trainer, "_after_step", after_step)


def ask_to_stop(made: Made, number: int = signal.SIGTERM) -> Any:
    def ask() -> None:
        made.stop.is_set, made.stop.signal_number = True, number

    return ask


def test_a_run_is_trained_to_its_end(tmp_path: Path) -> None:
    made = make_trainer(tmp_path)
    result = train(made)
    assert json.loads(made.folder.result.read_text()) == result
    assert result["weights_sha256"] == weights_sha256(torch.load(made.folder.model, weights_only=True))
    assert (result["epochs"], result["steps"], result["val_images"], result["test_images"]) == (2, 8, 12, 12)
    assert 0 < result["train_seconds"] <= result["total_seconds"]
    assert result["images_per_second"] > 0
    assert places(made) == ["epoch-0001", "epoch-0002"]
    assert made.run_state.cursor == Cursor(2, 0)


def test_what_is_in_metrics(tmp_path: Path) -> None:
    made = make_trainer(tmp_path, "log.every_steps=3", "evaluate.every_epochs=2", "train.epochs=3")
    train(made)
    lines = made.folder.read_metrics()
    told = [(type(line).__name__, line.epoch, line.step) for line in lines if isinstance(line, (StepLine, SaveLine))]
    assert told == [
        ("StepLine", 1, 3),
        ("EpochLine", 1, 4),
        ("SaveLine", 1, 4),
        ("StepLine", 2, 6),
        ("EpochLine", 2, 8),
        ("SaveLine", 2, 8),
        ("StepLine", 3, 9),  # the 12th step ends an epoch: one line for both
        ("EpochLine", 3, 12),
        ("SaveLine", 3, 12),
    ]
    epochs = of_kind(lines, EpochLine)
    assert [line.val_accuracy is None for line in epochs] == [True, False, False]  # the second, and the last
    assert [line.images for line in epochs] == [32, 64, 96]
    raw = [json.loads(line) for line in made.folder.metrics.read_text().splitlines()]
    fields = ["epoch", "step", "images", "train_loss", "train_accuracy", "lr", "images_per_second", "data_wait_share"]
    assert list(raw[0]) == ["kind", *fields]
    assert list(raw[1]) == ["kind", *fields]  # not evaluated
    assert list(raw[4]) == ["kind", *fields, "val_loss", "val_accuracy", "val_macro_f1"]


def test_the_bar_moves_at_the_end_of_each_epoch_and_begins_where_the_run_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Epochs of 4 steps: none of the lines after each 25 steps is ever due."""
    seen: list[tuple[str, int]] = []

    @contextlib.contextmanager
    def training(screen: Screen, total_steps: int, done: int) -> Iterator[Any]:
        seen.append(("from", done))
        yield lambda done, numbers, left: seen.append((numbers.partition(" |")[0], done))

    monkeypatch.setattr(Screen, "training", training)
    train(make_trainer(tmp_path))
    assert seen == [("from", 0), ("epoch 1/2", 4), ("epoch 2/2", 8)]
    again = make_trainer(tmp_path)
    first = again.saver.store.folder / "epoch-0001.pt"
    again.run_state.restore(read_checkpoint(first), again.stepper, first)
    train(again)
    assert seen[3:] == [("from", 4), ("epoch 2/2", 8)]


def test_the_best_epoch_is_remembered(tmp_path: Path) -> None:
    made = make_trainer(tmp_path)
    result = train(made)
    best = made.run_state.best
    assert best is not None
    epochs = of_kind(made.folder.read_metrics(), EpochLine)
    assert (best.accuracy, best.loss) == (epochs[best.epoch - 1].val_accuracy, epochs[best.epoch - 1].val_loss)
    assert (result["best_epoch"], result["best_val_accuracy"]) == (best.epoch, best.accuracy)


def test_a_run_ends_early_without_a_better_epoch_also_when_it_was_killed_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ("train.epochs=6", "train.patience=2", "exact=true", "train.micro_batch=4", "train.final_weights=best")
    monkeypatch.setattr(Best, "is_beaten_by", lambda self, score, best_by: False)
    process = make_process(quiet=False)
    whole = make_trainer(tmp_path, *settings, process=process)
    result = train(whole)
    assert (result["epochs"], result["epochs_trained"], result["stopped_early"]) == (6, 3, True)
    assert (result["steps"], result["best_epoch"], result["weights"]) == (12, 1, {"kind": "best", "epoch": 1})
    lines = shown(process).splitlines()
    told = "the best val accuracy is that of epoch 1, 2 epochs before (train.patience=2)"
    assert f"ended early after epoch 3 of 6: {told}" in lines
    assert any(line.startswith("trained 3 of 6 epochs in ") for line in lines)

    monkeypatch.setattr(Trainer, "_finish", lambda *arguments: {})
    killed = make_trainer(tmp_path, *settings, run="killed")
    train(killed)
    monkeypatch.undo()
    again = make_trainer(tmp_path, *settings, run="killed")
    newest = again.saver.newest()
    assert newest is not None
    again.run_state.restore(read_checkpoint(newest), again.stepper, newest)
    repeated = train(again)
    assert again.run_state.steps_done_here == 0
    same = ("weights_sha256", "val_loss", "test_confusion", "epochs_trained", "stopped_early", "weights")
    assert {name: repeated[name] for name in same} == {name: result[name] for name in same}
    for name in ("predictions-val.jsonl", "predictions-test.jsonl"):
        assert (again.folder.path / name).read_bytes() == (whole.folder.path / name).read_bytes()


def test_a_validation_loss_that_is_not_finite_is_left_out_of_the_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Score, "loss", math.nan)
    monkeypatch.setattr(Trainer, "_make_line", _line_with_a_loss(Trainer._make_line))
    made = make_trainer(tmp_path)
    result = train(made)
    assert [(line.val_loss, line.val_accuracy is None) for line in of_kind(made.folder.read_metrics(), EpochLine)] == [
        (None, False),
        (None, False),
    ]
    assert (result["best_val_loss"], result["val_loss"]) == (None, None)


def _line_with_a_loss(make_line: Any) -> Any:
    return lambda *arguments: dataclasses.replace(make_line(*arguments), train_loss=1.0)


def test_every_epoch_is_said(tmp_path: Path) -> None:
    process = make_process(quiet=False)
    train(make_trainer(tmp_path, process=process))
    lines = [line for line in shown(process).splitlines() if line.startswith("epoch")]
    assert [line.split(" | ")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    assert lines[0].endswith(" s left")
    assert "left" not in lines[1]


@pytest.mark.parametrize(
    ("number", "name", "code"),
    [(signal.SIGTERM, "SIGTERM", EXIT_STOPPED), (signal.SIGINT, "Ctrl-C", EXIT_INTERRUPTED)],
)
def test_a_stop_saves_in_mid_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, name: str, code: int
) -> None:
    made = make_trainer(tmp_path)
    # Asked during step 5, agreed on at the end of step 6.
    after_step(monkeypatch, 5, ask_to_stop(made, number))
    with pytest.raises(StoppedError, match=f"stopped by {name} after epoch 2, step 2 of 4") as stopped:
        train(made)
    assert (stopped.value.exit_code, stopped.value.is_saved) == (code, True)
    assert places(made) == ["epoch-0001", "epoch-0002-step-000002"]
    newest = made.saver.newest()
    assert newest is not None
    content = read_checkpoint(newest)
    assert int(content["sums"]["confusion"].sum()) == 16  # two steps of the epoch
    assert not made.folder.result.exists()


def test_a_stop_at_the_last_step_of_an_epoch_is_before_its_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_trainer(tmp_path)
    after_step(monkeypatch, 3, ask_to_stop(made))
    with pytest.raises(StoppedError, match="after epoch 1, step 4 of 4"):
        train(made)
    assert places(made) == ["epoch-0001-step-000004"]
    assert of_kind(made.folder.read_metrics(), EpochLine) == []

    monkeypatch.undo()
    again = make_trainer(tmp_path)
    newest = again.saver.newest()
    assert newest is not None
    again.run_state.restore(read_checkpoint(newest), again.stepper, newest)
    result = train(again)
    whole = train(make_trainer(tmp_path, run="whole"))
    same = ("weights_sha256", "val_loss", "val_confusion", "test_loss", "best_epoch", "steps")
    assert {name: result[name] for name in same} == {name: whole[name] for name in same}
    first, second = of_kind(again.folder.read_metrics(), EpochLine)
    assert (first.epoch, first.step, first.images_per_second) == (1, 4, 0.0)  # no step of it was this attempt's
    assert second.step == 8


def test_a_run_that_was_stopped_gives_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = make_trainer(tmp_path, "ema.decay=0.9", run="whole")
    expected = train(whole)
    made = make_trainer(tmp_path, "ema.decay=0.9")
    after_step(monkeypatch, 5, ask_to_stop(made))
    with pytest.raises(StoppedError):
        train(made)
    monkeypatch.undo()
    again = make_trainer(tmp_path, "ema.decay=0.9")
    newest = again.saver.newest()
    assert newest is not None
    again.run_state.restore(read_checkpoint(newest), again.stepper, newest)
    result = train(again)
    assert result["weights_sha256"] == expected["weights_sha256"]
    assert again.run_state.steps_done_here == 2
    losses = [of_kind(one.folder.read_metrics(), EpochLine)[-1].train_loss for one in (whole, again)]
    assert losses[0] == losses[1]  # the sums of the first half were saved


def test_a_run_that_was_killed_after_its_last_epoch_is_only_evaluated(tmp_path: Path) -> None:
    expected = train(make_trainer(tmp_path))
    again = make_trainer(tmp_path)
    again.folder.result.unlink()
    newest = again.saver.newest()
    assert newest is not None
    again.run_state.restore(read_checkpoint(newest), again.stepper, newest)
    result = train(again)
    assert result["weights_sha256"] == expected["weights_sha256"]
    assert result["val_loss"] == expected["val_loss"]
    assert result["images_per_second"] is None


def test_there_is_no_save_where_the_kill_would_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_trainer(tmp_path, process=make_process(launcher="torchrun", kill_seconds=30.0))
    made.saver._writer.last_write_seconds = 31.0
    after_step(monkeypatch, 1, ask_to_stop(made))
    with pytest.raises(
        StoppedError, match="not saved: a save takes 31 s, and the process is killed 30 s after"
    ) as stopped:
        train(made)
    assert not stopped.value.is_saved
    assert places(made) == []


def test_ctrl_c_is_followed_by_no_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_trainer(tmp_path, process=make_process(launcher="torchrun", kill_seconds=30.0))
    made.saver._writer.last_write_seconds = 31.0
    after_step(monkeypatch, 1, ask_to_stop(made, signal.SIGINT))
    with pytest.raises(StoppedError) as stopped:
        train(made)
    assert stopped.value.is_saved
    assert places(made) == ["epoch-0001-step-000002"]


def test_saves_by_steps_of_the_run(tmp_path: Path) -> None:
    made = make_trainer(tmp_path, "checkpoint.every_steps=3", "checkpoint.keep=9")
    train(made)
    steps = [line.step for line in of_kind(made.folder.read_metrics(), SaveLine)]
    assert steps == [3, 4, 6, 8]
    assert places(made) == [
        "epoch-0001-step-000003",
        "epoch-0001",
        "epoch-0002-step-000002",
        "epoch-0002",
    ]


def test_the_last_step_of_an_epoch_is_saved_once_after_its_evaluation(tmp_path: Path) -> None:
    made = make_trainer(tmp_path, "checkpoint.every_steps=2", "checkpoint.keep=9")
    train(made)
    assert [line.step for line in of_kind(made.folder.read_metrics(), SaveLine)] == [2, 4, 6, 8]
    assert "epoch-0001-step-000004" not in places(made)


def test_saves_by_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    fake = SimpleNamespace(monotonic=lambda: now[0], perf_counter=time.perf_counter)
    monkeypatch.setattr("signs_dist.training.saver.time", fake)
    made = make_trainer(tmp_path, "checkpoint.every_seconds=60", "checkpoint.keep=9")

    def pass_time() -> None:
        now[0] += 61

    after_step(monkeypatch, 5, pass_time)
    train(made)
    # The time is up after step 5, and step 6 is the first that asks.
    assert [line.step for line in of_kind(made.folder.read_metrics(), SaveLine)] == [4, 6, 8]


def test_a_lost_lease_ends_the_run(tmp_path: Path) -> None:
    def require_held() -> None:
        raise TrainingFailedError("another run has taken over the folder")

    lost: Any = SimpleNamespace(is_lost=True, require_held=require_held)
    made = make_trainer(tmp_path, lease=lost)
    with pytest.raises(TrainingFailedError, match="another run has taken over"):
        train(made)
    assert made.run_state.steps_done == 1
    assert places(made) == []  # the folder is another's


def test_a_failed_save_ends_the_run_at_the_next_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_trainer(tmp_path, "checkpoint.every_steps=1")

    def fail(*arguments: Any) -> int:
        raise SaveError("no space left")

    monkeypatch.setattr(made.saver.store, "write", fail)
    with pytest.raises(SaveError, match="no space left"):
        train(made)
    assert made.run_state.steps_done == 2


@pytest.mark.parametrize("save_fails", [True, False])
def test_a_line_without_room_beside_a_save_is_told_by_the_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save_fails: bool
) -> None:
    made = make_trainer(tmp_path, "checkpoint.every_steps=1", "log.every_steps=1")
    add, is_full = made.folder.add, threading.Event()

    def write(*arguments: Any) -> int:
        assert is_full.wait(30)  # the file takes the room, and the line finds none
        if save_fails:
            raise SaveError("no space left: a checkpoint needs 5 bytes")
        return 5

    def add_line(line: Any) -> None:
        if isinstance(line, StepLine) and line.step == 2:
            is_full.set()
            raise UserError("no space left for the line")
        add(line)

    monkeypatch.setattr(made.saver.store, "write", write)
    monkeypatch.setattr(made.folder, "add", add_line)
    kind, told = (SaveError, "a checkpoint needs 5 bytes") if save_fails else (UserError, "for the line")
    with pytest.raises(kind, match=told):
        train(made)


def test_a_loss_that_is_not_finite_names_the_images(tmp_path: Path) -> None:
    made = make_trainer(tmp_path, "optim.lr=1e30", "train.precision=float32", "train.micro_batch=4")
    with pytest.raises(TrainingFailedError) as failed:
        train(made)
    message = str(failed.value)
    assert "not a finite number at epoch 1, step 2, in micro-batch 0, 1. A lower optim.lr (it is 1e+30)" in message
    assert "no state was saved before. To look into the step: python -m signs_dist.replay " in message
    rows = json.loads((made.folder.path / "non_finite_loss.json").read_text())["micro_batches"]
    assert [(row["rank"], row["epoch"], row["step"], row["micro_batch"]) for row in rows] == [
        (0, 1, 2, 0),
        (0, 1, 2, 1),
    ]
    assert [len(row["files"]) for row in rows] == [4, 4]
    photos = tmp_path / "colours" / "train_signs"
    assert all((photos / Path(name).name).is_file() for row in rows for name in row["files"])


def test_a_loss_that_is_not_finite_leaves_the_state_before(tmp_path: Path) -> None:
    made = make_trainer(tmp_path, "optim.lr=1e30", "train.precision=float32", "checkpoint.every_steps=1")
    with pytest.raises(TrainingFailedError, match=r"the last good state is in .*epoch-0001-step-000001\.pt"):
        train(made)


def test_a_process_that_does_not_write_leaves_nothing(tmp_path: Path) -> None:
    made = make_trainer(tmp_path, process=make_silent(make_process()))
    result = train(made)
    assert result["steps"] == 8
    assert {path.name for path in made.folder.path.rglob("*")} == {"checkpoints", "logs"}  # made by rank 0


def test_the_images_of_each_step_are_written_on_request(tmp_path: Path) -> None:
    made = make_trainer(tmp_path, "log.samples=true", "train.micro_batch=4")
    train(made)
    found = read_samples(made.folder.logs)
    assert sorted(found) == [(epoch, step) for epoch in (1, 2) for step in (1, 2, 3, 4)]
    assert all(len(samples) == 8 for samples in found.values())
    assert find_repeated(found) == []


def test_the_pulse_tells_each_phase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_trainer(tmp_path, "train.epochs=1")
    phases: list[tuple[str, int, int]] = []
    enter = made.process.pulse.enter

    def listen(phase: str, **where: Any) -> None:
        enter(phase, **where)
        pulse = made.process.pulse
        phases.append((phase, pulse.epoch, pulse.step))

    monkeypatch.setattr(made.process.pulse, "enter", listen)
    train(made)
    names = [name for name, *_ in phases]
    assert phases[0] == ("load", 1, 0)
    assert names[-1] == "save"
    assert {"forward", "backward", "optimizer", "sum metrics", "evaluate val", "evaluate test"} <= set(names)
    assert ("forward", 1, 4) in phases


def test_a_trainer_is_freed_with_its_last_reference(tmp_path: Path) -> None:
    gc.collect()
    gc.disable()
    try:
        made = make_trainer(tmp_path, "log.samples=true")
        train(made)
        watched = [weakref.ref(value) for value in (made.trainer, made.stepper, made.stepper.train_loader, made.saver)]
        assert isinstance(made.stepper, Stepper)
        del made
        assert [value() for value in watched] == [None] * 4
    finally:
        gc.enable()


def test_no_weights_are_written_into_a_lost_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, evaluate = make_trainer(tmp_path), Stepper.evaluate
    lost = []

    def require_held() -> None:
        if lost:
            raise TrainingFailedError("another run has taken over the folder")

    def evaluate_and_lose(self: Stepper, split: str, *more: Any) -> Any:
        lost.extend([split] if split == "test" else [])
        return evaluate(self, split, *more)

    monkeypatch.setattr(Stepper, "evaluate", evaluate_and_lose)
    made.folder.require_held = require_held
    with pytest.raises(TrainingFailedError, match="another run has taken over"):
        train(made)
    assert not made.folder.model.exists()
    assert not made.folder.result.exists()


def test_a_run_that_waits_for_cores_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = iter(("", "other programs use the cores", ""))
    monkeypatch.setattr(trainer_module.CoreWatch, "look", lambda self: next(told))
    made = make_trainer(tmp_path, "train.epochs=3", process=make_process(quiet=False))
    train(made)
    lines = shown(made.process).splitlines()
    assert lines.count("other programs use the cores") == 1
    assert lines[lines.index("other programs use the cores") - 1].startswith("epoch 2/3")


@pytest.mark.parametrize(
    ("settings", "policy", "counts"),
    [
        (("train.num_threads=auto",), "ACTIVE", [2, 1]),
        (("train.num_threads=auto",), "PASSIVE", [2, 2]),
        (("train.num_threads=2",), "ACTIVE", [2, 2]),
        (("train.num_threads=auto", "train.compile=true"), "ACTIVE", [2, 2]),
    ],
)
def test_fewer_threads_compute_where_too_few_cores_are_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: tuple[str, ...], policy: str, counts: list[int]
) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", policy)
    monkeypatch.setattr(torch, "compile", lambda model, **more: model)
    counted: list[int] = []

    def look(self: CoreWatch) -> str:
        counted.append(torch.get_num_threads())
        self.num_threads = 1 if self._may_change else self.num_threads
        return ""

    monkeypatch.setattr(CoreWatch, "look", look)
    train(make_trainer(tmp_path, "train.epochs=2", *settings, process=make_process(num_threads=2)))
    assert counted == counts


def test_the_watch_knows_how_many_processes_share_the_cores(tmp_path: Path) -> None:
    watch = make_trainer(tmp_path, process=make_process(num_sharing_cores=3)).trainer._core_watch
    assert watch is not None
    assert watch._num_sharing == 3


def test_on_a_gpu_no_wait_for_cores_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_trainer(tmp_path)
    monkeypatch.setattr(made.process.strategy, "device", torch.device("cuda"))
    parts = (made.stepper, made.run_state, made.saver, made.process, made.folder)
    assert Trainer(*parts, stop=made.stop)._core_watch is None
