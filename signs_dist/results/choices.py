"""What a trial of a sweep has chosen, and how good it is, in the words of all tables and lines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from signs_dist.config.yaml_text import format_value

DIGITS = 4
"""Significant digits of a chosen number."""


def describe_choice(chosen: Mapping[str, Any]) -> str:
    """The choice of a trial, as it is typed, with short numbers."""
    return " ".join(f"{name}={short(value)}" for name, value in chosen.items()) or "(no setting is searched)"


def describe_run(chosen: Mapping[str, Any], seed: int | None) -> str:
    """The choice and the seed of a run of a trial: `optim.lr=0.1 seed=2`."""
    if seed is None:
        return describe_choice(chosen)
    return describe_choice({**chosen, "seed": seed})


def short(value: Any) -> str:
    """A value for people."""
    return f"{value:.{DIGITS}g}" if isinstance(value, float) else format_value(value)


def describe_number(measure: str, value: float, sd: float | None = None) -> str:
    """A value of a measure: `75.0 ± 1.2 %`, or for a loss `0.7512`."""
    if measure.endswith("loss"):
        return f"{value:.4f}" + (f" ± {sd:.4f}" if sd is not None else "")
    return f"{100 * value:.1f}" + (f" ± {100 * sd:.1f}" if sd is not None else "") + " %"


def describe_value(measure: str, value: float | None) -> str:
    """A value of a measure with its name: `val_accuracy 75.0 %`."""
    return f"{measure} {describe_number(measure, value)}" if value is not None else f"without {measure}"
