"""What is said while a run trains."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from signs_dist.checkpointing.store import Cursor
from signs_dist.config.reading import load_config
from signs_dist.data.plan import EpochPlan
from signs_dist.learning.metrics import Score
from signs_dist.run_folder.records import StepLine
from signs_dist.training.progress import early_end_text, epoch_text, pixels_until, seconds_left, step_text
from signs_dist.training.run_state import Best, RunState

LINE = StepLine(
    epoch=3,
    step=120,
    images=3840,
    train_loss=0.51234,
    train_accuracy=0.981,
    lr=0.0416,
    images_per_second=1234.5,
    data_wait_share=0.034,
)
SCORE = Score(3.0, np.array([[5, 1], [0, 4]]))


def test_the_numbers_beside_the_bar() -> None:
    assert step_text(LINE, 12) == "epoch 3/12 | loss 0.512  98.1 % | 1,234 images/s"


@pytest.mark.parametrize(
    ("epoch", "num_epochs", "val", "text"),
    [
        (
            3,
            12,
            SCORE,
            "epoch  3/12 | loss 0.512  98.1 % | val 0.300  90.0 % (9/10) | lr 0.042 | 1,234 images/s | data wait 3 % | "
            "1 min 30 s left",
        ),
        (3, 5, None, "epoch 3/5 | loss 0.512  98.1 % | lr 0.042 | 1,234 images/s | data wait 3 % | 1 min 30 s left"),
        (
            3,
            3,
            SCORE,
            "epoch 3/3 | loss 0.512  98.1 % | val 0.300  90.0 % (9/10) | lr 0.042 | 1,234 images/s | data wait 3 %",
        ),
    ],
)
def test_a_line_about_an_epoch(epoch: int, num_epochs: int, val: Score | None, text: str) -> None:
    assert epoch_text(dataclasses.replace(LINE, epoch=epoch), val, num_epochs, 90.0) == text


def test_the_macro_f1_is_shown_where_it_decides() -> None:
    assert "90.0 % (9/10) | macro F1 0.899 | lr" in epoch_text(LINE, SCORE, 12, 90.0, "macro_f1")


@pytest.mark.parametrize(
    ("best_by", "best", "told"),
    [
        ("accuracy", 2, "the best val accuracy is that of epoch 2, 3 epochs before"),
        ("loss", 2, "the best val loss is that of epoch 2, 3 epochs before"),
        ("macro_f1", 4, "the best val macro F1 is that of epoch 4, 1 epoch before"),
    ],
)
def test_why_a_run_ends_early(best_by: str, best: int, told: str) -> None:
    state = RunState(EpochPlan(80, 8, 0), 9)
    state.cursor, state.best = Cursor(5, 0), Best(best, 0.5, 0.5)
    config = load_config(None, ["train.epochs=9", "train.patience=1", f"evaluate.best_by={best_by}"])
    assert early_end_text(state, config) == f"ended early after epoch 5 of 9: {told} (train.patience=1)"


def test_the_time_left_is_by_the_speed_of_this_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("signs_dist.training.run_state.time", SimpleNamespace(perf_counter=lambda: now[0]))
    state = RunState(EpochPlan(80, 8, 0), 3)  # 30 steps
    assert seconds_left(state, [(64, 3)]) == 0
    for _ in range(10):
        state.advance()
    state.first_step = state.steps_done  # an earlier attempt did these
    state.clock.add(1000.0)
    state.clock.start()
    now[0] += 10
    for _ in range(5):
        state.advance()
    assert seconds_left(state, [(64, 3)]) == pytest.approx(2.0 * 15)
    # 5 steps were at 32 pixels, 5 of the epoch are left there, and 10 at 64 take four times as long.
    assert seconds_left(state, [(32, 2), (64, 3)]) == pytest.approx(2.0 * 5 + 8.0 * 10)


@pytest.mark.parametrize(
    ("num_steps", "pixels"),
    [(0, 0), (3, 3 * 4), (10, 10 * 4), (11, 10 * 4 + 9), (20, 10 * 4 + 10 * 9), (40, 10 * 4 + 10 * 9 + 20 * 16)],
)
def test_the_pixels_of_steps_whose_images_grow(num_steps: int, pixels: int) -> None:
    assert pixels_until(num_steps, [(2, 1), (3, 2), (4, 4)], 10) == pixels


def test_an_epoch_without_a_step_here_has_no_speed() -> None:
    """It was resumed between its last step and its evaluation."""
    line = dataclasses.replace(LINE, images_per_second=0.0, data_wait_share=0.0)
    assert epoch_text(line, SCORE, 12, 0.2) == "epoch  3/12 | loss 0.512  98.1 % | val 0.300  90.0 % (9/10) | lr 0.042"
