"""Names, ports and pairs: which rank, machine or pair is wrong, by name."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from signs_dist.health.finding import places_of
from signs_dist.health.links import PairTiming
from signs_dist.health.network import (
    describe_rate,
    judge_loopback,
    judge_names,
    judge_pairs,
    judge_ports,
    judge_same_names,
    name_culprit,
    parse_infiniband,
    read_link_speed,
)

PLACES = places_of({0: "n1", 1: "n1", 2: "n2", 3: "n2"})
SPREAD = places_of({0: "n1", 1: "n2", 2: "n3", 3: "n4"})
PAIRS = [(one, other) for one in range(4) for other in range(one + 1, 4)]


def timings(
    slow: Sequence[tuple[int, int]] = (), latency: float = 50e-6, rate: float = 1e9
) -> dict[tuple[int, int], PairTiming]:
    return {pair: PairTiming(0.02, rate / 10) if pair in slow else PairTiming(latency, rate) for pair in PAIRS}


def test_a_machine_that_does_not_reach_itself_is_named() -> None:
    assert judge_loopback({}, PLACES) == []
    (finding,) = judge_loopback({2: "it is down", 3: "it is down"}, PLACES)
    assert (finding.status, finding.measured) == ("fail", "rank 2 on n2, rank 3 on n2: it is down")


def test_a_host_name_that_does_not_resolve_is_named() -> None:
    (finding,) = judge_names({0: {"n2": "Name or service not known"}, 2: {}}, PLACES)
    assert (finding.status, finding.measured) == (
        "fail",
        "rank 0 on n1 found no address for n2: Name or service not known",
    )
    assert "getent hosts n2" in finding.mend


def test_names_that_resolve() -> None:
    assert [each.status for each in judge_names({0: {}, 2: {}}, PLACES)] == ["ok"]
    assert [each.status for each in judge_names({}, places_of({0: "n1", 1: "n1"}))] == ["skip"]


def test_two_machines_of_one_name() -> None:
    (finding,) = judge_same_names(places_of({0: "localhost (1a2b)", 1: "localhost (3c4d)"}))
    assert finding.status == "fail"
    assert finding.measured.startswith("several machines have the same name: localhost (1a2b), localhost (3c4d)")
    assert judge_same_names(PLACES) == []


def test_ports() -> None:
    assert judge_ports({}, PLACES, 12)[0].measured == "12 connections, each way between all ranks"
    assert judge_ports({}, places_of({0: "n1"}), 0)[0].status == "skip"
    refused = {(0, 2): "connection refused", (1, 2): "connection refused", (2, 0): "no answer within 3 s"}
    found = judge_ports(refused, PLACES, 12)
    assert [each.measured for each in found] == [
        "rank 0 on n1 does not reach rank 2 on n2, rank 1 on n1 does not reach rank 2 on n2: connection refused",
        "rank 2 on n2 does not reach rank 0 on n1: no answer within 3 s",
    ]
    assert all("firewall-cmd" in each.mend for each in found)


def test_equal_pairs() -> None:
    found = judge_pairs(timings(), PLACES, None)
    assert [(each.status, each.measured) for each in found] == [
        ("ok", "2 pairs on one machine: 1.0 GB/s and 50 µs"),
        ("ok", "4 pairs between machines: 1.0 GB/s and 50 µs"),
    ]
    assert judge_pairs({}, PLACES, None) == []


def test_a_slow_rank_is_named() -> None:
    slow = [pair for pair in PAIRS if 2 in pair]
    (finding,) = judge_pairs(timings(slow), SPREAD, None)
    assert finding.status == "warn"
    assert finding.measured.startswith("rank 2 on n3 is slow: 100 MB/s and 20,000 µs for ")
    assert finding.measured.endswith("others between machines: 1.0 GB/s and 50 µs")


@pytest.mark.parametrize(
    ("slow", "nodes", "culprit"),
    [
        ([(1, 2)], "n1 n2 n3 n4", "the connection of rank 1 on n2 and rank 2 on n3"),
        ([(0, 1), (1, 2), (1, 3)], "n1 n2 n3 n4", "rank 1 on n2"),
        ([(0, 1), (1, 2)], "n1 n2 n3 n4", "rank 1 on n2"),
        (
            [(0, 1), (2, 3)],
            "n1 n2 n3 n4",
            "the connection of rank 0 on n1 and rank 1 on n2, rank 2 on n3 and rank 3 on n4",
        ),
        ([(0, 2), (0, 3), (1, 2), (1, 3), (2, 3)], "n1 n1 n2 n2", "machine n2"),
        ([(2, 3)], "n1 n1 n2 n2", "the connection of rank 2 on n2 and rank 3 on n2"),
    ],
)
def test_what_slow_pairs_have_in_common(slow: list[tuple[int, int]], nodes: str, culprit: str) -> None:
    assert name_culprit(slow, PAIRS, places_of(dict(enumerate(nodes.split())))) == culprit


def test_a_slow_machine_is_named() -> None:
    places = places_of(dict(enumerate(["n1", "n1", "n2", "n2", "n3", "n3"])))
    pairs = [(one, other) for one in range(6) for other in range(one + 1, 6)]
    slow = {pair for pair in pairs if "n2" in (places[pair[0]].node, places[pair[1]].node)}
    found = judge_pairs(
        {pair: PairTiming(0.02, 1e8) if pair in slow else PairTiming(5e-5, 1e9) for pair in pairs}, places, None
    )
    (between,) = [each for each in found if "others between machines" in each.measured]
    assert between.measured.startswith("machine n2 is slow: ")


def test_a_pair_that_breaks_is_a_fault() -> None:
    broken = timings() | {(0, 1): PairTiming(problem="no answer within 3 s")}
    found = judge_pairs(broken, SPREAD, None)
    assert (found[0].status, found[0].measured) == (
        "fail",
        "rank 0 on n1 and rank 1 on n2 stopped in the middle of a measurement: no answer within 3 s",
    )


def test_all_are_slower_than_the_link() -> None:
    (finding,) = judge_pairs(timings(rate=1e8), SPREAD, 1.25e9)
    assert (finding.status, finding.expected) == ("warn", "375 MB/s at least, as the link is one of 1.2 GB/s")
    assert "GLOO_SOCKET_IFNAME" in finding.mend
    assert judge_pairs(timings(rate=1e9), SPREAD, 1.25e9)[0].status == "ok"


def test_a_short_latency_is_not_called_slow() -> None:
    found = judge_pairs(timings() | {(0, 1): PairTiming(0.001, 1e9)}, SPREAD, None)
    assert [each.status for each in found] == ["ok"]


@pytest.mark.parametrize("timing", [PairTiming(0.02, 1e9), PairTiming(50e-6, 1e8)])
def test_latency_or_bandwidth_alone_makes_a_pair_slow(timing: PairTiming) -> None:
    (finding,) = judge_pairs(timings() | {(0, 1): timing}, SPREAD, None)
    assert finding.status == "warn"
    assert finding.measured.startswith("the connection of rank 0 on n1 and rank 1 on n2 is slow: ")


def test_speeds() -> None:
    assert parse_infiniband("100 Gb/sec (4X EDR)\n") == 12.5e9
    assert parse_infiniband("down") is None
    assert (describe_rate(2.34e9), describe_rate(5e6)) == ("2.3 GB/s", "5 MB/s")
    assert read_link_speed("no-such-interface") is None
