"""Which segments are trained again, and what is said of the others."""

from __future__ import annotations

import dataclasses

import pytest

from signs_dist.errors import UserError
from signs_dist.proving.plan import (
    all_segments,
    comparable_segments,
    plan_all,
    plan_from_beginning,
    plan_segments,
    short_segments,
)
from signs_dist.proving.segments import Segment
from signs_dist.run_folder.records import StateLine
from tests.proving.claims import chained, epoch_line, some_claim, some_lines, some_result


def test_some_segments_are_chosen_by_the_seed() -> None:
    plan = plan_segments(some_claim(9), 3, seed=1)
    assert len(plan.segments) == 3
    assert plan.segments == plan_segments(some_claim(9), 3, seed=1).segments
    assert len(plan.candidates) == 9
    assert plan.notes == []


def test_without_milestones_what_remains_is_proved_and_the_rest_is_named() -> None:
    plan = plan_segments(some_claim(6, settings={}, kept=frozenset({16, 20, 24})), 3, seed=1)
    assert plan.segments == [Segment(16, 20), Segment(20, 24)]
    assert plan.notes == [
        "not to be chosen: steps 1 to 16, epochs 1 to 4: the states within were not kept. --all trains them again as "
        "well; checkpoint.keep_every_epochs=1 keeps the state of each epoch of the next run."
    ]


def test_without_any_short_segment_all_is_to_be_typed() -> None:
    with pytest.raises(UserError, match=r"steps 1 to 24, epochs 1 to 6.* Type --all"):
        plan_segments(some_claim(6, settings={}, kept=frozenset()), 3, seed=1)


def test_all_begins_at_the_beginning() -> None:
    claim = some_claim(6, settings={}, kept=frozenset({16, 20, 24}))
    assert plan_all(claim).segments == [Segment(0, 16), Segment(16, 20), Segment(20, 24)]


def test_what_cannot_be_compared_is_named() -> None:
    lines = chained(*(epoch_line(epoch) for epoch in range(1, 5)), subjects={4: "other", 8: "other"})
    plan = plan_all(some_claim(4, lines=lines))
    assert plan.segments == [Segment(8, 12), Segment(12, 16)]
    assert plan.notes == [
        "cannot be compared: steps 1 to 8, epochs 1 to 2: the run went on with other settings, images, code or another "
        "arithmetic after them."
    ]
    with pytest.raises(UserError, match="Nothing can be compared"):
        plan_all(some_claim(4, result=some_result(4, arithmetic_changes=[{"step": 16, "what": "torch"}])))


@pytest.mark.parametrize(("epochs", "last"), [(None, 12), (2, 8), (9, 12)])
def test_a_receipt_is_trained_again_from_the_beginning(epochs: int | None, last: int) -> None:
    plan = plan_from_beginning(some_claim(), epochs)
    assert plan.segments == [Segment(0, last)]
    assert bool(plan.notes) == (last < 12)
    assert all("as --epochs says: steps 9 to 12, epoch 3" in note for note in plan.notes)


def test_a_receipt_of_a_run_that_changed_on_its_way_is_refused() -> None:
    lines = chained(*(epoch_line(epoch) for epoch in range(1, 5)), subjects={4: "other"})
    with pytest.raises(UserError, match="Ask for the run folder"):
        plan_from_beginning(some_claim(4, lines=lines), None)


def test_milestones_set_how_long_a_segment_may_be() -> None:
    every_two = some_claim(6, settings={"checkpoint": {"keep_every_epochs": 2}}, kept=frozenset({8, 16}))
    assert short_segments(every_two) == [Segment(0, 8), Segment(8, 16), Segment(16, 24)]
    newest = some_claim(6, settings={}, kept=frozenset({16, 20, 24}))
    assert all_segments(newest) == [Segment(0, 16), Segment(16, 20), Segment(20, 24)]
    assert short_segments(newest) == [Segment(16, 20), Segment(20, 24)]


def test_what_was_trained_with_other_settings_or_arithmetic_cannot_be_compared() -> None:
    lines = chained(*(epoch_line(epoch) for epoch in range(1, 5)), subjects={4: "other", 8: "other"})
    assert comparable_segments(some_claim(4, lines=lines)) == [Segment(8, 12), Segment(12, 16)]
    changed = some_result(4, arithmetic_changes=[{"step": 5, "what": "torch"}])
    assert comparable_segments(some_claim(4, result=changed)) == [Segment(4, 8), Segment(8, 12), Segment(12, 16)]


def test_a_chain_that_begins_late_leaves_its_beginning_out() -> None:
    lines = [line for line in some_lines(4) if line.step > 4]
    first = next(line for line in lines if isinstance(line, StateLine))
    lines = [dataclasses.replace(line, since=4) if line is first else line for line in lines]
    assert all_segments(some_claim(4, lines=lines, kept=frozenset({8, 12}))) == [Segment(8, 12), Segment(12, 16)]
