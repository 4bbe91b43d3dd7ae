"""What is said about a score."""

from __future__ import annotations

import dataclasses
import io
import json
import math

import numpy as np
import pytest

from signs_dist.console.screen import Screen
from signs_dist.learning.metrics import Score
from signs_dist.training.score_table import duration, epoch_fields, score_fields, show_score

SCORE = Score(12.0, np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]]))


def test_fields_are_plain_json() -> None:
    assert score_fields("val", SCORE) == {"val_loss": 1.5, "val_accuracy": 0.875}
    fields = json.loads(json.dumps(score_fields("test", SCORE, in_full=True), allow_nan=False))
    assert (fields["test_correct"], fields["test_images"]) == (7, 8)
    assert fields["test_accuracy_interval"] == [pytest.approx(0.529, abs=1e-3), pytest.approx(0.978, abs=1e-3)]
    assert fields["test_class_accuracies"] == [0.75, 1.0, None]
    assert fields["test_confusion"] == [[3, 1, 0], [0, 4, 0], [0, 0, 0]]


@pytest.mark.parametrize("quiet", [False, True])
def test_the_accuracy_is_said_with_its_interval_and_its_data(quiet: bool) -> None:
    stream = io.StringIO()
    show_score(Screen(is_terminal=False, quiet=quiet, file=stream), "val", SCORE, ["a", "b", "c"], "synthetic")
    lines = stream.getvalue().splitlines()
    assert lines[-1] == "val accuracy 87.5 % (7/8 synthetic images, 95 % interval 52.9 to 97.8 %), loss 1.5000"
    assert len(lines) == 1 if quiet else "val of synthetic" in lines[1]


def test_a_folder_with_brackets_is_no_markup() -> None:
    stream = io.StringIO()
    show_score(Screen(is_terminal=True, file=stream), "val", SCORE, ["[b]", "[/b]", "c"], "photos[/old]")
    assert "val of photos[/old]" in stream.getvalue()
    assert "[/b]" in stream.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.21, "0.2 s"),
        (9.96, "10 s"),
        (12.4, "12 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3599.7, "1 h 00 min"),
        (7380, "2 h 03 min"),
        (360_000, "100 h 00 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_own_metrics_are_shown_and_written() -> None:
    own = dataclasses.replace(SCORE, metrics={"kappa": 0.81234, "lift": math.nan})
    assert score_fields("test", own, in_full=True)["test_metrics"] == {"kappa": 0.81234, "lift": None}
    assert epoch_fields(own)["val_metrics"] == {"kappa": 0.81234, "lift": None}
    assert "val_metrics" not in epoch_fields(SCORE)
    assert "val_metrics" not in score_fields("val", SCORE, in_full=True)
    stream = io.StringIO()
    show_score(Screen(is_terminal=False, quiet=True, file=stream), "val", own, ["a", "b", "c"], "synthetic")
    assert stream.getvalue().splitlines()[-1] == "val kappa 0.8123, lift nan"
