"""Doing something with a time limit, whatever happens: a file server, a driver or a network that hangs is a finding."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Mapping
from typing import Any

from signs_dist.errors import CommandError
from signs_dist.health.finding import Finding, Place, listed

BROKEN = "broken"
"""The key of a reading that could not be taken; its value says why."""
_THREAD = "signs_dist check"


@dataclasses.dataclass
class _Outcome:
    value: Any = None
    error: BaseException | None = None
    is_done: bool = False


def attempt(measure: Callable[[], Any], seconds: float) -> Any:
    """What `measure` gives; `{"broken": why}` where it raises, or takes longer.

    It works in a thread, which nothing can interrupt: one that hangs is left alone.
    """
    outcome = _Outcome()

    def work() -> None:
        try:
            outcome.value = measure()
        except Exception as error:  # noqa: BLE001 - a check that breaks is told as a finding, whatever broke it
            outcome.error = error
        outcome.is_done = True

    thread = threading.Thread(target=work, name=_THREAD, daemon=True)
    thread.start()
    thread.join(seconds)
    if not outcome.is_done:
        return {BROKEN: f"no answer within {seconds:g} s"}
    if outcome.error is not None:
        return {BROKEN: _first_line(outcome.error)}
    return outcome.value


def has_hanging() -> bool:
    """Whether a measurement of this process still hangs."""
    return any(thread.name == _THREAD for thread in threading.enumerate())


def is_broken(reading: Any) -> bool:
    """Whether a reading could not be taken."""
    return isinstance(reading, Mapping) and BROKEN in reading


def split_broken(
    check: str, readings: Mapping[int, Any], places: Mapping[int, Place]
) -> tuple[dict[int, Any], list[Finding]]:
    """The readings that were taken, and a finding for those that could not be."""
    whole = {rank: reading for rank, reading in readings.items() if not is_broken(reading)}
    why: dict[str, list[Place]] = {}
    for rank, reading in readings.items():
        if is_broken(reading):
            why.setdefault(str(reading[BROKEN]), []).append(places[rank])
    findings = [
        Finding(check, "fail", f"{listed(where)}: {reason}", "a check that ends", "look at the machine: dmesg | tail")
        for reason, where in why.items()
    ]
    return whole, findings


def _first_line(error: BaseException) -> str:
    text = str(error).strip().split("\n")[0]
    if isinstance(error, CommandError):  # written for people
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
