"""All-reduce over all ranks, as training does it: its bandwidth and latency against what the connections give."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import Any

from signs_dist.environment.context import Context
from signs_dist.health.finding import Finding, Place
from signs_dist.health.network import describe_rate

CHECK = "all-reduce"
TIMEOUT_SECONDS = 20.0
NUM_BYTES = 16 * 2**20
NUM_SMALL = 30
NUM_LARGE = 4
LEAST_SHARE = 0.1
"""Of what the slowest pair gives alone. Ranks of one machine send at the same time: each gets its part of that."""
SLOW_LATENCY_SECONDS = 0.02


@dataclasses.dataclass(frozen=True)
class SumTiming:
    """What a rank measured.

    Attributes:
        latency_seconds: of a sum of one number.
        bytes_per_second: what each rank sends, if it sends 2 (W - 1) / W times the tensor, as a ring does.
        backend: gloo or nccl.
    """

    latency_seconds: float
    bytes_per_second: float
    backend: str


def measure(context: Context, device: str, meeting: Any, num_bytes: int = NUM_BYTES) -> dict[str, Any]:
    """Sum over all ranks: `SumTiming` as plain values. All ranks call this at the same time.

    Args:
        context: of this process.
        device: of this rank.
        meeting: from `distributed.rendezvous.meet`.
        num_bytes: of the large tensor.
    """
    import torch

    from signs_dist.distributed.board import second_connection
    from signs_dist.distributed.rendezvous import connect_all
    from signs_dist.monitoring.pulse import Pulse

    place = torch.device(device)
    beside = second_connection(meeting, context.world_size, TIMEOUT_SECONDS)
    group = connect_all(beside, context, place, timeout_seconds=TIMEOUT_SECONDS, pulse=Pulse())
    try:
        small, large = torch.zeros(1, device=place), torch.zeros(num_bytes // 4, device=place)

        def seconds_of(tensor: torch.Tensor, count: int) -> float:
            group.sum(tensor)
            _synchronize(place)
            started = time.perf_counter()
            for _ in range(count):
                group.sum(tensor)
            _synchronize(place)
            return (time.perf_counter() - started) / count

        latency, seconds = seconds_of(small, NUM_SMALL), seconds_of(large, NUM_LARGE)
    finally:
        group.close()
    sent = 2 * (context.world_size - 1) / context.world_size * num_bytes
    backend = "nccl" if place.type == "cuda" else "gloo"
    return dataclasses.asdict(SumTiming(latency, sent / seconds, backend))


def _synchronize(place: Any) -> None:
    from signs_dist.training.bare import synchronize

    synchronize(place)


def judge(
    readings: Mapping[int, Mapping[str, Any]], places: Mapping[int, Place], pair_bytes_per_second: float | None
) -> Finding:
    """Whether all-reduce is as fast as the connections let it be.

    Args:
        readings: of each rank.
        places: of each rank.
        pair_bytes_per_second: of the slowest pair; None where it is not known, or is not what NCCL uses.
    """
    timings = [SumTiming(**reading) for reading in readings.values()]
    rate = min(timing.bytes_per_second for timing in timings)
    latency = max(timing.latency_seconds for timing in timings)
    over = f"{len(timings)} ranks over {timings[0].backend}"
    told = f"{describe_rate(rate)} from each of {over}, one number in {1e6 * latency:,.0f} µs"
    is_one_machine = len({place.node for place in places.values()}) == 1
    share = LEAST_SHARE / (len(timings) if is_one_machine else 1)
    least = share * pair_bytes_per_second if pair_bytes_per_second else None
    if least is not None and rate < least:
        return Finding(
            CHECK,
            "warn",
            told,
            f"{describe_rate(least)} at least, since the slowest pair alone gives {describe_rate(least / share)}",
            "the lines cores, compute and pairs say what holds ranks up; GLOO_SOCKET_IFNAME names the network to use",
        )
    if latency > SLOW_LATENCY_SECONDS:
        return Finding(
            CHECK,
            "warn",
            f"slow to answer: {told}",
            f"one number in {1e3 * SLOW_LATENCY_SECONDS:g} ms",
            "the lines cores, compute and pairs say what holds ranks up",
        )
    return Finding(CHECK, "ok", told, "" if least is None else f"{describe_rate(least)} at least")
