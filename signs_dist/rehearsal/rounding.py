"""How large a difference between two runs in fast mode may be, measured by control runs.

In fast mode the order of additions differs, and with it the last bits of each sum. Such a rounding error grows from
step to step, in some networks much faster than in others. A control run shows how fast: its initial weights differ by
about a rounding error.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from signs_dist.rehearsal.records import Record

LOSS_BOUND = {"float32": 1e-4, "bfloat16": 5e-2, "float16": 5e-2}
"""Arithmetic → relative difference of a step's loss that always counts as rounding."""
NUDGE = 1e-7
"""Relative change of the initial weights in a control run: about float32's rounding."""
CONTROL_FACTOR = 100
"""A difference may be this many times as large as the largest difference of the control runs."""
NUM_CONTROLS = 3
"""Number of control runs. The difference of a single one depends on which ReLUs and max-pools happen to switch."""


def nudge_weights(model: nn.Module, seed: int) -> None:
    """Change each weight by about `NUDGE` times itself, at random by the seed."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.mul_((1 + NUDGE * noise).to(parameter.device, parameter.dtype))


def loss_differences(first: Record, other: Record) -> list[float]:
    """Relative difference of each step's loss; infinite where only one of the two is not a number."""
    return [_relative_difference(one, another) for one, another in zip(first.losses, other.losses, strict=True)]


def rounding_bounds(first: Record, controls: Sequence[Record]) -> list[float]:
    """For each step, the largest difference of the loss that rounding explains. It never falls from step to step."""
    steps = zip(*(loss_differences(first, control) for control in controls), strict=True)
    largest_so_far = itertools.accumulate((max(differences) for differences in steps), max)
    return [max(LOSS_BOUND[first.precision], CONTROL_FACTOR * value) for value in largest_so_far]


def _relative_difference(one: float, other: float) -> float:
    if one == other or (math.isnan(one) and math.isnan(other)):
        return 0.0
    difference = abs(one - other) / max(abs(one), 1e-12)
    return difference if math.isfinite(difference) else math.inf
