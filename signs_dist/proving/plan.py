"""Which segments of a claim are trained again, and which are not, and why."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from signs_dist.errors import UserError
from signs_dist.proving.claim import Claim
from signs_dist.proving.segments import Segment, choose, describe_rest


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
    comparable, short = claim.comparable(), claim.short()
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
    segments, notes = claim.comparable(), _notes_on_others(claim)
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
    if claim.states[0].since or claim.before_other_bits or claim.other_subjects:
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


def _notes_on_others(claim: Claim) -> list[str]:
    """Notes on the segments that cannot be compared."""
    comparable = claim.comparable()
    others = [segment for segment in claim.all_segments() if segment not in comparable]
    notes = []
    if others:
        notes.append(
            f"cannot be compared: {describe_rest(others, claim.num_steps)}: the run went on with other settings, "
            f"images, code or another arithmetic after them."
        )
    if since := claim.states[0].since:
        notes.append(f"cannot be compared: steps 1 to {since:,}: the chain begins after them.")
    return notes
