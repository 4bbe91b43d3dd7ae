"""How far a run is: one cursor that moves with every step, and a checkpoint that takes up where it was saved."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from signs_dist.checkpointing.store import Cursor
from signs_dist.checkpointing.tensors import Copier, weights_sha256
from signs_dist.config.settings import BestBy
from signs_dist.data.plan import EpochPlan
from signs_dist.errors import UserError
from signs_dist.learning.metrics import Score
from signs_dist.models.trial import TrialDigest
from signs_dist.models.weights import named_weights
from signs_dist.training.run_state import Best, RunState, is_out_of_patience, read_best
from tests.training.parts import make_stepper


def score(num_correct: int, loss: float = 0.5) -> Score:
    confusion = np.array([[num_correct, 10 - num_correct], [0, 0]], dtype=np.int64)
    return Score(10 * loss, confusion)


def test_the_cursor_tells_every_other_number() -> None:
    state = RunState(EpochPlan(80, 8, 0), 3)
    assert (state.epoch, state.steps_done, state.images, state.num_steps) == (1, 0, 0, 30)
    for _ in range(10):
        state.advance()
    assert state.cursor == Cursor(0, 10)  # all steps done, not evaluated
    assert (state.epoch, state.steps_done, state.images) == (1, 10, 80)
    state.end_epoch(None)
    assert state.cursor == Cursor(1, 0)
    assert (state.epoch, state.steps_done) == (1, 10)  # the last step was of epoch 1
    state.advance()
    assert (state.epoch, state.steps_done) == (2, 11)


def test_the_best_epoch_is_by_accuracy_then_by_loss() -> None:
    state = RunState(EpochPlan(80, 8, 0), 9)
    for number, loss in ((5, 0.5), (7, 0.5), (7, 0.4), (7, 0.45), (6, 0.1)):
        state.end_epoch(score(number, loss))
    state.end_epoch(None)
    assert state.best is not None
    assert (state.best.epoch, state.best.accuracy) == (3, 0.7)
    assert state.best.loss == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("best_by", "scores", "expected"),
    [
        # Scores are (right of 5 images of class 0, right of 5 of class 1, loss).
        ("accuracy", [(3, 3, 0.1), (5, 2, 0.5), (4, 3, 0.4)], 3),
        ("loss", [(3, 3, 0.2), (5, 5, 0.5), (4, 3, 0.2), (3, 4, 0.2)], 3),
        ("loss", [(3, 3, math.nan), (2, 2, 0.5), (2, 2, math.nan)], 2),
        ("macro_f1", [(5, 1, 0.1), (3, 3, 0.5), (3, 3, 0.6)], 2),
    ],
)
def test_the_best_epoch_is_by_the_setting(best_by: BestBy, scores: list[tuple[int, int, float]], expected: int) -> None:
    state = RunState(EpochPlan(80, 8, 0), 9, best_by=best_by)
    news = []
    for first, second, loss in scores:
        bad = 1 if math.isnan(loss) else 0
        confusion = np.array([[first, 5 - first], [5 - second, second]], dtype=np.int64)
        news.append(state.end_epoch(Score(0.0 if bad else 10 * loss, confusion, bad)))
    assert state.best is not None
    assert state.best.epoch == expected
    assert max(number for number, is_new in enumerate(news, 1) if is_new) == expected


def test_a_best_epoch_of_an_earlier_release_has_no_macro_f1_and_is_beaten_by_any() -> None:
    best = read_best({"best": {"epoch": 2, "accuracy": 0.9, "loss": 0.25}})
    assert best == Best(2, 0.9, 0.25, None)
    assert best.is_beaten_by(score(0), "macro_f1")
    assert not best.is_beaten_by(score(0), "accuracy")


@pytest.mark.parametrize(
    ("cursor", "best", "patience", "every_epochs", "expected"),
    [
        (Cursor(5, 0), 3, 2, 1, True),
        (Cursor(5, 0), 3, 1, 1, True),  # a run that was resumed with less patience
        (Cursor(5, 0), 3, 3, 1, False),
        (Cursor(5, 0), 3, None, 1, False),
        (Cursor(5, 0), None, 1, 1, False),
        (Cursor(5, 1), 3, 2, 1, False),  # within an epoch
        (Cursor(5, 0), 4, 1, 2, False),  # not validated
        (Cursor(6, 0), 4, 1, 2, True),
        (Cursor(6, 0), 4, 3, 2, False),
    ],
)
def test_when_a_run_is_out_of_patience(
    cursor: Cursor, best: int | None, patience: int | None, every_epochs: int, expected: bool
) -> None:
    at = Best(best, 0.5, 0.5) if best is not None else None
    assert is_out_of_patience(cursor, at, patience, every_epochs) is expected
    state = RunState(EpochPlan(80, 8, 0), 9, patience=patience, every_epochs=every_epochs)
    state.cursor, state.best = cursor, at
    assert state.has_ended_early is expected
    state = RunState(EpochPlan(80, 8, 0), cursor.epoch, patience=patience, every_epochs=every_epochs)
    state.cursor, state.best = cursor, at
    assert not state.has_ended_early  # its last epoch


def test_the_clock_counts_from_its_start_and_adds_earlier_attempts() -> None:
    state = RunState(EpochPlan(80, 8, 0), 1)
    assert state.clock.seconds == 0
    state.clock.add(5.0)
    assert state.clock.seconds == 5.0
    state.clock.start()
    assert state.clock.seconds > 5.0
    assert 0 < state.clock.seconds_here < 1


def test_what_is_saved_is_taken_up(tmp_path: Path) -> None:
    stepper, _ = make_stepper(tmp_path, "ema.decay=0.9", "optim.name=adamw", "optim.lr=0.01")
    state = RunState(stepper.prepared.plan, 2)
    steps = stepper.steps(state.cursor)
    for _ in range(2):
        report = next(steps)
        state.advance()
    state.best = Best(1, 0.5, 0.25, 0.75)
    totals = {name: tensor.numpy() for name, tensor in report.sums.tensors().items()}
    content = state.to_content(stepper, Copier(), totals, {"note": "plain"})

    other, _ = make_stepper(tmp_path, "ema.decay=0.9", "optim.name=adamw", "optim.lr=0.01", "seed=1")
    assert weights_sha256(named_weights(other.state.model)) != weights_sha256(named_weights(stepper.state.model))
    again = RunState(other.prepared.plan, 2)
    again.restore(content, other, Path("x.pt"))

    assert weights_sha256(named_weights(other.state.model)) == weights_sha256(named_weights(stepper.state.model))
    assert (again.cursor, again.best, again.steps_done, again.steps_done_here) == (Cursor(0, 2), state.best, 2, 0)
    sums = again.take_sums(other.state.num_classes, torch.device("cpu"), is_main=True)
    assert int(sums.tensors()["confusion"].sum()) == 2 * other.prepared.plan.global_batch
    assert int(again.take_sums(2, torch.device("cpu"), is_main=True).tensors()["loss"]) == 0  # once
    first, second = other.state.optimizer.state_dict()["state"], stepper.state.optimizer.state_dict()["state"]
    assert all(torch.equal(first[key]["exp_avg"], second[key]["exp_avg"]) for key in second)
    assert (content["run"], content["trial"]) == ({"note": "plain"}, None)
    stepper.trial = TrialDigest("a", "b", "c")
    content = state.to_content(stepper, Copier(), totals, {})
    assert content["trial"] == {"weights": "a", "training": "b", "evaluation": "c"}


def test_sums_of_a_checkpoint_count_on_one_process_only(tmp_path: Path) -> None:
    stepper, _ = make_stepper(tmp_path)
    state = RunState(stepper.prepared.plan, 1)
    report = next(stepper.steps(state.cursor))
    state.advance()
    totals = {name: tensor.numpy() for name, tensor in report.sums.tensors().items()}
    content = state.to_content(stepper, Copier(), totals, {})
    state.restore(content, stepper, Path("x.pt"))
    sums = state.take_sums(stepper.state.num_classes, torch.device("cpu"), is_main=False)
    assert int(sums.tensors()["confusion"].sum()) == 0


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    stepper, _ = make_stepper(tmp_path)
    content = RunState(stepper.prepared.plan, 1).to_content(stepper, Copier(), None, {})
    other, _ = make_stepper(tmp_path, "model.name=signs_net")
    with pytest.raises(UserError, match=r"x\.pt .* of another model"):
        RunState(other.prepared.plan, 1).restore(content, other, Path("x.pt"))
