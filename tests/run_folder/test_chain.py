"""The chain of a run's states: equal for equal numbers, and broken where something was changed."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Callable

import pytest

from signs_dist.run_folder.chain import check_chain, in_order, links, next_link
from signs_dist.run_folder.records import METRICS_KINDS, MetricsLine, StateLine, of_kind, parse_line, to_fields
from tests.lines import epoch_line, save_line, state_line, step_line

Lines = list[MetricsLine]


def make_lines(**measured: float) -> Lines:
    """Three epochs of 4 steps, with a line each second step, and a save by steps at 6."""
    lines: Lines = []
    for step in range(2, 13, 2):
        make = step_line if step % 4 else epoch_line
        lines += [make(step, epoch=(step + 3) // 4, train_loss=1 / step, **measured), save_line(step)]
        if step in (4, 6, 8, 12):
            lines.append(next_link(lines, state_line(step, epoch=(step + 3) // 4)))
    return lines


def place_of(lines: Lines, kind: type[MetricsLine], step: int) -> int:
    return next(n for n, line in enumerate(lines) if isinstance(line, kind) and line.step == step)


def changed(kind: type[MetricsLine], step: int, **values: object) -> Callable[[Lines], object]:
    def change(lines: Lines) -> None:
        number = place_of(lines, kind, step)
        lines[number] = dataclasses.replace(lines[number], **values)  # type: ignore[arg-type]

    return change


def without(kind: type[MetricsLine], step: int) -> Callable[[Lines], object]:
    return lambda lines: lines.pop(place_of(lines, kind, step))


STEP, EPOCH, STATE = (type(line) for line in (step_line(1), epoch_line(1), state_line(1)))
BREAK = "step {}: the chain breaks, the numbers or the state after step {}, up to step {}, differ from what was written"
FIRST = "step 4: the chain breaks, the numbers or the state up to step 4 differ from what was written"
LATER = BREAK.format(6, 4, 6)


@pytest.mark.parametrize(
    ("change", "problems"),
    [
        (lambda lines: None, []),
        (lambda lines: random.Random(1).shuffle(lines), []),
        (changed(STEP, 6, images_per_second=9.0, data_wait_share=0.5), []),
        (changed(STEP, 2, train_loss=0.5000000000000001), [FIRST]),
        (changed(EPOCH, 4, val_accuracy=0.99), [FIRST]),
        (changed(STEP, 6, lr=0.2), [LATER]),
        (changed(EPOCH, 12, images=9), [BREAK.format(12, 8, 12)]),
        (without(STEP, 6), [LATER]),
        (without(STATE, 6), [BREAK.format(8, 4, 8)]),
        (without(STATE, 12), ["step 12: an epoch ended, and no line tells of its state"]),
        (changed(STATE, 6, state="f" * 64), [LATER]),
        (changed(STATE, 6, subject="f" * 64), [LATER]),
        (changed(STATE, 6, epoch=1), [LATER]),
        (changed(STATE, 6, chain="f" * 64), [LATER, BREAK.format(8, 6, 8)]),
        (
            changed(STATE, 6, since=2),
            ["step 6: the chain breaks, the numbers or the state up to step 6 differ from what was written"],
        ),
        (
            lambda lines: lines.append(lines[place_of(lines, STATE, 6)]),
            ["step 6: two lines tell of its state", BREAK.format(6, 6, 6)],
        ),
    ],
)
def test_a_change_is_named_where_it_is(change: Callable[[Lines], object], problems: list[str]) -> None:
    lines = make_lines()
    change(lines)
    assert check_chain(lines) == problems


def test_equal_numbers_have_equal_chains_whatever_was_measured() -> None:
    one, other = (
        of_kind(make_lines(images_per_second=speed, data_wait_share=0.1), StateLine) for speed in (10.0, 20.0)
    )
    assert one == other
    assert len({line.chain for line in one}) == 4


def test_lines_that_were_read_back_are_the_lines_that_were_written() -> None:
    lines = [json.loads(json.dumps(to_fields(line))) for line in make_lines()]
    assert check_chain(line for each in lines if (line := parse_line(each, METRICS_KINDS)) is not None) == []


def test_a_link_covers_the_lines_since_the_state_before() -> None:
    found = [
        (each.line.step, each.previous and each.previous.step, [m.step for m in each.metrics])
        for each in links(make_lines())
    ]
    assert found == [(4, None, [2, 4]), (6, 4, [6]), (8, 6, [8]), (12, 8, [10, 12])]


def test_a_late_line_of_a_state_comes_to_its_step() -> None:
    lines = make_lines()
    late = lines.pop(place_of(lines, StateLine, 4))
    assert in_order([*lines, late]) == in_order(make_lines())
    lines = [line for line in lines if not isinstance(line, StateLine) or line.step < 6]
    assert next_link(lines, state_line(4)).chain == late.chain  # type: ignore[union-attr]


def test_a_state_has_one_line() -> None:
    with pytest.raises(AssertionError, match="step 12 has the line of its state"):
        next_link(make_lines(), state_line(12))


def test_a_chain_may_begin_within_a_run() -> None:
    lines: Lines = [step_line(1), epoch_line(4)]
    first = next_link(lines, state_line(4, since=4))
    lines += [first, epoch_line(8)]
    lines.append(next_link(lines, state_line(8)))
    assert check_chain(lines) == []
    assert check_chain([lines[0], epoch_line(4, train_loss=0.1), *lines[2:]]) == []  # before the chain
    assert check_chain([*lines[:3], epoch_line(8, train_loss=0.1), lines[4]]) == [BREAK.format(8, 4, 8)]
    again = [*lines, next_link(lines, state_line(9, since=9))]  # after steps of a run that was not exact
    assert check_chain(again) == []


def test_states_and_subject_are_compared_with_the_lines() -> None:
    lines = make_lines()
    states = {line.step: line.state for line in of_kind(lines, StateLine)}
    assert check_chain(lines, states={**states, 9: "0" * 64}, subject="5" * 64) == []
    problems = check_chain(lines, states={**states, 6: "f" * 64}, subject="4" * 64)
    assert problems == [
        "step 6: the checkpoint's state is ffffffffffff, and the chain has 000000000000",
        "step 12: config, data and code now are 444444444444, and the chain has 555555555555",
    ]


def test_a_run_without_a_chain_has_no_broken_one() -> None:
    assert check_chain([step_line(1), epoch_line(4), save_line(4)], subject="5" * 64) == []
