"""The benchmark of growth: what its tables say of given figures, and one small group of real processes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.growth import (
    Measured,
    bring_together,
    byte_lines,
    loopback_link,
    pay_lines,
    predict,
    time_lines,
    what_pays,
)
from tests.processes import environment
from tests.sets import write_colour_set
from tests.test_layers import REPOSITORY

SHAPES = [[1_000_000], [300_000]]
"""A gradient of 5.2 MB; DistributedDataParallel sums the larger weight last."""


def figures(seconds: list[float], num_bytes: float) -> dict[str, Any]:
    turns = [{"seconds": one, "bytes": num_bytes} for one in seconds]
    return {"ways": {"fast": turns}, "shapes": SHAPES, "num_extras": 3, "sums": [0.001, 0.1]}


def measured(network: str, num_ranks: int, **seconds: float) -> Measured:
    sent = dict.fromkeys(seconds, 2 * (num_ranks - 1) / num_ranks * 5_200_012)
    return Measured(network, num_ranks, seconds, sent, SHAPES, 3, (0.0, 0.01))


def test_ranks_with_an_interface_each_are_averaged() -> None:
    found = bring_together("1gbit", [figures([0.3, 0.1, 0.2], 40.0), figures([9.0, 9.0, 9.0], 20.0)], 1)
    assert found.seconds == {"fast": 0.2}
    assert found.sent == {"fast": 30.0}
    assert (found.num_ranks, found.sum_seconds) == (2, (0.001, 0.1))


def test_ranks_that_share_an_interface_each_count_all() -> None:
    found = bring_together("loopback", [figures([0.1], 38.0), figures([0.1], 40.0)], 2)
    assert found.sent == {"fast": 20.0}


def test_the_times() -> None:
    found = [measured("loopback", 1, fast=0.1), measured("1gbit", 2, fast=0.2, accumulate=0.4)]
    assert time_lines(found) == [
        "          ranks        fast  accumulate",
        " loopback     1       100.0            ",
        "    1gbit     2       200.0       100.0",
    ]


def test_the_bytes() -> None:
    assert byte_lines([measured("loopback", 1, fast=0.1), measured("1gbit", 4, compute=0.1, fast=0.1)], 8) == [
        "    1gbit  4 ranks  fast       sent    7.800 MB  on paper    7.800 MB   1.000"
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        ({"fast": 1.0, "bfloat16": 1.2, "powersgd": 0.96}, "none"),
        (
            {"fast": 1.0, "bfloat16": 0.6, "powersgd": 0.3, "accumulate": 0.5},
            "powersgd 0.30, accumulate 0.50, bfloat16 0.60",
        ),
        ({"fast": 1.0, "exact": 0.5}, "none"),
    ],
)
def test_what_pays(seconds: dict[str, float], text: str) -> None:
    assert what_pays(seconds) == text


def test_accumulation_pays_by_image() -> None:
    found = [measured("loopback", 1, fast=1.0), measured("100mbit", 2, fast=1.0, accumulate=2.0)]
    assert pay_lines(found) == ["  100mbit  2 ranks  accumulate 0.50"]


def test_the_model_gets_the_rate_that_was_set() -> None:
    (point,) = predict([measured("100mbit", 2, compute=0.3, fast=0.7)], 2)
    assert (point.network, point.num_ranks, point.measured) == ("100mbit", 2, 0.7)
    # 5.2 MB over 12.5 MB/s; the larger weight, 4 of them, is in the last bucket, which nothing hides.
    assert point.predicted == pytest.approx(0.3 + 4.0 / 12.5)


def test_the_model_gets_the_rate_of_loopback_from_two_ranks() -> None:
    groups = [measured("loopback", 4, fast=0.1), measured("loopback", 2, fast=0.1), measured("10gbit", 2, fast=0.1)]
    assert loopback_link(groups).bytes_per_second == pytest.approx(5.2e6 / 0.01)
    assert loopback_link(groups[2:]).bytes_per_second == float("inf")


@pytest.mark.slow
@pytest.mark.cold
def test_a_small_group(tmp_path: Path) -> None:
    photos = write_colour_set(tmp_path / "photos", counts={"train": 22, "val": 4}, size=16)
    small = ["data.image_size=16", "model.name=signs_net", "model.args={channels: 4}", f"data.root={photos}"]
    flags = ["--processes", "2", "--networks", "loopback", "--steps", "10", "--rounds", "1", "--batch", "8"]
    command = [sys.executable, str(REPOSITORY / "benchmarks/growth.py"), *flags, "--micro-batch", "4", *small]
    ended = subprocess.run(command, env=environment(), cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr + ended.stdout
    assert re.search(r"^ loopback +2( +[\d.]+){6}$", ended.stdout, re.MULTILINE)
    sent = dict(re.findall(r"2 ranks  (\w+) +sent .* ([\d.]+)$", ended.stdout, re.MULTILINE))
    assert sent.keys() == {"fast", "exact", "bfloat16", "powersgd", "accumulate"}
    assert 0.95 < float(sent["fast"]) < 1.5  # headers of TCP are much of so small a gradient
    assert re.search(r"predicted +[\d.]+ ms  measured +[\d.]+ ms", ended.stdout)
