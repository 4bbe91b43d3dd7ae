"""Where training again differs from what a run says: which number, or which part of its state."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from signs_dist.proving.findings import Difference, Findings, Kept, find_in_files, find_in_training
from signs_dist.proving.segments import Segment
from signs_dist.run_folder.records import EpochLine
from tests.proving.claims import PARTS, some_claim, some_findings, step_line

CLAIM = some_claim()
WHOLE = [Segment(0, 12)]


def in_training(findings: Findings, segments: list[Segment] = WHOLE) -> list[Difference]:
    return find_in_training(segments, CLAIM.lines, CLAIM.result, findings, CLAIM.result_step)


def in_files(findings: Findings) -> list[Difference]:
    return find_in_files(CLAIM.lines, CLAIM.result, findings, CLAIM.result_step)


def with_line(step: int, **changes: Any) -> Findings:
    lines = [{**line, **changes} if line["step"] == step else line for line in some_findings(CLAIM).lines]
    return some_findings(CLAIM, lines=lines)


def test_nothing_differs() -> None:
    assert in_training(some_findings(CLAIM)) == []
    assert in_files(some_findings(CLAIM)) == []


@pytest.mark.parametrize(
    ("step", "name", "told"),
    [(6, "train_loss", 1 / 6), (6, "lr", 0.1), (8, "val_loss", 1.0), (8, "val_accuracy", 0.2), (8, "images", 64)],
)
def test_a_number_that_differs(step: int, name: str, told: float) -> None:
    found = in_training(with_line(step, **{name: 7}))
    assert found == [Difference(step, f"{name}: {told} in metrics.jsonl, 7 here")]


def test_numbers_outside_of_the_segments_are_not_compared() -> None:
    assert in_training(with_line(6, train_loss=7), [Segment(8, 12)]) == []


def test_an_epoch_whose_line_was_deleted() -> None:
    lines = [line for line in CLAIM.lines if line.step != 8]
    found = find_in_training(WHOLE, lines, CLAIM.result, some_findings(CLAIM), 12)
    assert found == [Difference(8, "metrics.jsonl has no line for the end of this epoch")]


def test_lines_that_were_added() -> None:
    """An end of an epoch within one, with a better validation; numbers at the end of an epoch; a line that is twice."""
    second = next(line for line in CLAIM.lines if isinstance(line, EpochLine) and line.step == 8)
    for added, told in [
        (
            dataclasses.replace(second, step=7, val_accuracy=0.99),
            "a line for the end of an epoch where a run writes none",
        ),
        (step_line(8), "a line for numbers where a run writes none"),
        (dataclasses.replace(second, val_accuracy=0.99), "two lines for this step"),
    ]:
        lines = [added, *CLAIM.lines]
        found = find_in_training(WHOLE, lines, CLAIM.result, some_findings(CLAIM), 12)
        assert Difference(added.step, f"metrics.jsonl has {told}") in found


def test_a_state_of_another_epoch_and_one_that_is_not_reached() -> None:
    lines = [dataclasses.replace(line, epoch=5) if line.step == 12 else line for line in CLAIM.lines]
    told = "the line of this state says epoch 5, and it is epoch 3"
    assert Difference(12, told) in find_in_training(WHOLE, lines, CLAIM.result, some_findings(CLAIM), 12)
    states = {step: state for step, state in some_findings(CLAIM).states.items() if step != 8}
    assert in_training(some_findings(CLAIM, states=states)) == [
        Difference(8, "training again does not reach this state")
    ]


def test_a_number_that_only_one_side_has() -> None:
    findings = some_findings(CLAIM)
    lines = [{name: value for name, value in line.items() if name != "val_loss"} for line in findings.lines]
    assert Difference(8, "val_loss: 1.0 in metrics.jsonl, None here") in in_training(some_findings(CLAIM, lines=lines))


def with_state(step: int, **changes: str) -> dict[int, Any]:
    states = dict(some_findings(CLAIM).states)
    states[step] = {**states[step], "state": "other", **changes}
    return states


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model": "x"}, "training again gives other weights"),
        ({"ema": "x"}, "training again gives other averaged weights"),
        ({"optimizer": "x"}, "training again gives other optimizer state"),
        ({"model": "x", "place": "x"}, "training again gives other weights, place in the run"),
    ],
)
def test_a_state_that_differs_is_told_by_its_part_where_its_checkpoint_is_there(
    changes: dict[str, str], told: str
) -> None:
    kept = [Kept(8, "epoch-0002.pt", PARTS, "state8")]
    assert in_training(some_findings(CLAIM, states=with_state(8, **changes), kept=kept)) == [Difference(8, told)]
    assert in_training(some_findings(CLAIM, states=with_state(8, **changes))) == [
        Difference(8, "training again gives another state")
    ]


def test_a_result_that_differs() -> None:
    found = in_training(some_findings(CLAIM, result={"weights_sha256": "w" * 64, "val_loss": 9}))
    assert found[0].what == "weights_sha256: w in result.json, wwwwwwwwwwwwwwww… here"
    assert found[1].what.startswith("val_loss: ")


def test_a_loss_that_is_not_finite() -> None:
    findings = some_findings(CLAIM, lines=[], states={}, result=None, not_finite=3)  # noticed after step 2
    assert in_training(findings) == [Difference(3, "the training loss is not a finite number")]


@pytest.mark.parametrize(
    ("kept", "told"),
    [
        (Kept(4, "epoch-0001.pt", PARTS, "other"), "epoch-0001.pt holds another state than the chain says"),
        (Kept(4, "epoch-0001.pt", None, "", "it is broken"), "it is broken"),
        (
            Kept(4, "epoch-0001.pt", PARTS, "state4", resumes_optimizer=False),
            "epoch-0001.pt names another optimizer than the settings of the run",
        ),
    ],
)
def test_a_checkpoint_that_is_not_as_the_chain_says(kept: Kept, told: str) -> None:
    assert in_files(some_findings(CLAIM, kept=[kept])) == [Difference(4, told)]


@pytest.mark.parametrize(("model", "differs"), [("w", False), ("x", True), ("", True), (None, False)])
def test_final_weights_that_are_others(model: str | None, differs: bool) -> None:
    assert bool(in_files(some_findings(CLAIM, model=model))) == differs


def test_findings_travel_as_json() -> None:
    findings = some_findings(CLAIM, kept=[Kept(4, "epoch-0001.pt", PARTS, "state4")])
    assert Findings.from_dict(json.loads(json.dumps(findings.as_dict()))) == findings
