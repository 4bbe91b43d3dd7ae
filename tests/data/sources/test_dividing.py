"""The shares of a division, and the line about it. What is divided how is in test_division.py and test_opening.py."""

from __future__ import annotations

import pytest

from signs_dist.data.sources.dividing import choose_shares, division_line


def test_shares() -> None:
    assert choose_shares(None, has_test=False) == {"train": 0.8, "val": 0.1, "test": 0.1}
    assert choose_shares((0.6, 0.4), has_test=False) == {"train": 0.6, "val": 0.4}
    assert choose_shares((0.6, 0.2, 0.2), has_test=True) == pytest.approx({"train": 0.75, "val": 0.25})


def test_the_line_states_what_came_out() -> None:
    counts, shares = {"train": 70, "val": 30}, {"train": 0.8, "val": 0.2}
    line = division_line(counts, shares, 3, None, "data/splits/x.csv")
    assert line == (
        "divided: train 70.0 %, val 30.0 % of the images, each class by itself, by data.split_seed=3; written in "
        "data/splits/x.csv"
    )
    grouped = division_line(counts, shares, 0, {"a": "p1", "b": "p1", "c": "p2", "d": "p2"}, "x.csv")
    assert grouped == (
        "divided: 2 groups, each on one side, by data.split_seed=0: train 70.0 %, val 30.0 % of the images (80/20 "
        "wanted); written in x.csv"
    )


@pytest.mark.parametrize(
    ("groups", "told"),
    [
        (
            {"a": "x", "b": "x", "c": "3"},
            "divided: 1 group of 2 or more images, and 1 single image, each on one side, ",
        ),
        ({"a": "x", "b": "x", "c": "3", "d": "4"}, "divided: 1 group of 2 or more images, and 2 single images, each "),
        ({"a": "x", "b": "y"}, "divided: 0 groups of 2 or more images, and 2 single images, each on one side, by "),
    ],
)
def test_an_image_alone_is_no_group(groups: dict[str, str], told: str) -> None:
    assert division_line({"train": 3, "val": 1}, {"train": 0.8, "val": 0.2}, 0, groups, "x.csv").startswith(told)
