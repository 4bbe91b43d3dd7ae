"""Between which states two runs part: by bisection over what both have saved."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence


@dataclasses.dataclass(frozen=True)
class Bracket:
    """The steps within which the first difference lies, in steps since the start of the run.

    Attributes:
        equal: the last state that both have and that is equal; 0 is the beginning.
        differs: the next state that both have, which differs; None if no saved state differs.
        num_compared: how many states were compared.
    """

    equal: int
    differs: int | None
    num_compared: int


def find_bracket(steps: Sequence[int], is_equal: Callable[[int], bool]) -> Bracket:
    """Search the states that both runs have for the first that differs.

    Runs that differ once differ in all later states. So the search halves what is left, and asks of few states.

    Args:
        steps: steps done at each state that both runs have.
        is_equal: whether the state after so many steps is the same in both.
    """
    states = sorted(step for step in set(steps) if step > 0)
    first, end, num_compared = 0, len(states), 0
    while first < end:
        middle = (first + end) // 2
        num_compared += 1
        if is_equal(states[middle]):
            first = middle + 1
        else:
            end = middle
    return Bracket(
        equal=states[first - 1] if first else 0,
        differs=states[first] if first < len(states) else None,
        num_compared=num_compared,
    )
