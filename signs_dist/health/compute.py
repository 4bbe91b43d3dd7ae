"""How fast each rank computes the same, all at once as in training, and what holds a slow one up."""

from __future__ import annotations

import dataclasses
import statistics
import threading
import time
from collections.abc import Mapping
from typing import Any

from signs_dist.environment.core_wait import CoreWait
from signs_dist.health.finding import Finding, Place, listed

CHECK = "compute"
SECONDS = 1.0
SLOW = 1.6
"""A rank counts as slow from so many times the time of the faster half."""
VERY_SLOW = 5.0
"""From here on it is a fault, where no wait for a core explains it."""
LONG_WAIT = 0.25
"""From this share of the time on, waiting for a core explains a slow rank."""
STOPPED_SHARE = 0.3
"""From this share of the time on, in which a rank neither computed nor waited for a core, it was stopped."""


@dataclasses.dataclass(frozen=True)
class Speed:
    """How fast a rank computed.

    Attributes:
        seconds: of one piece of work, on average.
        computed: share of the time in which its thread had a core.
        waited: share in which it waited for one; None where the system does not tell.
        is_on_gpu: the thread only waits for the GPU then.
    """

    seconds: float
    computed: float
    waited: float | None
    is_on_gpu: bool = False


def measure(device: str, seconds: float = SECONDS) -> dict[str, Any]:
    """Multiply matrices for so long, in one thread. `Speed` as plain values.

    Args:
        device: such as cpu or cuda:0.
        seconds: to spend.
    """
    import torch

    from signs_dist.distributed.exactness import threads_kept

    place = torch.device(device)
    on_gpu = place.type == "cuda"
    side = 2048 if on_gpu else 256
    with threads_kept(1):
        one = torch.randn(side, side, device=place)

        def work() -> None:
            for _ in range(4):
                torch.mm(one, one)
            if on_gpu:
                torch.cuda.synchronize(place)

        work()
        before, waits = time.thread_time(), _own_wait()
        started = time.perf_counter()
        count = 0
        while (elapsed := time.perf_counter() - started) < seconds:
            work()
            count += 1
        elapsed = time.perf_counter() - started
        computed, later = time.thread_time() - before, _own_wait()
    waited = None if waits is None or later is None else (later - waits) / elapsed
    return dataclasses.asdict(Speed(elapsed / max(count, 1), computed / elapsed, waited, on_gpu))


def _own_wait() -> float | None:
    """Seconds that this thread has waited for a core so far; None where the system does not tell."""
    waits = CoreWait.read()
    return None if waits is None else waits.waited_seconds.get(threading.get_native_id())


def judge(readings: Mapping[int, Mapping[str, Any]], places: Mapping[int, Place]) -> Finding:
    """Which ranks are slow, by name, and why."""
    speeds = {rank: Speed(**reading) for rank, reading in readings.items()}
    fast = reference([speed.seconds for speed in speeds.values()])
    slow = {rank: speed for rank, speed in speeds.items() if speed.seconds > SLOW * fast}
    expected = f"each rank within {SLOW:g} times of the fastest"
    if slow:
        told = [
            f"{places[rank]} needs {speed.seconds / fast:.1f} times as long as the fastest{_why(speed)}"
            for rank, speed in slow.items()
        ]
        is_fault = any(
            speed.seconds > VERY_SLOW * fast and _may_have_waited(speed) < LONG_WAIT for speed in slow.values()
        )
        mend = _mend(next(iter(slow.values())), places[next(iter(slow))])
        return Finding(CHECK, "fail" if is_fault else "warn", f"{listed(told)}: all others wait for it", expected, mend)
    waited = {rank: speed.waited or 0.0 for rank, speed in speeds.items()}
    worst = max(waited, key=lambda rank: waited[rank])
    if waited[worst] >= LONG_WAIT:
        return Finding(
            CHECK,
            "warn",
            f"{places[worst]} waited {100 * waited[worst]:.0f} % of the time for a core, and no rank is much slower "
            "than the others",
            "a core for each rank",
            "end other programs, or start fewer processes",
        )
    held = [rank for rank, speed in speeds.items() if _stopped_share(speed) >= STOPPED_SHARE]
    if held:
        speed = speeds[held[0]]
        where = listed(places[rank] for rank in held)
        return Finding(
            CHECK,
            "warn",
            f"{where} had no core{_why(speed)}",
            "a rank that computes without pauses",
            _mend(speed, places[held[0]]),
        )
    compared = (
        f", the slowest {max(s.seconds for s in speeds.values()) / fast:.1f} times the fastest"
        if len(speeds) > 1
        else ""
    )
    return Finding(CHECK, "ok", f"the same work in {1000 * fast:.1f} ms on each rank{compared}", expected)


def reference(seconds: list[float]) -> float:
    """The time of the faster half: with as many slow as fast ones, the median would lie between them."""
    return statistics.median_low(sorted(seconds)[: (len(seconds) + 1) // 2])


def _may_have_waited(speed: Speed) -> float:
    """The share of the time in which the thread waited for a core; where that is not known, in which it had none."""
    if speed.waited is not None:
        return speed.waited
    return 0.0 if speed.is_on_gpu else 1.0 - speed.computed


def _stopped_share(speed: Speed) -> float:
    """The share of the time in which the thread neither had a core nor waited for one."""
    if speed.is_on_gpu or speed.waited is None:
        return 0.0
    return max(0.0, 1.0 - speed.computed - speed.waited)


def _why(speed: Speed) -> str:
    if speed.waited is not None and speed.waited >= LONG_WAIT:
        return f" (it waited {100 * speed.waited:.0f} % of the time for a core)"
    if (stopped := _stopped_share(speed)) >= STOPPED_SHARE:
        return f" (for {100 * stopped:.0f} % of the time it was stopped, or asleep)"
    return ""


def _mend(speed: Speed, place: Place) -> str:
    where = f"on {place.node}: "
    if speed.waited is not None and speed.waited >= LONG_WAIT:
        return f"{where}end other programs (top -o %CPU), or start fewer processes"
    if _stopped_share(speed) >= STOPPED_SHARE:
        return f"{where}ps -o pid,stat,ni,cmd shows what stops it: a signal (kill -CONT PID) or a limit on cores"
    if speed.is_on_gpu:
        return f"{where}nvidia-smi -q -d CLOCK,PERFORMANCE,TEMPERATURE shows what slows the GPU; or omit the node"
    return (
        f"{where}cpupower frequency-info and sensors show what slows the processor; or omit the node (--extra exclude=)"
    )
