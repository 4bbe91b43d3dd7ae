"""Loader and disk against the network: whether the workers do, and how many would."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from signs_dist.config.reading import load_config
from signs_dist.environment.context import read_context
from signs_dist.health.data_speed import DataSpeed, from_plain, judge, measure
from tests.sets import small_run, write_colour_set

GOOD = DataSpeed(400.0, {0: 100.0, 1: 250.0, 2: 500.0, 4: 900.0}, 2, "files", 2, 500 * 2**20, 10_000.0)


@pytest.mark.parametrize(
    ("changes", "status", "told", "mend"),
    [
        ({}, "ok", "network 400 images/s on each rank, loader 500 images/s with 2 workers; disk 52,429 photos/s", ""),
        ({"num_workers": 4}, "ok", "2 workers would do", ""),
        (
            {"num_workers": 1},
            "warn",
            "with 1 worker; disk 52,429 photos/s; 2 workers would do",
            "data.num_workers=2",
        ),
        ({"network": 2000.0}, "warn", "the fastest is 900 images/s with 4 workers", "data.storage=packed"),
        ({"network": 2000.0, "storage": "packed"}, "warn", "the fastest is 900", "more cores"),
        ({"disk_bytes": 2**20}, "warn", "disk 105 photos/s", "data.storage=packed"),
        ({"disk_bytes": 2**20, "storage": "packed"}, "ok", "disk 105 photos/s", ""),
        ({"num_workers": 8}, "warn", "loader no room for 8 workers", "data.num_workers=2"),
        ({"disk_bytes": None}, "ok", "loader 500 images/s with 2 workers", ""),
    ],
)
def test_judging(changes: dict[str, Any], status: str, told: str, mend: str) -> None:
    finding = judge(dataclasses.replace(GOOD, **changes))
    assert finding.status == status
    assert told in finding.measured
    assert mend in finding.mend


def test_a_small_set(tmp_path: Path) -> None:
    root = write_colour_set(tmp_path, counts={"train": 17, "val": 5})
    config = load_config(None, [*small_run(root, epochs=1, global_batch=8), "data.num_workers=0"])
    speed = from_plain(json.loads(json.dumps(measure(config, read_context(), "cpu", 0.02))))
    assert speed.network > 0
    assert speed.loader[0] > 0
    assert speed.disk_bytes is not None
    assert judge(speed).check == "data"
