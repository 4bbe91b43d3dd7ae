"""What training again has found, as plain values between processes, and where it differs from what the run says."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from signs_dist.proving.segments import Segment
from signs_dist.run_folder.chain import covered_fields
from signs_dist.run_folder.records import EpochLine, MetricsLine, StateLine, StepLine

PARTS = {
    "model": "weights",
    "ema": "averaged weights",
    "optimizer": "optimizer state",
    "scaler": "loss scale",
    "place": "place in the run",
}
"""Part of a state → its name for people."""


@dataclasses.dataclass(frozen=True)
class Kept:
    """A checkpoint of the run.

    Attributes:
        steps_done: its place.
        name: of its file.
        parts: `parts_sha256` of its content; None if it is damaged.
        state: `state_sha256` of its content; "" if it is damaged.
        damage: what is wrong with it; "" for nothing.
        resumes_optimizer: whether training goes on with its optimizer state: its own entry `config`, which no digest
            covers, decides about that.
    """

    steps_done: int
    name: str
    parts: Mapping[str, str] | None
    state: str
    damage: str = ""
    resumes_optimizer: bool = True


@dataclasses.dataclass(frozen=True)
class Findings:
    """What training again has found.

    Attributes:
        same_images: whether the images are those of the run; None if nothing tells.
        same_bits: whether this machine computes the bits of the run; None if nothing tells.
        differences: what differs in the arithmetic, by name.
        arithmetic: of this machine, as plain values.
        subject: the digests of settings, images and code that were trained again, as `Subject.as_dict`.
        kept: the checkpoints at the borders of the segments.
        model: SHA-256 of the weights in model.pt; "" if it cannot be read, None if there is none.
        lines: the numbers at each step that has a line: those of `StepLine` and `EpochLine`, by the steps done.
        states: steps done → `parts_sha256` and, under `state`, `state_sha256`.
        result: the entries of result.json that were computed again; None if their place was not reached.
        not_finite: the step whose loss was not finite; None: all were.
        num_steps: of an epoch.
        seconds: of training again and validating.
    """

    same_images: bool | None
    same_bits: bool | None
    differences: Sequence[str]
    arithmetic: Mapping[str, Any] | None
    subject: Mapping[str, str]
    kept: Sequence[Kept]
    model: str | None
    lines: Sequence[Mapping[str, Any]]
    states: Mapping[int, Mapping[str, str]]
    result: Mapping[str, Any] | None
    not_finite: int | None
    num_steps: int
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Findings:
        """From `as_dict`, which may have been through JSON."""
        return cls(
            **{
                **values,
                "kept": [Kept(**each) for each in values["kept"]],
                "states": {int(step): parts for step, parts in values["states"].items()},
            }
        )


@dataclasses.dataclass(frozen=True, order=True)
class Difference:
    """Something that is not as the run says.

    Attributes:
        step: where, in steps from the start of the run.
        what: for people.
    """

    step: int
    what: str


def find_in_files(
    lines: Sequence[MetricsLine], result: Mapping[str, Any], findings: Findings, result_step: int
) -> list[Difference]:
    """Where checkpoints and model.pt differ from what the run says: on every machine.

    Args:
        lines: the records of metrics.jsonl.
        result: the contents of result.json.
        findings: what is in the files.
        result_step: the step whose weights the result has.
    """
    states = {line.step: line for line in lines if isinstance(line, StateLine)}
    found = list(_compare_kept(states, findings.kept))
    if findings.model is not None and findings.model != result.get("weights_sha256"):
        found.append(Difference(result_step, "model.pt holds other weights than result.json says, or is damaged"))
    return sorted(found, key=lambda each: each.step)


def find_in_training(
    segments: Sequence[Segment],
    lines: Sequence[MetricsLine],
    result: Mapping[str, Any],
    findings: Findings,
    result_step: int,
) -> list[Difference]:
    """Where the segments that were trained again differ from what the run says, the first step first.

    Args:
        segments: what was trained again.
        lines, result, result_step: as for `find_in_files`.
        findings: what came out.
    """

    def is_covered(step: int) -> bool:
        return any(each.first < step <= each.last for each in segments)

    # From a loss that is not finite on nothing was trained again; it may be noticed a step late.
    end = math.inf if findings.not_finite is None else findings.not_finite - 1
    covered = [line for line in lines if is_covered(line.step) and line.step < end]
    again = [line for line in findings.lines if is_covered(line["step"])]
    found = [
        *_compare_numbers([line for line in covered if isinstance(line, StepLine)], again),
        *_compare_states([line for line in covered if isinstance(line, StateLine)], findings),
    ]
    if findings.result is not None:
        found += _compare_result(result, findings, result_step)
    if findings.not_finite is not None:
        found.append(Difference(findings.not_finite, "the training loss is not a finite number"))
    return sorted(found, key=lambda each: each.step)


def _compare_kept(states: Mapping[int, StateLine], kept: Sequence[Kept]) -> Iterator[Difference]:
    last = states[max(states)].subject
    for each in kept:
        line = states.get(each.steps_done)
        if line is not None and line.subject == last and not each.resumes_optimizer:
            yield Difference(each.steps_done, f"{each.name} names another optimizer than the settings of the run")
        if each.damage:
            yield Difference(each.steps_done, each.damage)
        elif line is not None and each.state != line.state:
            yield Difference(each.steps_done, f"{each.name} holds another state than the chain says")


def _compare_numbers(lines: Sequence[StepLine], lines_again: Sequence[Mapping[str, Any]]) -> Iterator[Difference]:
    told: dict[tuple[Any, int], dict[str, Any]] = {}
    again = {(("kind", line["kind"]), line["step"]): line for line in lines_again}
    for line in lines:
        if (line.KEY, line.step) in told:
            yield Difference(line.step, "metrics.jsonl has two lines for this step")
        told[line.KEY, line.step] = covered_fields(line)
    for kind, step in told:
        if (kind, step) not in again:
            what = "the end of an epoch" if kind == EpochLine.KEY else "numbers"
            yield Difference(step, f"metrics.jsonl has a line for {what} where a run writes none")
    for key, fields in again.items():
        if key not in told:
            if key[0] == EpochLine.KEY:
                yield Difference(key[1], "metrics.jsonl has no line for the end of this epoch")
            continue
        for name in {**told[key], **fields}:
            if told[key].get(name) != fields.get(name):
                shown = f"{told[key].get(name)} in metrics.jsonl, {fields.get(name)} here"
                yield Difference(key[1], f"{name}: {shown}")


def _compare_states(lines: Sequence[StateLine], findings: Findings) -> Iterator[Difference]:
    kept = {each.steps_done: each for each in findings.kept}
    for line in lines:
        again = findings.states.get(line.step)
        epoch = (line.step - 1) // findings.num_steps + 1
        if line.epoch != epoch:
            yield Difference(line.step, f"the line of this state says epoch {line.epoch}, and it is epoch {epoch}")
        if again is None:
            yield Difference(line.step, "training again does not reach this state")
        if again is None or again["state"] == line.state:
            continue
        file = kept.get(line.step)
        parts = file.parts if file is not None and file.state == line.state else None
        names = [PARTS[name] for name in PARTS if parts is not None and parts.get(name) != again.get(name)]
        what = f"other {', '.join(names)}" if names else "another state"
        yield Difference(line.step, f"training again gives {what}")


def _compare_result(result: Mapping[str, Any], findings: Findings, step: int) -> Iterator[Difference]:
    assert findings.result is not None
    for name, value in findings.result.items():
        if result.get(name) != value:
            shown = f"{_short(result.get(name))} in result.json, {_short(value)} here"
            yield Difference(step, f"{name}: {shown}")


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:16]}…"
