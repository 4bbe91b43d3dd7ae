"""Which process's failure explains the others."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import pytest

from signs_dist.monitoring.beats import Beat, Identity, beat_path
from signs_dist.monitoring.failure_card import (
    FailureCard,
    Kind,
)
from signs_dist.monitoring.pulse import Pulse
from signs_dist.monitoring.root_cause import find_lost_peer, find_root_cause

IDENTITY = Identity(2, 4, "node7", 4711, "cuda:2", "runs/a/logs/rank2.log")


def card(**changes: object) -> FailureCard:
    pulse = Pulse()
    pulse.enter("backward", epoch=3, step=17)
    made = FailureCard.of_process(
        *(IDENTITY, pulse), kind="error", error="ValueError: wrong shape", time=5.0, told_by=2, exit_code=1
    )
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kinds", "root"),
    [
        ([("lost_peer", 1.0), ("error", 3.0), ("killed", 2.0)], 1),
        ([("lost_peer", 1.0), ("killed", 2.0)], 1),
        ([("error", 5.0), ("error", 3.0)], 1),
        ([], None),
    ],
)
def test_the_root_explains_the_others(kinds: list[tuple[Kind, float]], root: int | None) -> None:
    cards = [card(kind=kind, time=seconds) for kind, seconds in kinds]
    assert find_root_cause(cards) is (cards[root] if root is not None else None)


def write_beat(folder: Path, rank: int, *, phase: str, collective: bool, age: float = 0.0, pid: int = 1) -> None:
    now = time.time()
    beat = Beat(Identity(rank, 3, "here", pid, "cpu", f"rank{rank}.log"), phase, 2, 9, collective, now - age, now - 7)
    beat_path(folder, rank).write_text(beat.to_json())


@pytest.mark.parametrize(
    ("other", "state", "kind", "error"),
    [
        ({"phase": "forward", "collective": False}, "gone", "killed", "ended without an error message"),
        ({"phase": "forward", "collective": False}, "stopped", "lost_peer", "no longer answers"),
        ({"phase": "forward", "collective": False, "age": 30.0}, "running", "lost_peer", "no longer answers"),
        ({"phase": "load", "collective": False}, "running", "lost_peer", "did not reach the collective"),
    ],
)
def test_the_lost_process_is_found_by_its_heartbeat(
    tmp_path: Path, other: dict[str, object], state: str, kind: str, error: str
) -> None:
    write_beat(tmp_path, 0, phase="sum gradients", collective=True)
    write_beat(tmp_path, 1, pid=55, **other)  # type: ignore[arg-type]
    write_beat(tmp_path, 2, phase="sum gradients", collective=True)
    own = card(rank=0, told_by=0, world_size=3, host="here", kind="lost_peer")
    found = find_lost_peer(tmp_path, own, [], lambda pid: state if pid == 55 else "running")
    assert (found.rank, found.kind, found.told_by, found.log) == (1, kind, 0, "rank1.log")
    assert error in found.error
    assert any("rank 2 waits in a collective (sum gradients, epoch 2 step 9) for 7 s" in row for row in found.details)
    assert "rank 0 waited in backward: ValueError: wrong shape" in found.details[-1]


def test_a_process_that_reported_a_loss_and_ended_is_not_the_lost_one(tmp_path: Path) -> None:
    write_beat(tmp_path, 1, phase="forward", collective=False)
    write_beat(tmp_path, 2, phase="sum gradients", collective=True, pid=55)
    own = card(rank=0, told_by=0, world_size=3, host="here", kind="lost_peer")
    other = card(rank=1, told_by=2, world_size=3, host="here", kind="lost_peer")
    found = find_lost_peer(tmp_path, own, [other], lambda pid: "gone" if pid == 55 else "running")
    assert (found.rank, found.kind) == (1, "lost_peer")
    assert (
        "rank 2 waited in a collective (sum gradients, epoch 2 step 9), and lost another process too" in found.details
    )


def test_without_a_suspect_the_card_names_the_reporting_process(tmp_path: Path) -> None:
    write_beat(tmp_path, 1, phase="backward", collective=True)
    own = card(rank=0, told_by=0, world_size=2, host="here", kind="lost_peer")
    assert find_lost_peer(tmp_path, own, [], lambda pid: "running").rank == 0
