"""The chain of an exact run: each state's line covers the line before it, and the numbers between the two.

Equal runs have equal chains, on any number of processes. A changed number breaks the chain where it is, and a deleted
line of a state breaks it at the next. A chain that was made again from there on is whole: it says that a run
folder agrees with itself. That the training gives these states is shown by training again, as `prove` does.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from signs_dist.run_folder.records import MEASURED, EpochLine, MetricsLine, SaveLine, StateLine, StepLine, to_fields

RECIPE = "signs_dist chain 1"
"""The first text that each digest covers: it changes with what a chain covers."""
_ORDER: Mapping[type[MetricsLine], int] = {StepLine: 0, EpochLine: 0, StateLine: 1, SaveLine: 2}


@dataclasses.dataclass(frozen=True)
class Link:
    """A line of a state, and what it covers.

    Attributes:
        line: of the state.
        previous: the line of the state before, from which the chain goes on; None where a chain begins.
        metrics: the lines between the two states.
    """

    line: StateLine
    previous: StateLine | None
    metrics: Sequence[StepLine]

    @property
    def chain(self) -> str:
        """The digest that the line should have."""
        return chain_sha256(self.previous.chain if self.previous is not None else "", self.line, self.metrics)


def chain_sha256(previous: str, line: StateLine, metrics: Iterable[StepLine]) -> str:
    """The digest (hex) of a state's line over all fields but `chain`, over the state before, and the lines between.

    Args:
        previous: `chain` of the line of the state before; "" where a chain begins.
        line: its `chain` is not read.
        metrics: the lines of steps and epochs between the two states, in their order. Measured times are omitted.
    """
    fields = {name: value for name, value in to_fields(line).items() if name != "chain"}
    covered = [RECIPE, previous, fields, [covered_fields(each) for each in metrics]]
    text = json.dumps(covered, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def covered_fields(line: StepLine) -> dict[str, Any]:
    """The fields of a line that an exact run repeats."""
    return {name: value for name, value in to_fields(line).items() if name not in MEASURED}


def in_order(lines: Iterable[MetricsLine]) -> list[MetricsLine]:
    """The lines of metrics.jsonl by steps. A state's line is written when its file is whole: it may come late."""
    return sorted(lines, key=lambda line: (line.step, _ORDER[type(line)]))


def links(lines: Iterable[MetricsLine]) -> Iterator[Link]:
    """The line of each state with what it covers, in the order of steps.

    Args:
        lines: the records of metrics.jsonl.
    """
    previous: StateLine | None = None
    between: list[StepLine] = []
    for line in in_order(lines):
        if isinstance(line, StepLine):
            between.append(line)
        elif isinstance(line, StateLine):
            begins = line.since is not None
            after = line.since or 0
            metrics = [each for each in between if not begins or each.step > after]
            yield Link(line, None if begins else previous, metrics)
            previous, between = line, []


def next_link(lines: Iterable[MetricsLine], line: StateLine) -> StateLine:
    """`line` with its `chain`, where it is the next line of a state.

    Args:
        lines: the records of metrics.jsonl. Those of later steps are not covered.
        line: its `chain` is not read.
    """
    earlier = [each for each in lines if each.step <= line.step]
    if any(isinstance(each, StateLine) and each.step == line.step for each in earlier):
        raise AssertionError(f"step {line.step} has the line of its state")
    *_, last = links([*earlier, line])
    return dataclasses.replace(line, chain=last.chain)


def check_chain(
    lines: Iterable[MetricsLine],
    *,
    states: Mapping[int, str] | None = None,
    subject: str | None = None,
) -> list[str]:
    """What is wrong with the chain of a run, a line each, the first step first; empty if it is whole.

    After a break the chain is followed from the line as it stands, so that each break is named once.

    Args:
        lines: the records of metrics.jsonl.
        states: steps done → `state_sha256` of the checkpoint there, to compare with the lines; None: not compared.
        subject: `Subject.sha256` of config, data and code as they are now, to compare with the last line; None: not
            compared.
    """
    records = list(lines)
    problems: list[str] = []
    found: dict[int, StateLine] = {}
    for link in links(records):
        line, number = link.line, link.line.step
        if number in found:
            problems.append(f"step {number}: two lines tell of its state")
        if link.chain != line.chain:
            problems.append(f"step {number}: the chain breaks, {_what_is_covered(link)} differ from what was written")
        if states is not None and number in states and states[number] != line.state:
            told = f"the checkpoint's state is {states[number][:12]}, and the chain has {line.state[:12]}"
            problems.append(f"step {number}: {told}")
        found[number] = line
    uncovered = [each for each in records if isinstance(each, EpochLine) and each.step > max(found, default=-1)]
    if found and uncovered:
        problems.append(f"step {uncovered[0].step}: an epoch ended, and no line tells of its state")
    if found and subject is not None and found[max(found)].subject != subject:
        told = f"config, data and code now are {subject[:12]}, and the chain has {found[max(found)].subject[:12]}"
        problems.append(f"step {max(found)}: {told}")
    return problems


def _what_is_covered(link: Link) -> str:
    if link.previous is None:
        return f"the numbers or the state up to step {link.line.step}"
    return f"the numbers or the state after step {link.previous.step}, up to step {link.line.step},"
