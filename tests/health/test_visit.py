"""A visit: rank 0 tells findings and lost ranks, others tell nothing."""

from __future__ import annotations

import dataclasses

from signs_dist.distributed.board import Board
from signs_dist.environment.context import read_context
from signs_dist.health.finding import Finding, places_of
from signs_dist.health.stages import Stages
from signs_dist.health.visit import Visit, judge_lost

PLACES = places_of({0: "n1", 1: "n1", 2: "n2"})


def a_visit(rank: int, told: list[Finding]) -> Visit:
    context = dataclasses.replace(read_context(), rank=rank, world_size=3)
    stages = Stages(Board(rank), rank, 3 if rank == 0 else 1, grace_seconds=0.05)
    return Visit(context, stages, PLACES, {2: 4711}, b"", None, told.extend)


def test_lost_ranks_are_told_once_and_speak_no_longer_for_their_machine() -> None:
    told: list[Finding] = []
    visit = a_visit(0, told)
    assert visit.leaders == [0, 2]
    readings, broken = visit.gather("compute", lambda: 1.0, 0.1)
    assert (readings, broken) == ({0: 1.0}, [])
    visit.gather("names", lambda: 1.0, 0.1)
    assert [each.measured.partition(" within")[0] for each in told] == [
        "rank 1 on n1 did not answer in the check 'compute'",
        "rank 2 on n2 did not answer in the check 'compute'",
    ]
    assert "ps -o pid,stat,wchan:20,cmd -p 4711" in told[1].mend
    assert visit.leaders == [0]
    assert visit.describe_lost() == "rank 1 on n1, rank 2 on n2"
    assert visit.findings == told
    visit.stages.close()


def test_only_rank_0_tells() -> None:
    told: list[Finding] = []
    visit = a_visit(1, told)
    visit.say([Finding("names", "ok", "fine")])
    assert told == visit.findings == []
    visit.stages.close()


def test_a_lost_rank() -> None:
    finding = judge_lost(2, "busy", 10.0, PLACES, {})
    assert finding.status == "fail"
    assert finding.measured == "rank 2 on n2 did not answer in the check 'busy' within 10 s"
