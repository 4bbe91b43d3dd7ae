"""Whole numbers in environment variables."""

from __future__ import annotations

import pytest

from signs_dist.environment.variables import parse_number, read_number
from signs_dist.errors import UserError


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", 0), ("007", 7), (None, None), ("", None), ("-1", None), ("1.5", None), ("²", None), ("1" * 10, None)],
)
def test_what_is_a_whole_number(text: str | None, number: int | None) -> None:
    assert parse_number(text) == number


def test_a_variable_is_read_or_its_default() -> None:
    assert read_number({"SLURM_NODEID": "3"}, "SLURM_NODEID", 0) == 3
    assert read_number({}, "SLURM_NODEID", 0) == 0
    with pytest.raises(KeyError):
        read_number({}, "SLURM_NODEID")
    with pytest.raises(UserError) as caught:
        read_number({"SLURM_NODEID": "x"}, "SLURM_NODEID", 0)
    assert str(caught.value) == (
        "the environment has SLURM_NODEID='x', which is not a whole number. Type: unset SLURM_NODEID"
    )
