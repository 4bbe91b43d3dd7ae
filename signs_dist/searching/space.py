"""What a search may choose: lists of values and ranges, some of them only where others were chosen in a certain way."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

from signs_dist.config.yaml_text import format_value

SIGNIFICANT_DIGITS = 4
"""Of a number that is drawn from a range: more would make no difference to a result, and long commands."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choices:
    """A setting that takes one of some values.

    Attributes:
        name: the setting, such as `optim.name`.
        values: at least one.
        when: settings that must have been chosen so; a value may be a tuple of allowed values. Empty: always.
    """

    name: str
    values: tuple[Any, ...]
    when: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Range:
    """A setting that takes a number from `low` to `high`, both included.

    Attributes:
        name: the setting, such as `optim.lr`.
        low, high: `low` is below `high`.
        is_log: whether the number's logarithm is uniform, so that 0.001 to 0.01 is as likely as 0.01 to 0.1.
        step: the distance of two numbers that may be chosen, from `low` on; None for any number.
        is_whole: whether only whole numbers are legal; their step is 1 or larger.
        when: as in `Choices`.
    """

    name: str
    low: float
    high: float
    is_log: bool = False
    step: float | None = None
    is_whole: bool = False
    when: Mapping[str, Any] = dataclasses.field(default_factory=dict)


Dimension = Choices | Range
Chosen = dict[str, Any]
"""Setting → value, for the dimensions whose conditions hold."""


def is_active(dimension: Dimension, chosen: Mapping[str, Any]) -> bool:
    """Whether the conditions of a dimension hold."""
    for name, wanted in dimension.when.items():
        if name not in chosen or chosen[name] not in (wanted if isinstance(wanted, tuple) else (wanted,)):
            return False
    return True


def combinations(space: Sequence[Dimension], most: int | None = None) -> list[Chosen]:
    """All combinations of the values of a space without ranges, the last dimension varying fastest.

    Args:
        space: the dimensions.
        most: with more combinations than this, the list ends early: it only shows that there are more.
    """
    found: list[Chosen] = [{}]
    for dimension in space:
        assert isinstance(dimension, Choices), "a grid has no ranges"
        grown: list[Chosen] = []
        for chosen in found:
            values = dimension.values if is_active(dimension, chosen) else ()
            grown += [chosen | {dimension.name: value} for value in values] or [chosen]
        found = grown
        # A further dimension never makes them fewer. Ten settings of ten values would not fit in memory.
        if most is not None and len(found) > most:
            break
    return found


def draw(space: Sequence[Dimension], seed: int, number: int) -> Chosen:
    """The choices of trial `number` of a random search: a function of the arguments alone.

    A trial's value for one setting does not depend on the other settings, so that a space can grow.
    """
    chosen: Chosen = {}
    for dimension in space:
        if is_active(dimension, chosen):
            share = random.Random(f"{seed}/{number}/{dimension.name}").random()
            chosen[dimension.name] = value_at(dimension, share)
    return chosen


def value_at(dimension: Dimension, share: float) -> Any:
    """The value of a dimension at a share of it, at least 0 and below 1."""
    if isinstance(dimension, Choices):
        return dimension.values[int(share * len(dimension.values))]
    low, high = dimension.low, dimension.high
    step = dimension.step or (1 if dimension.is_whole and not dimension.is_log else None)
    if step is not None:
        value = low + step * int(share * (math.floor((high - low) / step + 1e-9) + 1))
    elif dimension.is_log:
        # A whole number stands for the half below and above it, as in `round`.
        half = 0.5 if dimension.is_whole else 0.0
        value = math.exp(math.log(low - half) + share * (math.log(high + half) - math.log(low - half)))
    else:
        value = low + share * (high - low)
    if dimension.is_whole:
        return min(int(high), max(int(low), round(value)))
    return min(high, max(low, float(f"{value:.{SIGNIFICANT_DIGITS}g}")))


def edges(space: Sequence[Dimension]) -> list[Chosen]:
    """Choices that together have each value and both ends of each range: what the config is asked about beforehand."""
    found: list[Chosen] = []
    for dimension in space:
        ends = dimension.values if isinstance(dimension, Choices) else (dimension.low, dimension.high)
        if isinstance(dimension, Range) and dimension.is_whole:
            ends = tuple(map(int, ends))
        found += [_complete(space, {dimension.name: end} | _needed(space, dimension)) for end in ends]
    return found or [{}]


def _needed(space: Sequence[Dimension], dimension: Dimension) -> Chosen:
    """Choices with which the conditions of a dimension hold."""
    needed: Chosen = {}
    for name, wanted in dimension.when.items():
        needed[name] = wanted[0] if isinstance(wanted, tuple) else wanted
        needed |= _needed(space, next(each for each in space if each.name == name))
    return needed


def _complete(space: Sequence[Dimension], fixed: Mapping[str, Any]) -> Chosen:
    chosen: Chosen = {}
    for dimension in space:
        if is_active(dimension, chosen):
            chosen[dimension.name] = fixed.get(dimension.name, value_at(dimension, 0.0))
    return chosen


def to_settings(chosen: Mapping[str, Any]) -> tuple[str, ...]:
    """The choices as `section.key=value`."""
    return tuple(f"{name}={format_value(value)}" for name, value in chosen.items())
