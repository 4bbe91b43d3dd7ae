"""The model on paper: rings, nodes, what hides behind the backward pass, and its table."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from benchmarks.growth_model import (
    Link,
    Point,
    exposed_seconds,
    largest_error,
    last_bucket_share,
    node_seconds,
    ring_bytes,
    ring_seconds,
    step_seconds,
)
from tests.processes import environment
from tests.test_layers import REPOSITORY

SLOW, FAST = Link(1e6, 0.1), Link(1e9, 0.0)


@pytest.mark.parametrize(("num_ranks", "factor"), [(1, 0.0), (2, 1.0), (4, 1.5), (8, 1.75), (1024, 2046 / 1024)])
def test_a_ring_sends_nearly_twice_the_gradient(num_ranks: int, factor: float) -> None:
    assert ring_bytes(1e6, num_ranks) == pytest.approx(factor * 1e6)


def test_a_ring_takes_its_bytes_and_its_messages() -> None:
    assert ring_seconds(1e6, 2, SLOW) == pytest.approx(1.0 + 2 * 0.1)
    assert ring_seconds(1e6, 4, SLOW) == pytest.approx(1.5 + 6 * 0.1)
    assert ring_seconds(1e6, 1, SLOW) == 0.0


def test_nodes_sum_within_and_between() -> None:
    assert node_seconds(1e6, 8, FAST, SLOW) == ring_seconds(1e6, 8, FAST)
    assert node_seconds(1e6, 32, FAST, SLOW) == ring_seconds(1e6, 8, FAST) + ring_seconds(1e6, 4, SLOW)


@pytest.mark.parametrize(
    ("total", "hiding", "last_share", "exposed"),
    [
        (1.0, 0.0, 0.2, 1.0),  # nothing hides it
        (1.0, 0.5, 0.2, 0.5),
        (1.0, 5.0, 0.2, 0.2),  # the last bucket is never hidden
        (0.0, 0.5, 0.2, 0.0),
    ],
)
def test_what_a_step_waits_for(total: float, hiding: float, last_share: float, exposed: float) -> None:
    assert exposed_seconds(total, hiding, last_share) == pytest.approx(exposed)


@pytest.mark.parametrize(
    ("data", "num_passes", "seconds"),
    [
        (0.0, 1, 3.0 + 2.0),  # 4 s of sum, 2 s hidden behind the backward pass
        (0.0, 4, 3.0 + 3.5),  # the last of four micro-batches hides half a second
        (6.0, 1, 6.0 + 2.0),  # the loader is slower than the network
    ],
)
def test_a_step_is_the_slower_of_compute_and_data_and_what_is_exposed(
    data: float, num_passes: int, seconds: float
) -> None:
    assert step_seconds(3.0, data, 4.0, 0.1, num_passes) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("gradients", "share"),
    [
        ([1000], 1.0),
        ([100, 100], 1.0),  # below the limit of the first bucket
        ([100_000, 300_000], 0.25),  # the last layer fills the first bucket
        ([10_000_000, 10_000_000, 300_000], 10 / 20.3),
    ],
)
def test_the_last_bucket(gradients: list[int], share: float) -> None:
    assert last_bucket_share(gradients) == pytest.approx(share)


def test_a_point_beside_the_model() -> None:
    points = [Point("1gbit", 4, 0.2, 0.1), Point("1gbit", 2, 0.1, 0.15)]
    assert points[0].to_line() == "    1gbit  4 ranks  predicted    100.0 ms  measured    200.0 ms   0.50"
    assert largest_error(points) == pytest.approx(2.0)
    assert largest_error([]) == 1.0


def test_the_table() -> None:
    command = [sys.executable, str(REPOSITORY / "benchmarks/growth_model.py"), "--most-gpus", "16", "--between-gbits"]
    ended = subprocess.run([*command, "400", "10"], env=environment(), capture_output=True, text=True, check=True)
    head, *rows = ended.stdout.splitlines()
    assert head.split() == ["GPUs", "400", "Gbit/s", "a", "node", "10", "Gbit/s", "a", "node"]
    assert [row.split()[0] for row in rows] == ["8", "16"]
    fast, slow = map(float, re.findall(r"([\d.]+) ms", rows[1]))
    assert 50 < fast < 52
    # 102.4 MB over 10 Gbit/s are 82 ms, and 0.9 ms within the node; two thirds of 50 ms are hidden.
    assert slow == pytest.approx(50 + 81.9 + 0.9 - 33.3, abs=0.3)
