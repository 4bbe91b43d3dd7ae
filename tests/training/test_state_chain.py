"""Which states of an exact run get a line, when, and what a kill leaves to be mended."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from signs_dist.checkpointing.state_digest import state_sha256
from signs_dist.checkpointing.store import Cursor, read_checkpoint
from signs_dist.errors import SaveError
from signs_dist.run_folder.chain import check_chain
from signs_dist.run_folder.records import StateLine, of_kind
from signs_dist.run_folder.subject import Subject
from signs_dist.training.earlier_attempt import EarlierAttempt
from signs_dist.training.run_state import make_run_state
from signs_dist.training.state_chain import StateChain, has_line, make_chain
from tests.checkpointing.contents import make_content
from tests.lines import epoch_line, step_line
from tests.training.parts import Made, make_trainer, shown

SUBJECT = Subject(config="a" * 64, data="b" * 64, code="c" * 64)
OTHER = dataclasses.replace(SUBJECT, config="d" * 64)
NUM_STEPS = 4


@pytest.mark.parametrize(
    ("cursor", "every", "expected"),
    [
        (Cursor(0, 0), 2, False),  # nothing is trained
        (Cursor(1, 0), None, True),
        (Cursor(3, 0), 5, True),
        (Cursor(1, 2), None, False),  # saved by time or at a signal
        (Cursor(1, 2), 3, True),
        (Cursor(1, 1), 3, False),
        (Cursor(1, 4), 4, False),  # before the validation at the end of the epoch
    ],
)
def test_a_state_gets_a_line_by_its_place(cursor: Cursor, every: int | None, expected: bool) -> None:
    steps_done = cursor.epoch * NUM_STEPS + cursor.step
    assert has_line(cursor, steps_done, every_steps=every, num_steps=NUM_STEPS) is expected


def make_made(folder: Path, *settings: str, run: str = "run") -> Made:
    return make_trainer(folder, "checkpoint.every_steps=2", *settings, run=run)


def begin(made: Made, earlier: EarlierAttempt | None = None, subject: Subject = SUBJECT) -> StateChain:
    chain = make_chain(made.folder, subject, every_steps=2, num_steps=NUM_STEPS)
    assert chain is not None
    chain.begin(earlier or EarlierAttempt(), made.run_state)
    made.saver.begin({"subject": subject.as_dict()}, earlier.path if earlier is not None else None, chain)
    return chain


def go_to(made: Made, epoch: int, step: int) -> None:
    """Train to a place: the weights change, and metrics.jsonl gets a line, which is covered."""
    with torch.no_grad():
        next(made.stepper.state.model.parameters()).add_(1.0)
    made.run_state.cursor = Cursor(epoch, step)
    line = (step_line if step else epoch_line)(made.run_state.steps_done)
    made.folder.add(line)
    made.saver.cover(line)


def save(made: Made) -> None:
    made.saver.save(made.run_state, made.stepper)
    made.saver.wait()


def state_lines(made: Made) -> list[StateLine]:
    return of_kind(made.folder.read_metrics(), StateLine)


def earlier_of(made: Made, **changes: Any) -> EarlierAttempt:
    """The newest checkpoint of a run, as a resume takes it up."""
    path = made.saver.newest()
    assert path is not None
    return EarlierAttempt(True, path=path, content={**read_checkpoint(path), **changes})


def test_each_state_that_is_saved_at_its_place_gets_a_line(tmp_path: Path) -> None:
    made = make_made(tmp_path)
    begin(made)
    states = {}
    for place in (Cursor(0, 1), Cursor(0, 2), Cursor(0, 3), Cursor(1, 0), Cursor(1, 2)):
        go_to(made, place.epoch, place.step)
        save(made)
        states[made.run_state.steps_done] = state_sha256(read_checkpoint(made.saver.newest()))  # type: ignore[arg-type]
    lines = state_lines(made)
    assert [(line.epoch, line.step, line.since) for line in lines] == [(1, 2, None), (1, 4, None), (2, 6, None)]
    assert [line.state for line in lines] == [states[2], states[4], states[6]]
    assert {line.subject for line in lines} == {SUBJECT.sha256}
    assert check_chain(made.folder.read_metrics(), states=states, subject=SUBJECT.sha256) == []


def test_a_run_without_a_chain_has_no_lines(tmp_path: Path) -> None:
    made = make_made(tmp_path)
    assert make_chain(made.folder, None, every_steps=2, num_steps=NUM_STEPS) is None
    made.folder.is_writer = False
    assert make_chain(made.folder, SUBJECT, every_steps=2, num_steps=NUM_STEPS) is None
    made.folder.is_writer = True
    made.saver.begin({})
    go_to(made, 1, 0)
    save(made)
    assert state_lines(made) == []


def test_the_line_is_added_by_the_training_thread_without_a_wait(tmp_path: Path) -> None:
    made = make_made(tmp_path)
    chain = begin(made)
    go_to(made, 1, 0)
    content = chain.watch(make_content(1), made.run_state)
    chain.add_line()
    assert state_lines(made) == []  # its digest is not known yet
    chain.hash_state()
    chain.hash_state()
    chain.add_line()
    chain.add_line()
    assert [line.state for line in state_lines(made)] == [state_sha256(content)]


def test_a_state_that_could_not_be_hashed_leaves_its_numbers_to_the_next_line(tmp_path: Path) -> None:
    made = make_made(tmp_path)
    chain = begin(made)
    for epoch in (1, 2):
        go_to(made, epoch, 0)
        chain.watch(make_content(epoch), made.run_state)
    chain.hash_state()
    chain.add_line()
    assert [line.step for line in state_lines(made)] == [8]
    assert check_chain(made.folder.read_metrics()) == []


def fail(*arguments: Any) -> int:
    raise SaveError("no space left.")


def test_a_save_that_failed_leaves_the_line_of_its_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, failed = make_made(tmp_path, run="whole"), make_made(tmp_path, "checkpoint.on_error=warn", run="failed")
    for made in (whole, failed):
        begin(made)
        go_to(made, 1, 0)
        if made is failed:
            monkeypatch.setattr(failed.saver.store, "write", fail)
        save(made)
    assert "Training continues without this checkpoint" in shown(failed.process)
    assert failed.saver.newest() is None
    assert state_lines(failed) == state_lines(whole) != []


@pytest.mark.parametrize(
    ("places", "missing"),
    [
        ([Cursor(0, 2), Cursor(1, 0)], 4),
        ([Cursor(0, 2)], 2),  # the first line of the run
        ([Cursor(1, 0), Cursor(1, 2)], 6),
    ],
)
def test_a_line_that_a_kill_left_out_is_added_by_the_next_attempt(
    tmp_path: Path, places: list[Cursor], missing: int
) -> None:
    whole, killed = make_made(tmp_path, run="whole"), make_made(tmp_path, run="killed")
    for made in (whole, killed):
        begin(made)
        for place in places:
            go_to(made, place.epoch, place.step)
            save(made)
    killed.folder.keep_lines(killed.folder.metrics, lambda line: (line["kind"], line["step"]) != ("state", missing))
    assert state_lines(killed) == state_lines(whole)[:-1]
    again = make_made(tmp_path, run="killed")
    again.run_state.cursor = places[-1]
    begin(again, earlier_of(killed), OTHER)  # a change that was accepted counts from here on
    assert state_lines(again) == state_lines(whole)
    begin(again, earlier_of(killed), OTHER)  # nothing is missing now
    save(again)  # of the same place
    assert state_lines(again) == state_lines(whole)
    go_to(again, 3, 0)
    save(again)
    assert [line.subject for line in state_lines(again)] == [*(SUBJECT.sha256 for _ in places), OTHER.sha256]
    assert check_chain(again.folder.read_metrics()) == []


def test_a_state_that_was_saved_by_time_gets_no_line_at_a_resume(tmp_path: Path) -> None:
    made = make_made(tmp_path)
    begin(made)
    go_to(made, 0, 3)
    save(made)
    again = make_made(tmp_path)
    again.run_state.cursor = Cursor(0, 3)
    begin(again, earlier_of(made))
    assert state_lines(again) == []
    go_to(again, 1, 0)
    save(again)
    assert check_chain(again.folder.read_metrics()) == []
    assert check_chain([step_line(3, lr=0.7), *again.folder.read_metrics()[1:]]) != []  # it covers the line before


@pytest.mark.parametrize("about", [{}, {"subject": {"config": "torn"}}])
def test_the_chain_begins_where_an_earlier_release_was_resumed(tmp_path: Path, about: Mapping[str, Any]) -> None:
    made = make_made(tmp_path)
    made.saver.begin({})
    go_to(made, 0, 3)
    save(made)
    for _ in range(2):  # the second attempt finds the line of the first
        again = make_made(tmp_path)
        again.run_state.cursor = Cursor(0, 3)
        begin(again, earlier_of(made, run=about))
    (line,) = state_lines(again)
    assert (line.step, line.since, line.subject) == (3, 3, SUBJECT.sha256)
    assert line.state == state_sha256(read_checkpoint(made.saver.newest()))  # type: ignore[arg-type]
    go_to(again, 1, 0)
    save(again)
    lines = again.folder.read_metrics()
    assert check_chain(lines) == []
    assert check_chain([step_line(3, lr=0.7), *lines[1:]]) == []  # it does not cover the line before


def test_the_numbers_of_the_run_are_those_of_its_lines(tmp_path: Path) -> None:
    made = make_made(tmp_path)
    begin(made)
    made.trainer.train(0.0)
    lines = made.folder.read_metrics()
    assert [line.step for line in of_kind(lines, StateLine)] == [2, 4, 6, 8]
    assert check_chain(lines) == []
    raw = [json.loads(line) for line in made.folder.metrics.read_text().splitlines()]
    assert list(next(line for line in raw if line["kind"] == "state")) == (
        ["kind", "epoch", "step", "state", "chain", "subject"]
    )
    assert make_run_state(made.stepper.prepared).steps_done == 0
