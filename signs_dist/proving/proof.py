"""Proving a claim: compare its files, choose segments, train them again, judge, and write the receipt."""

from __future__ import annotations

import dataclasses
import platform
import secrets
from collections.abc import Callable
from pathlib import Path

from signs_dist.environment.subprocesses import count_processes
from signs_dist.errors import UserError
from signs_dist.files import write_json
from signs_dist.proving.agreement import compare_receipt, compare_settings, find_disagreements
from signs_dist.proving.claim import Claim, compared_parts
from signs_dist.proving.findings import Findings
from signs_dist.proving.job import Job
from signs_dist.proving.plan import Plan, plan_all, plan_from_beginning, plan_segments
from signs_dist.proving.starting import train_again
from signs_dist.proving.verdict import Verdict, judge, judge_files, make_proof
from signs_dist.results.receipt import receipt_of, with_proof
from signs_dist.run_folder.folder import RunFolder, timestamp
from signs_dist.run_folder.records import EpochLine, StepLine, of_kind

NUM_SEGMENTS = 3
"""How many segments are chosen if nothing is said."""


@dataclasses.dataclass(frozen=True)
class Wishes:
    """What the command was asked for.

    Attributes:
        number: how many segments; None: `NUM_SEGMENTS`.
        is_all: whether all are trained again.
        epochs: of a receipt: how many epochs; None: all.
        seed: chooses the segments; None: a new one.
        num_processes: on how many to train.
        device: auto, cpu, cuda or cuda:N.
        data: where the images are; None: where they were.
        by: a name for the receipt.
        receipt_out: where to write the receipt; None: into the run folder.
    """

    number: int | None = None
    is_all: bool = False
    epochs: int | None = None
    seed: int | None = None
    num_processes: int = 1
    device: str = "auto"
    data: str | None = None
    by: str | None = None
    receipt_out: Path | None = None


def prove(claim: Claim, wishes: Wishes, tell: Callable[[str], None]) -> Verdict:
    """Prove a claim as asked, and write the receipt.

    Args:
        claim: of a run folder or a receipt.
        wishes: what was asked for.
        tell: called with each line for people; the last one is the verdict.

    Raises:
        UserError: the images or the network cannot be used, or nothing can be compared.
        TrainingFailedError: processes failed.
    """
    verdict = judge_files(find_faults(claim))
    if verdict is not None:
        tell(verdict.text)
        return verdict
    _require_data(claim, wishes)
    tell(f"the files agree with each other, and the chain of {len(claim.states)} states is whole")
    is_chosen = not (wishes.is_all or claim.is_receipt)
    seed = (secrets.randbelow(2**31) if wishes.seed is None else wishes.seed) if is_chosen else None
    plan = _make_plan(claim, wishes, seed)
    for note in plan.notes:
        tell(note)
    if seed is not None:
        tell(f"--seed {seed} chooses {len(plan.segments)} of {len(plan.candidates)} segments:")
    for segment in plan.segments:
        tell(f"  {segment.describe(claim.num_steps)}")
    tell(f"training again on {count_processes(wishes.num_processes)} …")
    findings = train_again(_make_job(claim, wishes, plan), wishes.num_processes)
    for note in notes_of(claim, findings):
        tell(note)
    verdict = judge(claim, plan, findings)
    is_trained = bool(findings.states) or findings.not_finite is not None
    if is_trained and verdict.word != "OTHER ARITHMETIC":  # wrong photos are no proof, neither way
        _write_receipt(claim, wishes, plan, findings, verdict, seed, tell)
    tell(verdict.text)
    return verdict


def _require_data(claim: Claim, wishes: Wishes) -> None:
    """Raise `UserError` if the photos were in a folder that is not here, and nobody says where they are."""
    data = claim.settings.get("data")
    if wishes.data is not None or not isinstance(data, dict):
        return
    told = claim.manifest.get("data")
    sources = told.get("sources") if isinstance(told, dict) else None
    gone = [each for each in sources if isinstance(each, str)] if isinstance(sources, list) else []
    roots = [*gone, *(each for each in [data.get("root")] if isinstance(each, str))]
    if gone and data.get("reader") is None and not any(Path(each).exists() for each in roots):
        raise UserError(f"the run has trained on {gone[0]}, which is not there: say where it is now: --data PATH")
    if claim.is_receipt and data.get("root") is not None and data.get("reader") is None:
        raise UserError(
            f"the run has trained on {data['root']}: say where these photos are on this machine: --data PATH"
        )


def find_faults(claim: Claim) -> list[str]:
    """Where the files of a claim do not agree with each other."""
    faults = find_disagreements(claim.lines, claim.manifest.get("subject"), claim.result)
    faults += compare_settings(claim.settings, claim.result)
    if claim.receipt is None:
        return [*faults, *([claim.damage.removesuffix(".")] if claim.damage else [])]
    expected = claim.receipt if claim.is_receipt else receipt_of(RunFolder(claim.path), claim.result)
    return [*faults, *compare_receipt(claim.receipt, expected)]


def notes_of(claim: Claim, findings: Findings) -> list[str]:
    """What to know about training again, beside the verdict."""
    notes = [f"trained again in {findings.seconds:.1f} s"] if findings.states else []
    if "config" not in compared_parts(claim):
        notes.append(
            "a file that the settings name is here in another folder: the digest of the settings is not compared"
        )
    if findings.subject["code"] != claim.subject["code"]:
        commit = claim.manifest.get("code", {}).get("commit")
        told = f", of commit {str(commit)[:12]}" if commit else ""
        notes.append(f"the code here is not the code that trained the run{told}: a difference may come from it")
    if findings.same_bits is None:
        notes.append("nothing in the run tells which bits its machine computed: training again shows it")
    if findings.same_bits and findings.differences:
        notes.append(
            f"the arithmetic differs in name: {'; '.join(findings.differences)}; its bits are those of the run"
        )
    return notes


def _make_plan(claim: Claim, wishes: Wishes, seed: int | None) -> Plan:
    if claim.is_receipt:
        return plan_from_beginning(claim, wishes.epochs)
    if seed is None:
        return plan_all(claim)
    return plan_segments(claim, wishes.number or NUM_SEGMENTS, seed)


def _make_job(claim: Claim, wishes: Wishes, plan: Plan) -> Job:
    return Job(
        run=str(claim.path),
        data=wishes.data,
        device=wishes.device,
        segments=plan.segments,
        steps_of_lines=sorted({line.step for line in claim.lines if isinstance(line, StepLine)}),
        validated=[line.step for line in of_kind(claim.lines, EpochLine) if line.val_accuracy is not None],
        steps_of_states=[line.step for line in claim.states],
        subject=claim.subject,
        compared=compared_parts(claim),
        result_step=claim.result_step,
    )


def _write_receipt(
    claim: Claim,
    wishes: Wishes,
    plan: Plan,
    findings: Findings,
    verdict: Verdict,
    seed: int | None,
    tell: Callable[[str], None],
) -> None:
    """Add what was proved to the receipt. Without `wishes.receipt_out`, the receipt of someone else is not changed."""
    path = wishes.receipt_out or (None if claim.is_receipt else RunFolder(claim.path).receipt)
    if path is None:
        return
    receipt = claim.receipt or receipt_of(RunFolder(claim.path), claim.result)
    proof = make_proof(
        claim,
        plan,
        findings,
        verdict,
        by=wishes.by,
        host=platform.node(),
        when=timestamp(),
        num_processes=wishes.num_processes,
        seed=seed,
    )
    try:
        write_json(path, with_proof(receipt, proof))
    except (UserError, OSError) as error:
        tell(f"the receipt was not written: {error} To write it elsewhere, type --receipt-out FILE")
        return
    tell(f"the receipt with this proof is in {path}")
