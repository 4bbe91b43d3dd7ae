"""Which segments of a claim are trained again, and which are not, and why."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from signs_dist.errors import UserError
from signs_dist.proving.claim import Claim
from signs_dist.proving.segments import (
    Segment,
    choose,
    describe_rest,
    find_segments,
    short_ones,
    without_other_subjects,
)


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is trained again.

    Attributes:
        segments: in the order of the run; at least one.
        candidates: the segments from which they were chosen.
        notes: what cannot be covered, and why, a line each.
    """

    segments: Sequence[Segment]
    candidates: Sequence[Segment]
    notes: Sequence[str]


def plan_segments(claim: Claim, number: int, seed: int) -> Plan:
    """Some of the segments that are short enough, by the seed.

    Raises:
        UserError: no segment can be trained again in a reasonable time.
    """
    comparable, short = comparable_segments(claim), short_segments(claim)
    notes = _notes_on_others(claim)
    long = [segment for segment in comparable if segment not in short]
    if long:
        notes.append(
            f"not to be chosen: {describe_rest(long, claim.num_steps)}: the states within were not kept. --all trains "
            f"them again as well; checkpoint.keep_every_epochs=1 keeps the state of each epoch of the next run."
        )
    if not short:
        raise UserError(
            f"{claim.path}: {' '.join(notes) or 'no state of its chain is kept.'} Type --all to train again all that "
            f"can be compared."
        )
    return Plan(choose(short, number, seed), short, notes)


def plan_all(claim: Claim) -> Plan:
    """All segments that can be compared.

    Raises:
        UserError: none can.
    """
    segments, notes = comparable_segments(claim), _notes_on_others(claim)
    if not segments:
        raise UserError(f"{claim.path}: {' '.join(notes) or 'no state of its chain is kept.'} Nothing can be compared.")
    return Plan(segments, segments, notes)


def plan_from_beginning(claim: Claim, num_epochs: int | None) -> Plan:
    """All of a run of which only its receipt is there, or its first epochs.

    Args:
        claim: from `open_receipt`.
        num_epochs: how many; None: all.

    Raises:
        UserError: the chain does not begin at the beginning, or changes on its way.
    """
    if claim.states[0].since or _steps_with_other_bits(claim) or _steps_of_other_subjects(claim):
        raise UserError(
            "this run changed its settings, images, code or arithmetic on its way, or its chain does not begin with "
            "its first step: from a receipt alone it cannot be trained again. Ask for the run folder."
        )
    last = claim.last_step if num_epochs is None else min(claim.last_step, num_epochs * claim.num_steps)
    segment = Segment(0, last)
    notes = []
    if last < claim.last_step:
        rest = Segment(last, claim.last_step).describe(claim.num_steps)
        notes.append(f"not trained again, as --epochs says: {rest}")
    return Plan([segment], [Segment(0, claim.last_step)], notes)


def all_segments(claim: Claim) -> list[Segment]:
    """The segments from each state that is kept to the next. The first begins where the chain begins."""
    states = claim.states
    segments = find_segments(claim.kept & {line.step for line in states}, [line.step for line in states])
    return [segment for segment in segments if segment.first or not states[0].since]


def comparable_segments(claim: Claim) -> list[Segment]:
    """The segments that were trained with the settings, images, code and arithmetic of the end of the run."""
    segments = without_other_subjects(all_segments(claim), _steps_of_other_subjects(claim))
    return [segment for segment in segments if segment.first >= _steps_with_other_bits(claim)]


def short_segments(claim: Claim) -> list[Segment]:
    """The comparable segments that are no longer than the run meant to keep states apart."""
    section = claim.settings.get("checkpoint")
    every = section.get("keep_every_epochs") if isinstance(section, Mapping) else None
    return short_ones(comparable_segments(claim), (every if type(every) is int else 1) * claim.num_steps)


def _steps_of_other_subjects(claim: Claim) -> list[int]:
    """The steps of the states that other settings, images or code have made than the last."""
    last = claim.states[-1].subject
    return [line.step for line in claim.states if line.subject != last]


def _steps_with_other_bits(claim: Claim) -> int:
    """The number of steps before the last change of the arithmetic; 0 without one."""
    changes = claim.result.get("arithmetic_changes")
    steps = [each.get("step") for each in changes if isinstance(each, dict)] if isinstance(changes, list) else []
    return max((step - 1 for step in steps if type(step) is int), default=0)


def _notes_on_others(claim: Claim) -> list[str]:
    """Notes on the segments that cannot be compared."""
    comparable = comparable_segments(claim)
    others = [segment for segment in all_segments(claim) if segment not in comparable]
    notes = []
    if others:
        notes.append(
            f"cannot be compared: {describe_rest(others, claim.num_steps)}: the run went on with other settings, "
            f"images, code or another arithmetic after them."
        )
    if since := claim.states[0].since:
        notes.append(f"cannot be compared: steps 1 to {since:,}: the chain begins after them.")
    return notes
