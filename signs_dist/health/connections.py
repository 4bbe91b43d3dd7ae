"""Names, ports, pairs and clocks: what each rank measures of its connections to the others."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from signs_dist.environment.addresses import GLOO_INTERFACES, find_loopback
from signs_dist.errors import UserError
from signs_dist.health import clocks, links, network
from signs_dist.health.finding import Finding
from signs_dist.health.visit import Visit

LISTEN_SECONDS = 5.0
REACH_SECONDS = 20.0
PAIR_SECONDS = 15.0
CLOCK_SECONDS = 15.0
MOST_RANKS = 16
"""Of more ranks, one of each machine connects to the others."""
MOST_RANKS_IN_PAIRS = 8
"""The same for timing pairs."""
MOST_ROUNDS = 15
"""Of more machines, each is timed with so many others."""


@dataclasses.dataclass(frozen=True)
class Connections:
    """What was found.

    Attributes:
        slowest: bytes per second of the slowest pair; None where no pair was measured.
        is_complete: whether all ranks that were tried reach each other.
    """

    slowest: float | None
    is_complete: bool


def check_connections(visit: Visit) -> Connections:
    """Check names, ports, pairs and clocks, in this order. All ranks call this."""
    loopback, problem = _own_loopback()
    listener = links.Listener(loopback if len(visit.nodes) == 1 else "", visit.token)
    try:
        readings, broken = visit.gather("listen", lambda: [listener.port, problem], LISTEN_SECONDS)
        ports = {rank: port for rank, (port, _) in readings.items()}
        problems = {rank: why for rank, (_, why) in readings.items() if why}
        visit.say([*broken, *network.judge_loopback(problems, visit.places)])
        neighbours = _Neighbours(visit, ports, loopback, _check_names(visit))
        unreached, is_complete = _check_ports(visit, neighbours)
        slowest = _check_pairs(visit, neighbours, unreached)
        _check_clocks(visit, neighbours)
    finally:
        listener.close()
    return Connections(slowest, is_complete)


def _own_loopback() -> tuple[str, str]:
    """The address of loopback and "", or "" and why this machine does not reach itself."""
    try:
        return find_loopback(), ""
    except UserError as error:
        return "", str(error)


@dataclasses.dataclass(frozen=True)
class _Neighbours:
    """Where the other ranks listen, seen from this one.

    Attributes:
        visit: to all ranks.
        ports: of each rank.
        loopback: the address of ranks on this machine; "" if it does not reach itself.
        unknown: machines whose name has no address here → why.
    """

    visit: Visit
    ports: Mapping[int, int]
    loopback: str
    unknown: Mapping[str, str]

    def address(self, rank: int) -> str:
        """Of the machine of a rank. Raises OSError if it has none."""
        node = self.visit.places[rank].node
        if node == self.visit.places[self.visit.rank].node:
            if not self.loopback:
                raise OSError("loopback is down")
            return self.loopback
        if node in self.unknown:
            raise OSError(f"{node} has no address")
        return node

    def reach(self, rank: int) -> str:
        """Why a rank is not reached; "" if it is."""
        try:
            return links.reach(self.address(rank), self.ports[rank], self.visit.token)
        except OSError as error:
            return str(error)


def _check_names(visit: Visit) -> Mapping[str, str]:
    """Check that each machine finds the names of the others; returns those that this one does not find, with why."""
    own = visit.places[visit.rank].node
    # gloo also asks for the address of its own machine.
    names = sorted(visit.nodes - {own} | {visit.context.host}) if len(visit.nodes) > 1 else []
    unknown, broken = visit.gather("names", lambda: _without_address(names), 4 * links.NAME_SECONDS, visit.leaders)
    judged = network.judge_same_names(visit.places) or network.judge_names(unknown, visit.places)
    visit.say([*broken, *judged])
    return next((found for rank, found in unknown.items() if visit.places[rank].node == own), {})


def _without_address(names: Sequence[str]) -> dict[str, str]:
    """Those names that have no address here, with the reason."""
    if not names:
        return {}
    with ThreadPoolExecutor(len(names)) as pool:
        return {name: why for name, why in zip(names, pool.map(links.find_no_address, names), strict=True) if why}


def _check_ports(visit: Visit, neighbours: _Neighbours) -> tuple[dict[tuple[int, int], str], bool]:
    """Check that each rank reaches each other; returns (from, to) → why not, and whether all do."""
    living = visit.stages.living
    members = living if len(living) <= MOST_RANKS else visit.leaders
    others = [rank for rank in members if rank != visit.rank and rank in neighbours.ports]

    def reach_all() -> list[tuple[int, str]]:
        with ThreadPoolExecutor(max(1, len(others))) as pool:
            return [(rank, why) for rank, why in zip(others, pool.map(neighbours.reach, others), strict=True) if why]

    refused, broken = visit.gather("ports", reach_all, REACH_SECONDS, members)
    unreached = {(rank, other): why for rank, pairs in refused.items() for other, why in pairs}
    visit.say([*broken, *network.judge_ports(unreached, visit.places, len(members) * (len(members) - 1))])
    return unreached, not unreached and not broken


def _check_pairs(visit: Visit, neighbours: _Neighbours, unreached: Mapping[tuple[int, int], str]) -> float | None:
    """Time the pairs, one round after the other; returns the bytes per second of the slowest."""
    living = visit.stages.living
    members = living if len(living) <= MOST_RANKS_IN_PAIRS else visit.leaders
    timings: dict[tuple[int, int], links.PairTiming] = {}
    found: list[Finding] = []
    for pairs in links.rounds([rank for rank in members if rank in neighbours.ports])[:MOST_ROUNDS]:
        partner = {one: other for one, other in pairs if (one, other) not in unreached}

        def measure(partner: Mapping[int, int] = partner) -> dict[str, Any]:
            other = partner[visit.rank]
            timing = links.time_pair(neighbours.address(other), neighbours.ports[other], visit.token)
            return dataclasses.asdict(timing)

        readings, broken = visit.gather("pairs", measure, PAIR_SECONDS, list(partner))
        found += broken
        timings |= {(one, partner[one]): links.PairTiming(**reading) for one, reading in readings.items()}
    speed = network.read_link_speed(os.environ.get(GLOO_INTERFACES, "").partition(",")[0])
    visit.say([*found, *network.judge_pairs(timings, visit.places, speed)])
    return min((timing.bytes_per_second for timing in timings.values() if not timing.problem), default=None)


def _check_clocks(visit: Visit, neighbours: _Neighbours) -> None:
    """Compare the clock of each machine with rank 0's."""
    others = [rank for rank in visit.leaders if rank != 0]
    found: list[Finding] = []
    offsets: dict[int, Any] = {}
    if others:
        offsets, found = visit.gather(
            clocks.CHECK,
            lambda: links.clock_offset(neighbours.address(0), neighbours.ports[0], visit.token),
            CLOCK_SECONDS,
            others,
        )
    if offsets or not others:
        found += clocks.judge({rank: (offset, exact) for rank, (offset, exact) in offsets.items()}, visit.places)
    visit.say(found)
