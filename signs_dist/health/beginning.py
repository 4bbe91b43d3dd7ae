"""The beginning of a visit: all ranks meet, and tell where they are."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from signs_dist.distributed.board import Board
from signs_dist.environment.context import Context
from signs_dist.environment.slurm_job import node_name
from signs_dist.errors import CommandError, UserError
from signs_dist.health.finding import Finding, places_of
from signs_dist.health.stages import Stages
from signs_dist.health.visit import Tell, Visit

MEETING_SECONDS = 60.0
"""How long rank 0 waits for all ranks: Python takes its time to start on a busy machine."""
BEGIN_SECONDS = 5.0
"""How long a rank may take to tell where it is."""


def begin_visit(context: Context, tell: Tell) -> Visit:
    """Meet the other ranks. Where they do not come, rank 0 tells it, and goes on alone.

    Raises:
        PeerLostError, UserError: on another rank than 0: it does not find rank 0.
    """
    own = node_name(os.environ, context.host)
    meeting = None
    if context.world_size > 1:
        from signs_dist.distributed.rendezvous import meet

        try:
            meeting = meet(context, MEETING_SECONDS)
        except CommandError as error:
            if context.rank != 0:
                raise
            visit = Visit(context, Stages(Board(0), 0, 1), places_of({0: own}), {}, b"", None, tell)
            visit.say([judge_meeting(error)])
            return visit
    board = Board(context.rank, None if meeting is None else meeting.store)
    stages = Stages(board, context.rank, context.world_size)
    begun = stages.run("begin", lambda: [own, read_boot_id(), os.getpid(), secrets.token_hex(8)], BEGIN_SECONDS)
    machines = name_machines({rank: (name, boot) for rank, (name, boot, _, _) in begun.items()})
    places = places_of(dict.fromkeys(stages.lost, "a machine that it has not told") | machines)
    pids = {rank: pid for rank, (_, _, pid, _) in begun.items()}
    return Visit(context, stages, places, pids, begun[0][3].encode(), meeting, tell)


def read_boot_id() -> str:
    """What only this start of this machine has (random(4)); "" where the system has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def name_machines(found: Mapping[int, tuple[str, str]]) -> dict[int, str]:
    """A name for the machine of each rank: two machines of one name are told apart by the beginning of their boot id.

    Args:
        found: rank → (name of its machine, its boot id).
    """
    boots: dict[str, set[str]] = {}
    for name, boot in found.values():
        boots.setdefault(name, set()).add(boot)
    return {rank: name if len(boots[name]) == 1 else f"{name} ({boot[:8]})" for rank, (name, boot) in found.items()}


def judge_meeting(error: CommandError) -> Finding:
    """That not all ranks have met: ranks that did not come, or settings of rank 0 with which nobody can come."""
    if isinstance(error, UserError):  # its message says what to type
        return Finding("meeting", "fail", str(error))
    return Finding(
        "meeting",
        "fail",
        str(error),
        "all ranks, within a minute",
        "the logs of these ranks tell why; start all of them, and let the nodes reach rank 0's ports",
    )
