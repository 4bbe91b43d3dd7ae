"""How large a difference rounding explains."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from signs_dist.rehearsal.records import Record
from signs_dist.rehearsal.rounding import NUDGE, loss_differences, nudge_weights, rounding_bounds


def record(*losses: float, precision: str = "float32") -> Record:
    return Record(1, [], [], list(losses), "", {}, precision)


@pytest.mark.parametrize(
    ("one", "other", "difference"),
    [
        (2.0, 2.0, 0.0),
        (2.0, 3.0, 0.5),
        (math.nan, math.nan, 0.0),
        (math.inf, math.inf, 0.0),
        (math.nan, 1.0, math.inf),
        (1.0, math.nan, math.inf),
        (1.0, math.inf, math.inf),
        (0.0, 1e-12, 1.0),
    ],
)
def test_relative_difference_of_a_loss(one: float, other: float, difference: float) -> None:
    assert loss_differences(record(one), record(other)) == [difference]


def test_bounds_are_a_hundred_times_the_largest_control_and_never_fall() -> None:
    first = record(1.0, 1.0, 1.0, 1.0)
    controls = [record(1.0, 1.5, 1.0, 1.0), record(1.0, 1.0, 1.25, 3.0)]
    assert rounding_bounds(first, controls) == [1e-4, 50.0, 50.0, 200.0]
    assert rounding_bounds(record(1.0, precision="bfloat16"), [record(1.0)]) == [5e-2]


def test_weights_are_nudged_by_a_rounding_error_and_by_the_seed() -> None:
    def nudged(seed: int) -> torch.Tensor:
        model = nn.Linear(100, 100).requires_grad_()
        with torch.no_grad():
            model.weight.fill_(2.0)
        nudge_weights(model, seed)
        return model.weight.detach()

    difference = (nudged(1).double() - 2).abs() / 2
    assert 0 < float(difference.max()) < 10 * NUDGE
    assert torch.equal(nudged(1), nudged(1))
    assert not torch.equal(nudged(1), nudged(2))
