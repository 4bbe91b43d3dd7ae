"""The number by which runs are compared, in numbers and in words."""

from __future__ import annotations

import pytest

from signs_dist.reporting.measure import Measure


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("val_accuracy", ("best val accuracy", "75.0 %", "± 1.2", "-3.4", "percentage points")),
        ("val_macro_f1", ("best val macro F1", "75.0 %", "± 1.2", "-3.4", "percentage points")),
        ("val_loss", ("best val loss", "0.7500", "± 0.0120", "-0.0340", "")),
    ],
)
def test_in_words(name: str, told: tuple[str, ...]) -> None:
    measure = Measure(name)
    assert (
        measure.label,
        measure.text(0.75),
        measure.spread_text(0.012),
        measure.difference_text(-0.034),
        measure.unit,
    ) == told


def test_the_better_value_is_the_larger_goodness() -> None:
    assert Measure().goodness(0.9) > Measure().goodness(0.1) > Measure().goodness(None)
    assert Measure("val_loss").goodness(0.1) > Measure("val_loss").goodness(0.9) > Measure().goodness(None)
