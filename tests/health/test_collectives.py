"""All-reduce against what the pairs give."""

from __future__ import annotations

from typing import Any

import pytest

from signs_dist.health.collectives import judge
from signs_dist.health.finding import places_of

SPREAD = places_of({0: "n1", 1: "n2"})


@pytest.mark.parametrize(
    ("rate", "latency", "pair", "status", "told"),
    [
        (5e8, 1e-4, 1e9, "ok", "500 MB/s from each of 2 ranks over gloo, one number in 100 µs"),
        (5e8, 1e-4, None, "ok", "500 MB/s"),
        (5e7, 1e-4, 1e9, "warn", "50 MB/s from each of 2 ranks"),
        (5e8, 0.1, 1e9, "warn", "slow to answer: 500 MB/s"),
    ],
)
def test_judging(rate: float, latency: float, pair: float | None, status: str, told: str) -> None:
    reading: dict[str, Any] = {"latency_seconds": latency, "bytes_per_second": rate, "backend": "gloo"}
    finding = judge({0: reading, 1: reading}, SPREAD, pair)
    assert finding.status == status
    assert told in finding.measured


def test_ranks_of_one_machine_share_what_a_pair_has() -> None:
    reading = {"latency_seconds": 1e-4, "bytes_per_second": 6e7, "backend": "gloo"}
    assert judge(dict.fromkeys(range(2), reading), places_of({0: "n1", 1: "n1"}), 1e9).status == "ok"
    assert judge(dict.fromkeys(range(2), reading), SPREAD, 1e9).status == "warn"
