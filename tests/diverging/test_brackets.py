"""The bisection over saved states, as a table."""

from __future__ import annotations

import pytest

from signs_dist.diverging.brackets import Bracket, find_bracket


@pytest.mark.parametrize(
    ("steps", "first_different", "found"),
    [
        ([], None, (0, None)),
        ([10], None, (10, None)),
        ([10], 1, (0, 10)),
        ([10, 20, 30], 11, (10, 20)),
        ([30, 10, 20], 30, (20, 30)),
        ([10, 20, 30], 1, (0, 10)),
        ([10, 20, 30], 31, (30, None)),
        ([0, 10], 5, (0, 10)),
    ],
)
def test_between_which_states_two_runs_part(
    steps: list[int], first_different: int | None, found: tuple[int, int | None]
) -> None:
    bracket = find_bracket(steps, lambda step: first_different is None or step < first_different)
    assert (bracket.equal, bracket.differs) == found


def test_few_of_many_states_are_compared() -> None:
    asked = []

    def is_equal(step: int) -> bool:
        asked.append(step)
        return step < 700

    assert find_bracket(range(1, 1001), is_equal) == Bracket(699, 700, len(asked))
    assert len(asked) <= 10
