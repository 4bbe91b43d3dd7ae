"""Finding the process for which the other processes of a run wait, from the beats of all."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from signs_dist.environment.process_table import process_state
from signs_dist.monitoring.beats import Beat, Identity


def end_stopped(identity: Identity, own: Identity) -> bool:
    """Kill a stopped process of the same run on this machine: it cannot end by itself, and its launcher waits for it.

    Returns:
        Whether it was killed. False if it runs, is on another machine, or its process id now belongs to another
        program.
    """
    if identity.host != own.host or process_state(identity.pid) != "stopped":
        return False
    try:
        same = Path(f"/proc/{identity.pid}/cmdline").read_bytes() == Path("/proc/self/cmdline").read_bytes()
        if same:
            os.kill(identity.pid, signal.SIGKILL)
    except OSError:
        return False
    return same


@dataclasses.dataclass(frozen=True)
class Standing:
    """What is known about a process: its `kind` is one of `KINDS`, and `line` describes it in messages."""

    rank: int
    kind: str
    line: str


KINDS = ("gone", "silent", "busy", "waiting")
"""The kinds of a `Standing`, worst first."""


def judge_processes(
    beats: Mapping[int, Beat],
    *,
    world_size: int,
    now: float,
    host: str,
    state: Callable[[int], str] = process_state,
    late_seconds: float = 5.0,
    have_lost: Collection[int] = (),
) -> list[Standing]:
    """What each process is doing, the most suspicious first, in the order of `KINDS`.

    Args:
        beats: the last beats, by rank.
        world_size: number of processes.
        now: seconds since 1970.
        host: of this process; `state` knows the processes on it.
        state: from a process id to running, stopped, gone or unknown.
        late_seconds: a beat older than this is late.
        have_lost: ranks that reported a lost process. They are waiting, even if they have ended since.
    """
    found = [
        _judge(rank, beats.get(rank), now, host, state, late_seconds, has_lost=rank in have_lost)
        for rank in range(world_size)
    ]
    return sorted(found, key=lambda standing: (KINDS.index(standing.kind), standing.rank))


def _judge(
    rank: int,
    beat: Beat | None,
    now: float,
    host: str,
    state: Callable[[int], str],
    late_seconds: float,
    *,
    has_lost: bool,
) -> Standing:
    if beat is None:
        kind = "waiting" if has_lost else "silent"
        return Standing(rank, kind, f"rank {rank} has no heartbeat: it never began to train, or it has ended")
    process = f"process {beat.identity.pid} on {beat.identity.host}"
    known = state(beat.identity.pid) if beat.identity.host == host else "unknown"
    is_late = now - beat.time > late_seconds
    if has_lost and (known in ("gone", "stopped") or is_late or not beat.collective):
        where = f"waited in a collective ({beat.place})" if beat.collective else f"was in {beat.place}"
        return Standing(rank, "waiting", f"rank {rank} {where}, and lost another process too")
    if known == "gone":
        return Standing(rank, "gone", f"rank {rank} is gone ({process}); last seen in {beat.place}")
    if known == "stopped" or is_late:
        why = "is stopped" if known == "stopped" else f"wrote no heartbeat for {now - beat.time:.0f} s"
        return Standing(rank, "silent", f"rank {rank} does not answer: {process} {why}; last seen in {beat.place}")
    seconds = f"for {max(0.0, now - beat.progress_time):.0f} s"
    if beat.collective:
        return Standing(rank, "waiting", f"rank {rank} waits in a collective ({beat.place}) {seconds}")
    return Standing(rank, "busy", f"rank {rank} is in {beat.place} {seconds}, not in a collective")


def describe_standings(standings: Sequence[Standing], most: int = 8) -> list[str]:
    """A line for each of the first `most` processes, and one line for the rest."""
    lines = [standing.line for standing in standings[:most]]
    rest = standings[most:]
    if rest:
        lines.append(
            f"and {len(rest)} more, of which {sum(one.kind == 'waiting' for one in rest)} wait in a collective"
        )
    return lines


def describe_wait(standings: Sequence[Standing], rank: int) -> str:
    """One line on the processes for which the others wait; "" if a lower rank that waits says it.

    Args:
        standings: from `judge_processes`.
        rank: of this process, which waits.
    """
    if any(standing.kind == "waiting" and standing.rank < rank for standing in standings):
        return ""
    lines = [standing.line for standing in standings if standing.kind != "waiting"]
    return f"rank {rank} waits for other processes: {'; '.join(lines[:4])}" if lines else ""
