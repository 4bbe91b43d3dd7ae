"""What a check has found, and how it is shown: a line for each, aligned, also on a narrow terminal."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from signs_dist.monitoring.plain_text import without_control

Status = Literal["ok", "warn", "fail", "skip"]
"""`skip`: it cannot be checked here, and `measured` says why."""
ORDER: tuple[Status, ...] = ("skip", "ok", "warn", "fail")
"""From the best to the worst."""
NAME_WIDTH = 13
LEAST_WIDTH = 40
MOST_WIDTH = 120
MOST_NAMED = 8


@dataclasses.dataclass(frozen=True)
class Finding:
    """What a check has found.

    Attributes:
        check: the name of the check, at most NAME_WIDTH characters.
        status: ok, warn, fail, or skip.
        measured: what was measured, and where it is not right.
        expected: what is right; "" where `measured` says it.
        mend: what to type, or whom to ask; "" where there is nothing to mend.
    """

    check: str
    status: Status
    measured: str
    expected: str = ""
    mend: str = ""


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a rank runs.

    Attributes:
        rank: its number.
        node: the name of its machine, as SLURM knows it.
        is_alone: whether it is the only rank, which need not be named.
        is_only_node: whether all ranks are on this machine, which need not be named.
    """

    rank: int
    node: str
    is_alone: bool = False
    is_only_node: bool = False

    def __str__(self) -> str:
        if self.is_alone:
            return "this process"
        return f"rank {self.rank}" if self.is_only_node else f"rank {self.rank} on {self.node}"


def places_of(nodes: Mapping[int, str]) -> dict[int, Place]:
    """The place of each rank, from the names of their machines."""
    is_only_node = len(set(nodes.values())) == 1
    return {rank: Place(rank, node, len(nodes) == 1, is_only_node) for rank, node in nodes.items()}


def leaders_of(places: Mapping[int, Place]) -> list[int]:
    """The lowest rank of each machine: it measures what the ranks of a machine share."""
    first: dict[str, int] = {}
    for rank in sorted(places):
        first.setdefault(places[rank].node, rank)
    return sorted(first.values())


def listed(names: Iterable[object]) -> str:
    """Names with commas between them; of many the first ones."""
    words = [str(name) for name in names]
    return ", ".join(words[:MOST_NAMED]) + (f" and {len(words) - MOST_NAMED} more" if len(words) > MOST_NAMED else "")


def merge(findings: Mapping[str, Finding]) -> list[Finding]:
    """The findings of one check at several places, worst first: equal ones once, with the places where they are.

    Args:
        findings: the name of a place, such as a machine, → what was found there.
    """
    if len(findings) == 1:
        return list(findings.values())
    groups: dict[tuple[str, str, str, str], list[str]] = {}
    for place, finding in findings.items():
        # Measured numbers of what is in order differ everywhere: the first one stands for all.
        text = finding.measured if finding.status in ("warn", "fail") else ""
        groups.setdefault((finding.status, text, finding.expected, finding.mend), []).append(place)
    merged = []
    for places in groups.values():
        finding = findings[places[0]]
        if len(places) == len(findings):
            where = f"{places[0]} and {len(places) - 1} more: "
        else:
            where = f"{listed(places)}: "
        merged.append(dataclasses.replace(finding, measured=f"{where}{finding.measured}"))
    return sorted(merged, key=lambda finding: -ORDER.index(finding.status))


def worst(findings: Iterable[Finding]) -> Status:
    """The worst status; ok for no findings."""
    return max((finding.status for finding in findings), key=ORDER.index, default="ok")


def show(finding: Finding, width: int) -> str:
    """A finding as lines of at most `width` characters: its status, its name, and what there is to say.

    What is expected and what mends it have lines of their own where something is to be mended.
    """
    indent = " " * (6 + NAME_WIDTH + 2)
    room = max(LEAST_WIDTH, min(width, MOST_WIDTH)) - len(indent)
    needs_mending = finding.status in ("warn", "fail")
    ends = f" (expected: {finding.expected})" if finding.expected and not needs_mending else ""
    lines = _wrapped(f"{finding.measured}{ends}", room)
    if needs_mending:
        for label, text in (("expected: ", finding.expected), ("to mend: ", finding.mend)):
            if text:
                first, *more = _wrapped(text, room - 10)
                lines += [f"{label:<10}{first}", *(f"{'':10}{line}" for line in more)]
    head = f"{finding.status:<6}{finding.check:<{NAME_WIDTH}}  "
    return "\n".join((head if number == 0 else indent) + line for number, line in enumerate(lines))


def _wrapped(text: str, width: int) -> list[str]:
    plain = without_control(text)
    return textwrap.wrap(plain, width, break_long_words=False, break_on_hyphens=False) or [""]


def summarize(findings: Sequence[Finding]) -> str:
    """The last line: how many of each status."""
    counts = {status: sum(finding.status == status for finding in findings) for status in ORDER}
    skipped = f", {counts['skip']} not checked here" if counts["skip"] else ""
    return f"{counts['fail']} fail, {counts['warn']} warn, {counts['ok']} ok{skipped}"


def as_json(findings: Sequence[Finding], world_size: int, seconds: float) -> dict[str, Any]:
    """The findings as plain values."""
    return {
        "version": 1,
        "status": worst(findings),
        "world_size": world_size,
        "seconds": round(seconds, 3),
        "findings": [dataclasses.asdict(finding) for finding in findings],
    }
