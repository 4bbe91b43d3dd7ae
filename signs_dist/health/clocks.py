"""Differences between the machines' clocks: the age of files on a shared file system tells whether a run is alive."""

from __future__ import annotations

from collections.abc import Mapping

from signs_dist.health.finding import Finding, Place

CHECK = "clocks"
WARN_SECONDS = 2.0
FAIL_SECONDS = 30.0
"""From here on a run is taken for dead while it lives, or for alive when it is dead (checkpoint.takeover_seconds), and
certificates and SLURM's credentials are refused (munge(7): 5 minutes)."""


def judge(offsets: Mapping[int, tuple[float, float]], places: Mapping[int, Place]) -> list[Finding]:
    """A finding for each machine whose clock differs from rank 0's.

    Args:
        offsets: by the ranks that speak for other machines: how many seconds rank 0's clock is ahead of theirs, and how
            exact that is.
        places: of each rank.
    """
    if not offsets:
        return [Finding(CHECK, "skip", "all ranks are on one machine, which has one clock")]
    found = []
    for rank, (offset, exact) in offsets.items():
        if abs(offset) - exact <= WARN_SECONDS:
            continue
        found.append(
            Finding(
                CHECK,
                "fail" if abs(offset) - exact > FAIL_SECONDS else "warn",
                f"the clock of {places[rank].node} is {abs(offset):.1f} s {'behind' if offset > 0 else 'ahead of'} the "
                f"clock of {places[0].node}",
                f"at most {WARN_SECONDS:g} s",
                f"on {places[rank].node}: sudo chronyc makestep, or sudo timedatectl set-ntp true",
            )
        )
    if found:
        return found
    largest = max(abs(offset) for offset, _ in offsets.values())
    told = f"{len(offsets) + 1} machines differ by at most {1000 * largest:.1f} ms"
    return [Finding(CHECK, "ok", told, f"at most {WARN_SECONDS:g} s")]
