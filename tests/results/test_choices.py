"""The choice of a trial, and how good it is, in words."""

from __future__ import annotations

import pytest

from signs_dist.results.choices import describe_choice, describe_number, describe_run, describe_value


def test_a_choice() -> None:
    assert describe_choice({"optim.lr": 0.0312345678, "optim.betas": [0.9, 0.99]}) == (
        "optim.lr=0.03123 optim.betas=[0.9, 0.99]"
    )
    assert describe_choice({}) == "(no setting is searched)"


def test_a_run_of_a_choice() -> None:
    assert describe_run({"optim.lr": 0.1}, 2) == "optim.lr=0.1 seed=2"
    assert describe_run({"optim.lr": 0.1}, None) == "optim.lr=0.1"
    assert describe_run({}, 2) == "seed=2"


def test_a_number_with_its_deviation() -> None:
    assert describe_number("val_macro_f1", 0.75, 0.012) == "75.0 ± 1.2 %"
    assert describe_number("val_loss", 0.75, 0.012) == "0.7500 ± 0.0120"


@pytest.mark.parametrize(
    ("measure", "value", "told"),
    [
        ("val_accuracy", 0.751, "val_accuracy 75.1 %"),
        ("val_loss", 0.75123, "val_loss 0.7512"),
        ("val_loss", None, "without val_loss"),
    ],
)
def test_a_value(measure: str, value: float | None, told: str) -> None:
    assert describe_value(measure, value) == told
