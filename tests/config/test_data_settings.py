"""Settings of a division: what is refused, and what the message says."""

from __future__ import annotations

import pytest

from signs_dist.config.reading import load_config
from signs_dist.errors import UserError


@pytest.mark.parametrize("text", ["[0.8, 0.1, 0.1]", "[0.8, 0.2]", "[0.7, 0.15, 0.15]", "[0.34, 0.33, 0.33]"])
def test_shares_that_sum_to_1(text: str) -> None:
    assert sum(load_config(None, [f"data.split={text}"]).data.split or ()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("data.split=[0.8, 0.3]", r"data.split=\[0.8, 0.3\] sums to 1.1, not to 1. Give the shares of train, val and"),
        ("data.split=[0.8, 0.1]", "sums to 0.9, not to 1"),
        ("data.split=[0.5]", "has 1 number. Give the shares"),
        ("data.split=[0.7, 0.1, 0.1, 0.1]", "has 4 numbers"),
        ("data.split=[80, 10, 10]", "entry 1: 80 is not legal. It takes a list, each a number, above 0 and below 1"),
        ("data.split=0.8", "It takes a list"),
        ("data.group_pattern=person", r"has no group. Put the one part of the path that is the group into parenth"),
        ("data.label_pattern='(a)/(b)'", r"has 2 groups. .* the label into parentheses, .* as \(\?:"),
        ("data.label_pattern='(a'", "is not a regular expression: missing"),
        ("data.root=[]", "data.root"),
        ("data.columns.path=''", "It takes text that is not empty"),
    ],
)
def test_what_is_refused_says_what_to_type(setting: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        load_config(None, [setting])


def test_two_kinds_of_groups_are_refused() -> None:
    with pytest.raises(UserError, match=r"both set. Keep the one that tells the groups"):
        load_config(None, ["data.group_pattern=p(.)", "data.columns.group=person"])


def test_no_split_column_is_told_by_empty_text() -> None:
    assert load_config(None, ["data.columns.split=''"]).data.columns.split == ""
