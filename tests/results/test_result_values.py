"""Which values of result.json can be shown."""

from __future__ import annotations

from typing import Any

import pytest

from signs_dist.results.result_values import is_count, is_number, usable_values


@pytest.mark.parametrize(
    ("key", "good", "bad"),
    [
        ("val_accuracy", 0.5, ["x", None, [0.5], True, 1.5, -1, 1e308, float("nan")]),
        ("best_val_macro_f1", 1, ["1", 2]),
        ("test_loss", 2.5, ["2.5", 1e308, float("inf"), 10**400, {}]),
        ("train_seconds", 3.5, ["", [3.5]]),
        ("images_per_second", 100.0, ["1e5", None]),
        ("val_correct", 3, [3.0, "3", -1, 2**70, True]),
        ("num_parameters", 288_902, ["\ud800"]),
        ("val_accuracy_interval", [0.1, 0.2], [[0.1], [None, None], "", [[0.1], 0.2], [1, 2]]),
        ("val_confusion", [[1, 0], [0, 1]], [[[1, 0]], [[1, 0], 3], [["x", "x"], ["x", "x"]], [[1, -1], [0, 1]], 7]),
        ("classes", ["a", "b"], ["ab", [["a"]], [1, 2], {"a": 1}]),
        ("split_sizes", {"train": 64}, [{"train": "64"}, [64]]),
        ("stopped_early", True, ["yes", 1]),
        ("weights", {"kind": "last"}, ["last"]),
        ("data", "photos", [3, ["photos"]]),
    ],
)
def test_a_value_of_another_type_than_training_writes_is_left_out(key: str, good: Any, bad: list[Any]) -> None:
    assert usable_values({key: good, "other": 1}) == {key: good, "other": 1}
    for value in bad:
        assert usable_values({key: value, "other": 1}) == {"other": 1}


def test_what_a_later_release_adds_is_kept() -> None:
    assert usable_values({"finished": True, "energy": {"joules": None}}) == {
        "finished": True,
        "energy": {"joules": None},
    }


def test_numbers_and_counts() -> None:
    assert is_number(-1.5)
    assert is_number(0)
    assert not any(map(is_number, (True, "1", 10**400, float("inf"), None)))
    assert is_count(0)
    assert not any(map(is_count, (-1, 1.0, True, 2**63)))
