"""The words of a grid."""

from __future__ import annotations

import pytest

from signs_dist.errors import UserError
from signs_dist.searching.grid import parse_choices, parse_grid


@pytest.mark.parametrize(
    ("entries", "trials"),
    [
        (["seeds=0,1"], [("seed=0",), ("seed=1",)]),
        (
            ["seeds=0,1", "optim.lr=0.1,0.03"],
            [
                ("seed=0", "optim.lr=0.1"),
                ("seed=0", "optim.lr=0.03"),
                ("seed=1", "optim.lr=0.1"),
                ("seed=1", "optim.lr=0.03"),
            ],
        ),
        (["optim.lr=1e-4"], [("optim.lr=0.0001",)]),
        (["model.name=mlp,signs_net", "seed=7"], [("model.name=mlp", "seed=7"), ("model.name=signs_net", "seed=7")]),
        (["data.mean=[0.1, 0.2],[0.3, 0.4]"], [("data.mean=[0.1, 0.2]",), ("data.mean=[0.3, 0.4]",)]),
    ],
)
def test_a_grid(entries: list[str], trials: list[tuple[str, ...]]) -> None:
    assert parse_grid(entries) == trials


@pytest.mark.parametrize("entries", [["seeds"], ["=1"], ["seeds="], ["a=["], ["seed=1", "seeds=2"], ["seed=7,7"]])
def test_what_is_no_grid(entries: list[str]) -> None:
    with pytest.raises(UserError, match="--array"):
        parse_grid(entries)
    with pytest.raises(UserError, match="1,001 trials; at most 1,000"):
        parse_grid([f"a={','.join(map(str, range(1001)))}"])
    with pytest.raises(UserError, match="1,000,000,000,000,000 trials"):  # without a list of all of them
        parse_grid([f"{name}=0,1,2,3,4,5,6,7,8,9" for name in "abcdefghijklmno"])


def test_the_values_of_a_word_have_the_types_of_yaml() -> None:
    assert parse_choices("optim.lr=0.1,1e-3") == ("optim.lr", [0.1, 0.001])
    assert parse_choices("seeds=0,1") == ("seed", [0, 1])
    assert parse_choices("model.name=mlp, signs_net") == ("model.name", ["mlp", "signs_net"])
    with pytest.raises(UserError, match=r"^'optim.lr=0.1,0.10': 0.1 is given twice"):
        parse_choices("optim.lr=0.1,0.10")
