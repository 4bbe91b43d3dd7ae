"""What the measurements of connections say: names, ports, and which rank, machine or pair is slow."""

from __future__ import annotations

import collections
import re
from collections.abc import Collection, Mapping
from pathlib import Path

from signs_dist.health.finding import Finding, Place, listed
from signs_dist.health.links import PairTiming

SLOW = 3.0
"""A pair counts as slow from so many times the time of the fastest of its kind."""
LEAST_LATENCY_SECONDS = 0.002
"""A shorter latency is not called slow: the system's scheduler alone takes as long."""
LEAST_SHARE_OF_LINK = 0.3
MEND_SLOW_LINK = (
    "on that machine: top for busy programs, ethtool INTERFACE for the speed of the link, ip -s link for lost packets; "
    "or omit it (on SLURM --extra exclude=NODE)"
)
MEND_SLOW_RANK = (
    "top shows what keeps its core busy, ps -o pid,stat,ni,cmd whether it is stopped; start fewer processes"
)
INTERFACES = Path("/sys/class/net")
INFINIBAND = Path("/sys/class/infiniband")
BITS_PER_MEGABIT = 1_000_000


def judge_loopback(problems: Mapping[int, str], places: Mapping[int, Place]) -> list[Finding]:
    """That a machine does not reach itself, over which its processes talk.

    Args:
        problems: by rank: why it does not reach its own machine.
        places: of each rank.
    """
    found: dict[str, list[Place]] = {}
    for rank, why in problems.items():
        found.setdefault(why, []).append(places[rank])
    mend = "ip link show lo tells its state; as root: ip link set lo up"
    return [
        Finding("loopback", "fail", f"{listed(where)}: {why}", "a loopback interface that is up", mend)
        for why, where in found.items()
    ]


def judge_names(unknown: Mapping[int, Mapping[str, str]], places: Mapping[int, Place]) -> list[Finding]:
    """Whether each machine finds the addresses of all others.

    Args:
        unknown: by rank: the names that have no address there → why.
        places: of each rank.
    """
    found: dict[tuple[str, str], list[Place]] = {}
    for rank, names in unknown.items():
        for name, why in names.items():
            found.setdefault((name, why), []).append(places[rank])
    if found:
        return [
            Finding(
                "names",
                "fail",
                f"{listed(where)} found no address for {name}: {why}",
                "every machine finds the name of every other",
                f"getent hosts {name} shows it; add it to DNS or /etc/hosts on that machine, or set MASTER_ADDR to an "
                "address, and GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME to the interface of the cluster's network",
            )
            for (name, why), where in found.items()
        ]
    if len({place.node for place in places.values()}) == 1:
        return [Finding("names", "skip", "all ranks are on one machine, and talk over loopback: no name is looked up")]
    count = len({place.node for place in places.values()})
    return [Finding("names", "ok", f"{count} machines find each other's names", "an address for each name, both ways")]


def judge_same_names(places: Mapping[int, Place]) -> list[Finding]:
    """Whether several machines have one name: then no rank can be told where the others are.

    Args:
        places: of each rank; machines of one name have their boot id in brackets.
    """
    twice = [place.node for place in places.values() if place.node.endswith(")")]
    if not twice:
        return []
    return [
        Finding(
            "names",
            "fail",
            f"several machines have the same name: {listed(dict.fromkeys(twice))} (in brackets: when each was started)",
            "a name of its own for each machine",
            "sudo hostnamectl set-hostname NAME on each; for containers docker run --hostname NAME, or --network host",
        )
    ]


def judge_ports(unreached: Mapping[tuple[int, int], str], places: Mapping[int, Place], num_tried: int) -> list[Finding]:
    """Whether each rank reaches each other.

    Args:
        unreached: (from, to) → why it was not reached.
        places: of each rank.
        num_tried: how many connections were tried.
    """
    expected = "each rank reaches each other: gloo and NCCL connect all of them, on ports that the system chooses"
    if not num_tried:
        return [Finding("ports", "skip", "one rank, which connects to no other")]
    if not unreached:
        return [Finding("ports", "ok", f"{num_tried} connections, each way between all ranks", expected)]
    whys: dict[str, list[tuple[int, int]]] = {}
    for pair, why in unreached.items():
        whys.setdefault(why, []).append(pair)
    found = []
    for why, pairs in whys.items():
        told = listed(f"{places[one]} does not reach {places[other]}" for one, other in pairs)
        found.append(
            Finding(
                "ports",
                "fail",
                f"{told}: {why}",
                expected,
                "let the nodes talk on all TCP ports: sudo firewall-cmd --zone=trusted --add-source=SUBNET (or sudo "
                "ufw allow from SUBNET); ip address shows the interfaces, GLOO_SOCKET_IFNAME names the one to use",
            )
        )
    return found


def judge_pairs(
    timings: Mapping[tuple[int, int], PairTiming], places: Mapping[int, Place], link_bytes_per_second: float | None
) -> list[Finding]:
    """Which rank, machine or pair is slow, by name.

    Args:
        timings: of each pair that was measured.
        places: of each rank.
        link_bytes_per_second: what the network between machines should give; None where it is not known.
    """
    if not timings:
        return []
    broken = {pair: timing.problem for pair, timing in timings.items() if timing.problem}
    found = [
        Finding(
            "pairs",
            "fail",
            f"{_pair(pair, places)} stopped in the middle of a measurement: {why}",
            "a connection that lasts",
            "ip -s link on both machines counts lost and broken packets; dmesg | tail",
        )
        for pair, why in list(broken.items())[:8]
    ]
    whole = {pair: timing for pair, timing in timings.items() if not timing.problem}
    kinds: dict[bool, dict[tuple[int, int], PairTiming]] = {}
    for pair, timing in whole.items():
        kinds.setdefault(_is_between(pair, places), {})[pair] = timing
    for is_between, of_kind in sorted(kinds.items()):
        found.append(_judge_kind(of_kind, places, link_bytes_per_second if is_between else None, is_between=is_between))
    return found


def _judge_kind(
    timings: Mapping[tuple[int, int], PairTiming],
    places: Mapping[int, Place],
    link: float | None,
    *,
    is_between: bool,
) -> Finding:
    """The finding about all pairs within machines, or all between machines."""
    # The better quartile: one slow rank of four is in half of all pairs, and the median would lie among those.
    quartile = (len(timings) - 1) // 4
    latency = sorted(timing.latency_seconds for timing in timings.values())[quartile]
    rate = sorted((timing.bytes_per_second for timing in timings.values()), reverse=True)[quartile]
    slow = [
        pair
        for pair, timing in timings.items()
        if timing.latency_seconds > max(SLOW * latency, LEAST_LATENCY_SECONDS) or timing.bytes_per_second < rate / SLOW
    ]
    kind = "between machines" if is_between else "on one machine"
    told = f"{kind}: {describe_rate(rate)} and {1e6 * latency:,.0f} µs"
    expected = f"each pair within {SLOW:g} times of the others"
    if slow:
        worst = max(
            slow,
            key=lambda pair: timings[pair].latency_seconds / latency + rate / max(timings[pair].bytes_per_second, 1),
        )
        culprit = name_culprit(slow, timings.keys(), places)
        timing = timings[worst]
        of_worst = f"{describe_rate(timing.bytes_per_second)} and {1e6 * timing.latency_seconds:,.0f} µs"
        numbers = f"{of_worst} for {_pair(worst, places)}"
        return Finding(
            "pairs",
            "warn",
            f"{culprit} is slow: {numbers}; others {told}",
            expected,
            MEND_SLOW_LINK if is_between else MEND_SLOW_RANK,
        )
    if link is not None and rate < LEAST_SHARE_OF_LINK * link:
        return Finding(
            "pairs",
            "warn",
            told,
            f"{describe_rate(LEAST_SHARE_OF_LINK * link)} at least, as the link is one of {describe_rate(link)}",
            "ip route get ADDRESS shows which interface is used; GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME choose it",
        )
    count = "1 pair" if len(timings) == 1 else f"{len(timings)} pairs"
    known = f", of a link of {describe_rate(link)}" if link is not None else ""
    return Finding("pairs", "ok", f"{count} {told}{known}", expected)


def name_culprit(
    slow: Collection[tuple[int, int]], measured: Collection[tuple[int, int]], places: Mapping[int, Place]
) -> str:
    """What slow pairs have in common: a rank, a machine, or nothing, which leaves the pairs.

    A rank or machine is to blame if most of its pairs are slow, and no slow pair is without it.
    """
    for rank in sorted({rank for pair in slow for rank in pair}):
        own = [pair for pair in measured if rank in pair]
        if len(own) > 1 and all(rank in pair for pair in slow) and len(slow) > len(own) / 2:
            return str(places[rank])
    by_node = collections.Counter(node for pair in slow for node in {places[rank].node for rank in pair})
    for node, count in by_node.most_common():
        own = [pair for pair in measured if node in (places[pair[0]].node, places[pair[1]].node)]
        if count == len(slow) and len(own) > 1 and count > len(own) / 2 and len(own) < len(measured):
            return f"machine {node}"
    return f"the connection of {listed(_pair(pair, places) for pair in slow)}"


def _is_between(pair: tuple[int, int], places: Mapping[int, Place]) -> bool:
    return places[pair[0]].node != places[pair[1]].node


def _pair(pair: tuple[int, int], places: Mapping[int, Place]) -> str:
    return f"{places[pair[0]]} and {places[pair[1]]}"


def describe_rate(bytes_per_second: float) -> str:
    """A speed for people, such as `1.2 GB/s`."""
    gigabytes = bytes_per_second / 1e9
    return f"{gigabytes:.1f} GB/s" if gigabytes >= 1 else f"{bytes_per_second / 1e6:,.0f} MB/s"


def read_link_speed(interface: str = "") -> float | None:
    """Bytes per second of the fastest network that this machine has, or of one interface; None where it does not tell.

    InfiniBand tells its rate as `100 Gb/sec (4X EDR)`, and Ethernet its speed in megabits (sysfs-class-net).
    """
    rates = [parse_infiniband(_read(path)) for path in INFINIBAND.glob("*/ports/*/rate")] if not interface else []
    names = [interface] if interface else [path.name for path in INTERFACES.glob("*") if (path / "device").exists()]
    for name in names:
        speed = _read(INTERFACES / name / "speed").strip()
        if re.fullmatch(r"[1-9]\d*", speed) and _read(INTERFACES / name / "operstate").strip() == "up":
            rates.append(int(speed) * BITS_PER_MEGABIT / 8)
    known = [rate for rate in rates if rate]
    return max(known) if known else None


def parse_infiniband(text: str) -> float | None:
    """Bytes per second from the text of a port's rate; None for another text."""
    found = re.match(r"(\d+(?:\.\d+)?) Gb/sec", text)
    return float(found[1]) * 1e9 / 8 if found else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
