"""What is said of a claim, and the exit code."""

from __future__ import annotations

from typing import Any

import pytest

from signs_dist.proving.claim import Claim
from signs_dist.proving.findings import Kept
from signs_dist.proving.plan import Plan, plan_all, plan_segments
from signs_dist.proving.verdict import OTHER_IMAGES, Verdict, judge, judge_files, make_proof
from tests.proving.claims import PARTS, SUBJECT, some_claim, some_findings

CLAIM = some_claim()


def verdict(claim: Claim = CLAIM, plan: Plan | None = None, **findings: Any) -> Verdict:
    return judge(claim, plan or plan_all(claim), some_findings(claim, **findings))


OTHER_STATES = {**some_findings(some_claim()).states, 8: {**PARTS, "state": "other"}}


def test_pass_says_what_was_covered() -> None:
    said = verdict()
    assert (said.word, said.exit_code) == ("PASS", 0)
    assert said.text == (
        "PASS: 3 of 3 segments, 12 of 12 steps (100.0 %) give the states and numbers of the run, and its result: "
        "scores and weights."
    )
    part = verdict(plan=Plan(plan_all(CLAIM).segments[:1], [], []), result=None)
    assert part.text == (
        "PASS: 1 of 3 segments, 4 of 12 steps (33.3 %) give the states and numbers of the run. Its result was not "
        "computed again: it is that of step 12."
    )


def test_fail_names_the_first_segment_and_part_that_differ() -> None:
    said = verdict(states=OTHER_STATES, kept=[Kept(8, "epoch-0002.pt", {**PARTS, "ema": "x"}, "state8")])
    assert (said.word, said.exit_code) == ("FAIL", 1)
    assert said.text == (
        "FAIL: the segment with steps 5 to 8, epoch 2 differs. At step 8: training again gives other averaged weights."
    )
    more = verdict(states={**OTHER_STATES, 12: {**PARTS, "state": "other"}})
    assert more.text.endswith("And 1 more differences.")


@pytest.mark.parametrize(
    "findings", [{"same_images": False}, {"subject": {**SUBJECT, "data": "other"}}], ids=["fingerprint", "contents"]
)
def test_other_images_fail(findings: dict[str, Any]) -> None:
    said = verdict(**findings)
    assert (said.word, said.text) == ("FAIL", f"FAIL: {OTHER_IMAGES}")


def test_other_settings_fail() -> None:
    said = verdict(subject={**SUBJECT, "config": "other"})
    assert said.text == "FAIL: config.yaml has other settings than the run was trained with."


@pytest.mark.parametrize(
    ("findings", "word"),
    [
        ({"same_bits": False}, "OTHER ARITHMETIC"),
        ({"same_bits": None, "differences": ["torch 1 → 2"], "states": OTHER_STATES}, "OTHER ARITHMETIC"),
        ({"same_bits": None, "differences": ["torch 1 → 2"]}, "PASS"),
        ({"same_bits": None, "states": OTHER_STATES}, "FAIL"),
        ({"same_bits": True, "differences": ["CPU a → b"], "states": OTHER_STATES}, "FAIL"),
        ({"same_bits": False, "model": "x"}, "FAIL"),
        ({"same_bits": False, "kept": [Kept(4, "epoch-0001.pt", PARTS, "other")]}, "FAIL"),
    ],
)
def test_on_another_arithmetic_a_difference_is_no_evidence(findings: dict[str, Any], word: str) -> None:
    assert verdict(**findings).word == word


def test_another_arithmetic_is_told_by_name_and_ends_with_4() -> None:
    said = verdict(same_bits=False, differences=["CPU capability AVX512 → AVX2"])
    assert said.exit_code == 4
    assert "FAIL" not in said.text
    assert "a difference is no evidence: CPU capability AVX512 → AVX2" in said.text


def test_files_that_do_not_agree() -> None:
    assert judge_files([]) is None
    said = judge_files(["step 4: the chain breaks", "another"])
    assert said is not None
    assert said.exit_code == 1
    assert said.text == (
        "FAIL: the files of the run do not agree. step 4: the chain breaks. And 1 more. Nothing was trained again."
    )


def test_the_entry_of_the_receipt() -> None:
    plan = plan_segments(CLAIM, 2, seed=0)
    findings = some_findings(CLAIM, result=None)
    said = judge(CLAIM, plan, findings)
    proof = make_proof(CLAIM, plan, findings, said, by=None, host="node1", when="now", num_processes=2, seed=0)
    assert proof["verdict"] == "PASS"
    assert (proof["host"], proof["by"], proof["processes"], proof["seed"]) == ("node1", None, 2, 0)
    assert sum(last - first + 1 for first, last in proof["segments"]) == proof["steps"] == 8
    assert proof["of_steps"] == 12
    assert proof["result"] is False
