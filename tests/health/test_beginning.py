"""The beginning of a visit: where each rank is; that ranks do not come is in tests/test_doctor.py."""

from __future__ import annotations

from signs_dist.environment.context import read_context
from signs_dist.errors import PeerLostError, UserError
from signs_dist.health.beginning import begin_visit, judge_meeting, name_machines
from signs_dist.health.finding import Finding


def test_machines_of_one_name_are_told_apart() -> None:
    found = {0: ("localhost", "1a2b3c4d5e"), 1: ("localhost", "1a2b3c4d5e"), 2: ("n2", "")}
    assert name_machines(found) == {0: "localhost", 1: "localhost", 2: "n2"}
    assert name_machines({**found, 1: ("localhost", "ffff0000aa")}) == {
        0: "localhost (1a2b3c4d)",
        1: "localhost (ffff0000)",
        2: "n2",
    }


def test_alone() -> None:
    visit = begin_visit(read_context(), lambda findings: None)
    visit.stages.close()
    assert (list(visit.places), visit.leaders, len(visit.token)) == ([0], [0], 16)
    assert visit.meeting is None


def test_ranks_that_do_not_come() -> None:
    finding = judge_meeting(PeerLostError("rank 1 of 2 never arrived"))
    assert (finding.check, finding.status, finding.measured) == ("meeting", "fail", "rank 1 of 2 never arrived")
    assert "the logs of these ranks tell why" in finding.mend


def test_a_setting_with_which_nobody_can_come() -> None:
    finding = judge_meeting(UserError("port 1 is taken by another program. Set MASTER_PORT to another."))
    assert finding == Finding("meeting", "fail", "port 1 is taken by another program. Set MASTER_PORT to another.")
