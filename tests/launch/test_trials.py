"""The trials of an array."""

from __future__ import annotations

import pytest

from launch.trials import parse_grid, trial_name
from signs_dist.errors import UserError


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


def test_a_trials_folder_can_be_told_by_people_and_taken_by_any_file_system() -> None:
    assert trial_name(3, ("seed=1", "optim.lr=0.1")) == "003-seed=1-optim.lr=0.1"
    assert trial_name(0, ("model.args={a: '/;$(x)'}",)) == "000-model.args=_a_x_"
    assert len(trial_name(0, ("x" * 500,))) == 80
