"""What is said of a claim: PASS, FAIL, or that this machine cannot tell; and the entry for the receipt."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

from signs_dist.errors import EXIT_FAILED, EXIT_OK, EXIT_OTHER_ARITHMETIC
from signs_dist.proving.claim import Claim, compared_parts
from signs_dist.proving.findings import Difference, Findings, find_in_files, find_in_training
from signs_dist.proving.plan import Plan, all_segments
from signs_dist.proving.segments import joined

Word = Literal["PASS", "FAIL", "OTHER ARITHMETIC"]
OTHER_IMAGES = "the images here are not those that the run was trained on. --data PATH says where they are."
EXIT_CODES: dict[Word, int] = {"PASS": EXIT_OK, "FAIL": EXIT_FAILED, "OTHER ARITHMETIC": EXIT_OTHER_ARITHMETIC}


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What is said of a claim.

    Attributes:
        word: PASS, FAIL, or OTHER ARITHMETIC, which is neither.
        text: for people, with the word first where it is PASS or FAIL.
        notes: what to know beside it.
    """

    word: Word
    text: str
    notes: Sequence[str] = ()

    @property
    def exit_code(self) -> int:
        """Of the command."""
        return EXIT_CODES[self.word]


def judge_files(faults: Sequence[str]) -> Verdict | None:
    """FAIL if the files of a run do not agree; else None."""
    if not faults:
        return None
    more = f" And {len(faults) - 1} more." if len(faults) > 1 else ""
    return Verdict("FAIL", f"FAIL: the files of the run do not agree. {faults[0]}.{more} Nothing was trained again.")


def judge(claim: Claim, plan: Plan, findings: Findings) -> Verdict:
    """What follows from training again."""
    if findings.same_images is False or findings.subject["data"] != claim.subject["data"]:
        return Verdict("FAIL", f"FAIL: {OTHER_IMAGES}")
    if "config" in compared_parts(claim) and findings.subject["config"] != claim.subject["config"]:
        return Verdict("FAIL", f"FAIL: {claim.name_of_settings} has other settings than the run was trained with.")
    in_files = find_in_files(claim.lines, claim.result, findings, claim.result_step)
    if in_files:
        return _failed(claim, plan, in_files)
    names = "; ".join(findings.differences)
    if findings.same_bits is False:
        return _judge_elsewhere(names or "no version or instruction differs")
    differences = find_in_training(plan.segments, claim.lines, claim.result, findings, claim.result_step)
    if differences and names and findings.same_bits is None:
        return _judge_elsewhere(names)
    if differences:
        return _failed(claim, plan, differences)
    return Verdict("PASS", f"PASS: {coverage_text(claim, plan, findings)}")


def _judge_elsewhere(names: str) -> Verdict:
    return Verdict(
        "OTHER ARITHMETIC",
        f"this machine computes other bits than the run did, so a difference is no evidence: {names}. Repeat the "
        f"command on the kind of machine, and with the software, that trained the run.",
    )


def _failed(claim: Claim, plan: Plan, differences: Sequence[Difference]) -> Verdict:
    """The first difference, in the first segment that has it."""
    first = differences[0]
    within = [each for each in plan.segments if each.first < first.step <= each.last]
    within = within or [each for each in plan.segments if first.step in (each.first, each.last)]
    where = f"step {first.step:,}" if first.step else "the beginning"
    if within:
        where = f"the segment with {within[0].describe(claim.num_steps)} differs. At {where}"
    more = len(differences) - 1
    return Verdict("FAIL", f"FAIL: {where}: {first.what}.{f' And {more:,} more differences.' if more else ''}")


def coverage_text(claim: Claim, plan: Plan, findings: Findings) -> str:
    """What was trained again and was equal, and whether the result was."""
    done = sum(segment.num_steps for segment in plan.segments)
    share = done / claim.last_step
    of = f"{len(plan.segments)} of {len(all_segments(claim))} segments, {done:,} of {claim.last_step:,} steps"
    equal = f"{of} ({100 * share:.1f} %) give the states and numbers of the run"
    if findings.result is None:
        return f"{equal}. Its result was not computed again: it is that of step {claim.result_step:,}."
    return f"{equal}, and its result: scores and weights."


def make_proof(
    claim: Claim,
    plan: Plan,
    findings: Findings,
    verdict: Verdict,
    *,
    by: str | None,
    host: str,
    when: str,
    num_processes: int,
    seed: int | None,
) -> dict[str, Any]:
    """The entry in a receipt's `proved`.

    Args:
        claim: what was proved.
        plan: what was trained again.
        findings: what came out.
        verdict: what is said of it.
        by: a name, if one was given.
        host: the machine.
        when: the time.
        num_processes: on how many it was trained again.
        seed: that chose the segments; None: they were not chosen.
    """
    return {
        "by": by,
        "host": host,
        "when": when,
        "processes": num_processes,
        "arithmetic": findings.arithmetic,
        "seed": seed,
        "segments": [[segment.first + 1, segment.last] for segment in joined(plan.segments)],
        "steps": sum(segment.num_steps for segment in plan.segments),
        "of_steps": claim.last_step,
        "result": findings.result is not None,
        "verdict": verdict.word,
        "text": verdict.text,
    }
