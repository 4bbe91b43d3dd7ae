"""Which process's failure explains the failures of the others."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from signs_dist.environment.process_table import process_state
from signs_dist.monitoring.beats import Beat, read_beats
from signs_dist.monitoring.failure_card import FailureCard, Kind, first_line
from signs_dist.monitoring.standings import describe_standings, judge_processes

_WORST_FIRST: tuple[Kind, ...] = ("error", "killed", "lost_peer")


def find_root_cause(cards: Sequence[FailureCard]) -> FailureCard | None:
    """The card that explains the others: an error before a killed process before a lost peer, then the earliest."""
    return min(cards, key=lambda card: (_WORST_FIRST.index(card.kind), card.time), default=None)


def find_lost_peer(
    folder: Path, own: FailureCard, found: Sequence[FailureCard] = (), state: Callable[[int], str] = process_state
) -> FailureCard:
    """The card of the process that this process lost: the most suspicious process by its heartbeat.

    Args:
        folder: the run's logs folder.
        own: this process's card; returned with details if no process is suspicious.
        found: the cards of other processes. A process that reported a lost process is not itself the lost process,
            even if it has ended.
        state: from a process id to running, stopped, gone or unknown.
    """
    beats = read_beats(folder)
    standings = [
        standing
        for standing in judge_processes(
            beats,
            world_size=own.world_size,
            now=time.time(),
            host=own.host,
            state=state,
            have_lost={card.told_by for card in found if card.kind != "error"},
        )
        if standing.rank != own.rank
    ]
    lines = (*describe_standings(standings), f"rank {own.rank} waited in {own.phase}: {first_line(own.error)}")
    suspect = standings[0] if standings else None
    beat = beats.get(suspect.rank) if suspect is not None else None
    if suspect is None or beat is None or suspect.kind == "waiting":
        return dataclasses.replace(own, details=lines)
    return _card_of(beat, suspect.kind, own, lines)


def _card_of(beat: Beat, standing: str, own: FailureCard, lines: tuple[str, ...]) -> FailureCard:
    errors = {
        "gone": f"process {beat.identity.pid} ended without an error message: killed from outside (SIGKILL; out of "
        "memory?)",
        "silent": f"process {beat.identity.pid} no longer answers",
        "busy": f"process {beat.identity.pid} did not reach the collective in which the others wait",
    }
    return FailureCard.of_process(
        beat.identity,
        beat,
        kind="killed" if standing == "gone" else "lost_peer",
        error=errors[standing],
        time=own.time,
        told_by=own.told_by,
        exit_code=own.exit_code,
        details=lines,
    )
