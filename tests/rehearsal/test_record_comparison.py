"""Comparing recorded runs."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from signs_dist.rehearsal.record_comparison import compare_records, describe_rows
from signs_dist.rehearsal.records import Record

FIRST = Record(
    1,
    samples=[[1, 2], [3, 4]],
    images=[["a", "b"], ["c", "d"]],
    losses=[1.0, 0.5],
    weights_sha256="a" * 64,
    weights={"w": torch.tensor([1.0, -4.0]), "empty": torch.zeros(0)},
    precision="float32",
)


def other(**changes: Any) -> Record:
    return dataclasses.replace(FIRST, world_size=2, **changes)


@pytest.mark.parametrize(
    ("changes", "bounds", "is_equal", "cells"),
    [
        ({}, None, True, ["equal", "equal", "equal bits", "equal bits"]),
        ({}, [0.1, 0.1], True, ["equal", "equal", "equal bits", "equal bits"]),
        ({"samples": [[2, 1], [3, 4]]}, None, False, ["DIFFERENT", "equal"]),
        ({"images": [["a", "b"], ["c", "x"]]}, [0.1, 0.1], False, ["equal", "DIFFERENT"]),
        ({"losses": [1.0, 0.5000001]}, None, False, ["equal", "equal", "2.0e-07"]),
        ({"losses": [1.0, 0.5000001]}, [0.1, 0.1], True, ["equal", "equal", "2.0e-07"]),
        ({"losses": [1.0, 0.6]}, [0.3, 0.1], False, ["equal", "equal", "2.0e-01"]),
        (
            {"weights_sha256": "b" * 64, "weights": {"w": torch.tensor([1.0, -3.0]), "empty": torch.zeros(0)}},
            None,
            False,
            ["equal", "equal", "equal bits", "2.5e-01"],
        ),
    ],
)
def test_a_row_of_the_table(changes: Any, bounds: list[float] | None, is_equal: bool, cells: list[str]) -> None:
    row = compare_records(FIRST, other(**changes), bounds)
    assert row.is_equal is is_equal
    text = describe_rows([compare_records(FIRST, FIRST, bounds), row], FIRST, bounds)
    line = text.splitlines()[2]
    assert " ".join(line.split()).startswith(" ".join(["2", *cells]))
    assert line.endswith("  <- differs") is not is_equal
    mode = "exact" if bounds is None else "fast"
    assert text.endswith(f"{'PASS' if is_equal else 'FAIL'}: 2 steps, {mode} mode, float32")


def test_the_bounds_are_told() -> None:
    text = describe_rows([], FIRST, [1e-4, 2e-2])
    assert "Bound of the loss: 1e-04 at step 1 to 2e-02 at step 2: 100 times what weights changed by 1e-07" in text
    assert "Bound" not in describe_rows([], FIRST, None)
